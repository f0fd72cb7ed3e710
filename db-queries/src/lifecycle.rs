//! The transaction in which every change of an instance is made: lock, read
//! the facts, decide (purely), write.

use crate::sql::sql;
use crate::{
    AttemptEnded, DataStore, Error, Work, affinity_group, disk, reservation,
    ssh_key,
};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, Facts, ReservationFate};
use db_model::schema::{instance, start_attempt, vmm};
use db_model::{
    Fence, Instance, InstanceId, InstanceState, StartAttempt, StartReason, Vmm,
};
use diesel::result::Error as DieselError;
use diesel::sql_types::Timestamptz;
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    SelectableHelper,
};

impl DataStore {
    /// One transaction: the instance is locked, `decide` is given its facts
    /// and says what is written. A saga's transaction checks its fence first.
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
        self.change(fence, move |conn| {
            let (changes, answer) = change(conn, id, &mut decide)?;
            Ok((changes, Work::Written(answer)))
        })
        .await
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
        self.change(fence, move |conn| {
            let (changes, answer) = change(conn, id, |_, facts| decide(facts))?;
            let work = match changes.is_empty() {
                true => Work::Nothing(answer),
                false => Work::Written(answer),
            };
            Ok((changes, work))
        })
        .await
    }

    async fn change<T, F>(
        &self,
        fence: Option<Fence>,
        mut work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<(Changes, Work<T>), Error>
            + Send
            + 'static,
    {
        let work = move |conn: &mut PgConnection| {
            let (changes, work) = work(conn)?;
            let ended = changes.attempt.as_ref().and_then(AttemptEnded::of);
            Ok(match work {
                Work::Written(answer) => Work::Written((answer, ended)),
                Work::Nothing(answer) => Work::Nothing((answer, ended)),
            })
        };
        let (answer, ended) = match fence {
            Some(fence) => self.fenced_of(fence, work).await?,
            None => self.transaction_of(work).await?,
        };
        // Only a pending attempt is ever written, so it ended just now.
        if let Some(ended) = ended {
            self.attempts_ended().get_or_create(&ended).inc();
        }
        Ok(answer)
    }
}

/// What is done within such a transaction: the instance is locked, `decide` is
/// given its facts, and what it says is written.
pub(crate) fn change<T>(
    conn: &mut PgConnection,
    id: InstanceId,
    decide: impl FnOnce(&mut PgConnection, &Facts) -> Result<(Changes, T), Error>,
) -> Result<(Changes, T), Error> {
    let facts = lock(conn, id)?;
    let (changes, answer) = decide(conn, &facts)?;
    write(conn, &facts, &changes)?;
    Ok((changes, answer))
}

/// Locks the instance and reads its facts.
pub(crate) fn lock(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<Facts, Error> {
    let (instance, now) = instance::table
        .find(id)
        .select((
            Instance::as_select(),
            sql::<Timestamptz>("clock_timestamp()"),
        ))
        .for_update()
        .first(conn)?;
    read_rest(conn, instance, now)
}

/// Reads what belongs to an instance: while it is locked, or in a snapshot.
pub(crate) fn read_rest(
    conn: &mut PgConnection,
    instance: Instance,
    now: DateTime<Utc>,
) -> Result<Facts, Error> {
    let vmms = vmm::table
        .filter(vmm::instance_id.eq(instance.id))
        .filter(vmm::time_ended.is_null())
        .select(Vmm::as_select())
        .load(conn)?;
    let mut facts = Facts { attempt: None, vmms, instance, now };
    if let Some(active) = facts.instance.active_vmm_id
        && facts.vmm(active).is_none()
    {
        let linked =
            vmm::table.find(active).select(Vmm::as_select()).first(conn);
        facts.vmms.push(linked_to(linked)?);
    }
    if let Some(pending) = facts.instance.pending_start_attempt_id {
        let attempt = start_attempt::table
            .find(pending)
            .select(StartAttempt::as_select())
            .first(conn);
        facts.attempt = Some(linked_to(attempt)?);
    }
    Ok(facts)
}

/// A link that leads nowhere is our fault, and no "not found".
fn linked_to<T>(row: QueryResult<T>) -> Result<T, Error> {
    row.map_err(|error| {
        if matches!(error, DieselError::NotFound) {
            Error::Internal(error)
        } else {
            error.into()
        }
    })
}

/// Writes a transition's changes.
fn write(
    conn: &mut PgConnection,
    facts: &Facts,
    changes: &Changes,
) -> Result<(), Error> {
    if let Some(row) = &changes.attempt {
        diesel::update(start_attempt::table.find(row.id))
            .set(row)
            .execute(conn)?;
    }
    if let Some(row) = &changes.new_attempt {
        diesel::insert_into(start_attempt::table).values(row).execute(conn)?;
    }
    if let Some((row, _)) = &changes.new_vmm {
        diesel::insert_into(vmm::table).values(row).execute(conn)?;
    }
    if let Some(row) = &changes.vmm {
        diesel::update(vmm::table.find(row.id)).set(row).execute(conn)?;
    }
    if let Some(row) = &changes.instance {
        diesel::update(instance::table.find(row.id)).set(row).execute(conn)?;
        if facts.instance.time_deleted.is_none() && row.time_deleted.is_some() {
            deleted(conn, &facts.instance)?;
        }
    }
    // What many share is taken last, and so is held for the shortest time.
    if let Some((_, held)) = &changes.new_vmm {
        reservation::reserve(conn, &facts.instance, held)?;
        let attempt = changes.attempt.as_ref();
        if attempt.is_some_and(|a| a.reason == StartReason::AutoRestart) {
            reservation::wake_who_is_next(conn, held)?;
        }
    }
    match changes.reservation {
        Some((vmm, ReservationFate::Release)) => {
            reservation::release(conn, vmm)
        }
        Some((vmm, ReservationFate::Abandon)) => {
            reservation::abandon(conn, vmm)
        }
        None => Ok(()),
    }
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
