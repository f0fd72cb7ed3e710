//! The transaction in which every change of an instance is made: lock, read
//! the facts, decide (purely), write. The server is asked once for each, and once
//! to commit.

use crate::reservation::Taking;
use crate::saga::{self, NewSaga, Record, UnfinishedSaga};
use crate::sql::{Keep, sql};
use crate::together::Together;
use crate::{
    AttemptEnded, DataStore, Error, Work, affinity_group, commit_with, disk,
    fence, reservation, ssh_key,
};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, Facts, ReservationFate, steps};
use db_model::schema::{instance, saga as saga_table, start_attempt, vmm};
use db_model::{
    Fence, Instance, InstanceId, InstanceState, SledId, StartAttempt,
    StartAttemptId, StartReason, Vmm, VmmId,
};
use diesel::connection::SimpleConnection;
use diesel::result::Error as DieselError;
use diesel::sql_types::Timestamptz;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl,
    NullableExpressionMethods, OptionalExtension, PgConnection, QueryDsl,
    RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// One transaction: the instance is locked, `decide` is given its facts
    /// and says what is written. A saga's transaction writes, or is refused, only
    /// if the saga is still this process's.
    ///
    /// # Errors
    ///
    /// `NotFound`; what `decide` returns; `NoRoom` when a new VMM's sled has
    /// none any more; `Fenced`. Nothing is written then.
    pub(crate) async fn lifecycle<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection, &Facts) -> Result<(Changes, T), Error>
            + Send
            + 'static,
    {
        let decide = move |conn: &mut PgConnection, facts: &Facts, _: bool| {
            decide(conn, facts)
        };
        self.change(fence, id, true, decide).await
    }

    /// The same of what writes nothing but what is decided by the facts, and
    /// nothing at all if that is nothing.
    ///
    /// # Errors
    ///
    /// As those of `lifecycle`.
    pub(crate) async fn transition<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&Facts) -> Result<(Changes, T), Error> + Send + 'static,
    {
        self.transition_beside(fence, id, move |facts, _| decide(facts)).await
    }

    /// The same, where `decide` is told, too, whether a saga is at work on the
    /// instance.
    ///
    /// # Errors
    ///
    /// As those of `lifecycle`.
    pub(crate) async fn transition_beside<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&Facts, bool) -> Result<(Changes, T), Error> + Send + 'static,
    {
        let decide =
            move |_: &mut PgConnection, facts: &Facts, saga_at_work: bool| {
                decide(facts, saga_at_work)
            };
        self.change(fence, id, false, decide).await
    }

    /// `writes`: `decide` may write of its own accord.
    async fn change<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        writes: bool,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(
                &mut PgConnection,
                &Facts,
                bool,
            ) -> Result<(Changes, T), Error>
            + Send
            + 'static,
    {
        let owed = fence.map(|fence| (fence, self.owed.of(fence)));
        let count = owed.as_ref().map(|(fence, owed)| (*fence, owed.len()));
        let change = move |conn: &mut PgConnection| {
            let with = match &owed {
                Some((fence, owed)) => With::Owed(fence, owed),
                None => With::Nothing,
            };
            let decided = read(conn, id).and_then(|(facts, saga)| {
                let decided = decide(conn, &facts, saga.is_some())?;
                Ok((facts, decided))
            });
            let (facts, (changes, answer)) = match decided {
                Ok(decided) => decided,
                Err(error) => return Err(with.refused(conn, error)),
            };
            let ended = changes.attempt.as_ref().and_then(AttemptEnded::of);
            let answer = (answer, ended);
            if writes || !changes.is_empty() {
                return write(conn, &with, &facts, &changes, answer);
            }
            match with {
                With::Owed(fence, []) => fence::check(conn, fence)?,
                With::Owed(fence, owed) => {
                    saga::record(conn, fence, owed)?;
                    return Ok(Work::Written(answer));
                }
                With::Nothing | With::Saga(_) => (),
            }
            Ok(Work::Nothing(answer))
        };
        let (answer, ended) = self.locked_of(id, change).await?;
        if let Some((fence, count)) = count {
            self.owed.paid(fence, count);
        }
        // Only a pending attempt is ever written, so it ended just now.
        if let Some(ended) = ended {
            self.attempts_ended().get_or_create(&ended).inc();
        }
        Ok(answer)
    }

    /// A new saga of an instance that is there, which takes the attempt, all or
    /// nothing. Idempotent by id.
    ///
    /// # Errors
    ///
    /// `SagaUnfinished`: another is at work on the instance; `Refused`: see
    /// [`steps::claim`].
    pub(crate) async fn saga_insert_with(
        &self,
        new: NewSaga,
        attempt: StartAttemptId,
    ) -> Result<(), Error> {
        self.locked_of(new.instance_id, move |conn| {
            let (facts, unfinished) = read(conn, new.instance_id)?;
            match unfinished {
                Some(there) if there.id == new.id => {
                    return Ok(Work::Nothing(()));
                }
                Some(_) => return Err(Error::SagaUnfinished),
                None => (),
            }
            let changes = steps::claim(&facts, attempt, new.id)?;
            write(conn, &With::Saga(&new), &facts, &changes, ())
        })
        .await
    }
}

/// What instances are read by, with all that belongs to them.
type Row = (
    Instance,
    DateTime<Utc>,
    Option<StartAttempt>,
    Option<Vmm>,
    Option<UnfinishedSaga>,
);

/// The statement that reads them.
macro_rules! rows {
    () => {
        instance::table
            .left_join(
                start_attempt::table.on(instance::pending_start_attempt_id
                    .eq(start_attempt::id.nullable())),
            )
            .left_join(
                vmm::table.on(vmm::instance_id
                    .eq(instance::id)
                    .and(vmm::time_ended.is_null())),
            )
            .left_join(
                saga_table::table.on(saga_table::instance_id
                    .eq(instance::id)
                    .and(saga_table::time_ended.is_null())),
            )
            .select((
                Instance::as_select(),
                sql::<Timestamptz>("clock_timestamp()"),
                Option::<StartAttempt>::as_select(),
                Option::<Vmm>::as_select(),
                Option::<UnfinishedSaga>::as_select(),
            ))
    };
}

/// An instance's facts, and the saga that is at work on it, in one statement: so
/// they are of one moment, with a lock or without.
pub(crate) fn read(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<(Facts, Option<UnfinishedSaga>), Error> {
    let rows = rows!().filter(instance::id.eq(id)).load(conn)?;
    gathered(conn, rows)
}

/// Locks the instance and reads its facts.
pub(crate) fn lock(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<Facts, Error> {
    let locked: InstanceId = instance::table
        .find(id)
        .select(instance::id)
        .for_update()
        .first(conn)?;
    // Not in one statement: it would read the rest as it was before it waited.
    Ok(read(conn, locked)?.0)
}

/// The facts of the instance whose VMM this is, on that sled.
///
/// # Errors
///
/// `NotFound`: this sled was never given such a VMM.
pub(crate) fn read_by_vmm(
    conn: &mut PgConnection,
    id: VmmId,
    sled: SledId,
) -> Result<Facts, Error> {
    let asked = diesel::alias!(db_model::schema::vmm as asked);
    let of = asked
        .filter(asked.field(vmm::id).eq(id))
        .filter(asked.field(vmm::sled_id).eq(sled))
        .select(asked.field(vmm::instance_id));
    // Not as an array, which the server would plan anew each time.
    let is_of = instance::id.nullable().eq(of.single_value());
    let rows = rows!().filter(is_of).load(conn)?;
    Ok(gathered(conn, rows)?.0)
}

fn gathered(
    conn: &mut PgConnection,
    rows: Vec<Row>,
) -> Result<(Facts, Option<UnfinishedSaga>), Error> {
    let mut rows = rows.into_iter();
    let (instance, now, attempt, vmm, saga) =
        rows.next().ok_or(Error::NotFound)?;
    // There is a row for each VMM.
    let vmms = vmm.into_iter().chain(rows.filter_map(|(.., vmm, _)| vmm));
    let mut facts = Facts { instance, vmms: vmms.collect(), attempt, now };
    if let Some(active) = facts.instance.active_vmm_id
        && facts.vmm(active).is_none()
    {
        // It has ended, and so is the same at any later moment.
        let ended = vmm::table.find(active).select(Vmm::as_select());
        facts.vmms.push(linked(ended.first(conn).optional()?)?);
    }
    if facts.instance.pending_start_attempt_id.is_some() {
        linked(facts.attempt.as_ref())?;
    }
    Ok((facts, saga))
}

/// A link that leads nowhere is our fault, and no "not found".
fn linked<T>(row: Option<T>) -> Result<T, Error> {
    row.ok_or(Error::Internal(DieselError::NotFound))
}

/// With what a transition's changes are written.
pub(crate) enum With<'a> {
    /// Nothing else.
    Nothing,
    /// What a saga's log owes, if it is still this process's.
    Owed(&'a Fence, &'a [Record]),
    /// A new saga.
    Saga(&'a NewSaga),
}

impl<'a> With<'a> {
    fn add_to(&self, together: &mut Together<'a>) {
        match self {
            With::Nothing => (),
            With::Owed(fence, []) => together.lock(fence::lock(fence)),
            With::Owed(fence, owed) => together.add(saga::insert(fence, owed)),
            With::Saga(new) => together.add(new.insert()),
        }
    }

    /// What a saga is refused that is not ours any more, it is not to hear. (After
    /// an error of the server nothing can be asked, and nothing was refused.)
    fn refused(&self, conn: &mut PgConnection, error: Error) -> Error {
        match (self, error) {
            (_, error @ (Error::Internal(_) | Error::Unavailable(_))) => error,
            (With::Owed(fence, _), error) => {
                fence::check(conn, fence).err().unwrap_or(error)
            }
            (With::Nothing | With::Saga(_), error) => error,
        }
    }

    /// Checks the fence, unless as many rows were written as the log owes.
    fn check(
        &self,
        conn: &mut PgConnection,
        rows: Option<i64>,
    ) -> Result<(), Error> {
        let With::Owed(fence, owed) = self else { return Ok(()) };
        let rows = rows.and_then(|rows| usize::try_from(rows).ok());
        // Some were recorded before, or all is fenced off.
        if rows == Some(owed.len().max(1)) {
            return Ok(());
        }
        fence::check(conn, fence)
    }
}

/// Writes a transition's changes.
pub(crate) fn write<T>(
    conn: &mut PgConnection,
    with: &With<'_>,
    facts: &Facts,
    changes: &Changes,
    answer: T,
) -> Result<Work<T>, Error> {
    let mut together = Together::default();
    with.add_to(&mut together);
    if let Some(row) = &changes.attempt {
        let ended = diesel::update(start_attempt::table.find(row.id)).set(row);
        match changes.new_attempt {
            Some(_) => _ = ended.kept().execute(conn)?,
            None => together.add(ended),
        }
    }
    if let Some(row) = &changes.new_attempt {
        together.add(diesel::insert_into(start_attempt::table).values(row));
    }
    if let Some(row) = &changes.vmm {
        together.add(diesel::update(vmm::table.find(row.id)).set(row));
    }
    if let Some((row, _)) = &changes.new_vmm {
        together.add(diesel::insert_into(vmm::table).values(row));
    }
    if let Some(row) = &changes.instance {
        together.add(diesel::update(instance::table.find(row.id)).set(row));
    }
    if let Some((_, held)) = &changes.new_vmm {
        let (rows, taking) =
            reservation::reserve(conn, together, &facts.instance, held)?;
        with.check(conn, rows)?;
        return take(conn, &taking, changes, answer);
    }
    let rows = together.make(conn)?;
    with.check(conn, rows.first().copied())?;
    if let Some(row) = &changes.instance
        && facts.instance.time_deleted.is_none()
        && row.time_deleted.is_some()
    {
        deleted(conn, &facts.instance)?;
    }
    match changes.reservation {
        Some((vmm, ReservationFate::Release)) => {
            reservation::release(conn, vmm)?;
        }
        Some((vmm, ReservationFate::Abandon)) => {
            reservation::abandon(conn, vmm)?;
        }
        None => (),
    }
    Ok(Work::Written(answer))
}

/// Takes what many want some of, last, so that it is held for the shortest time.
fn take<T>(
    conn: &mut PgConnection,
    taking: &Taking<'_>,
    changes: &Changes,
    answer: T,
) -> Result<Work<T>, Error> {
    let attempt = changes.attempt.as_ref();
    let system = attempt.is_some_and(|a| a.reason == StartReason::AutoRestart);
    let statement = taking.statement();
    if let (true, Some((_, held))) = (system, &changes.new_vmm) {
        let taken = conn.batch_execute(&statement);
        taken.map_err(|error| Taking::refused(error.into()))?;
        reservation::wake_who_is_next(conn, held)?;
        return Ok(Work::Written(answer));
    }
    commit_with(conn, &statement).map_err(Taking::refused)?;
    Ok(Work::Committed(answer))
}

/// A deleted instance is in no group and has no disk and no key. What was made with it, if
/// it never came to be, goes with it.
fn deleted(conn: &mut PgConnection, was: &Instance) -> Result<(), Error> {
    affinity_group::leave_all(conn, was.id)?;
    if was.state == InstanceState::Creating {
        disk::delete_made_with(conn, was.id, was.time_created)?;
    }
    ssh_key::unlink_all(conn, was.id)?;
    disk::detach_all(conn, was.id)
}
