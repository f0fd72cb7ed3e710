//! What is known of an instance: read whole, in one statement, so that it is of one
//! moment, with a lock or without.

use crate::Error;
use crate::saga::UnfinishedSaga;
use crate::sql::{clock_timestamp, one_of};
use chrono::{DateTime, Utc};
use db_model::lifecycle::Facts;
use db_model::schema::{instance, saga, start_attempt, vmm};
use db_model::{Instance, InstanceId, SledId, StartAttempt, Vmm, VmmId};
use diesel::result::Error as DieselError;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl,
    NullableExpressionMethods, OptionalExtension, PgConnection, QueryDsl,
    RunQueryDsl, SelectableHelper,
};
use std::collections::HashMap;

/// An instance's facts, and the saga that is at work on it.
pub(crate) type Known = (Facts, Option<UnfinishedSaga>);

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
                saga::table.on(saga::instance_id
                    .eq(instance::id)
                    .and(saga::time_ended.is_null())),
            )
            .select((
                Instance::as_select(),
                clock_timestamp(),
                Option::<StartAttempt>::as_select(),
                Option::<Vmm>::as_select(),
                Option::<UnfinishedSaga>::as_select(),
            ))
    };
}

/// What is known of this instance.
///
/// # Errors
///
/// `NotFound`.
pub(crate) fn read(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<Known, Error> {
    let rows = rows!().filter(instance::id.eq(id)).load(conn)?;
    gathered(conn, rows)
}

/// What is known of those of these that are there.
pub(crate) fn read_all(
    conn: &mut PgConnection,
    ids: &[InstanceId],
) -> Result<HashMap<InstanceId, Known>, Error> {
    let these = one_of(instance::id, ids.iter().copied());
    let rows = rows!().filter(these).load(conn)?;
    of_each(conn, rows)
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

/// Locks those of these instances that nobody else has locked; which they are.
pub(crate) fn lock_free(
    conn: &mut PgConnection,
    ids: &[InstanceId],
) -> Result<Vec<InstanceId>, Error> {
    Ok(instance::table
        .filter(one_of(instance::id, ids.iter().copied()))
        .select(instance::id)
        .for_update()
        .skip_locked()
        .load(conn)?)
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

/// The same of these VMMs: of those of them that are linked, or have not ended.
pub(crate) fn read_by_vmms(
    conn: &mut PgConnection,
    these: &[(VmmId, SledId)],
) -> Result<HashMap<VmmId, Facts>, Error> {
    let asked = diesel::alias!(db_model::schema::vmm as asked);
    let of = asked
        .filter(one_of(asked.field(vmm::id), these.iter().map(|(id, _)| *id)))
        .select(asked.field(vmm::instance_id));
    let rows = rows!().filter(instance::id.eq_any(of)).load(conn)?;
    let known = of_each(conn, rows)?;
    let mut found = HashMap::new();
    for (facts, _) in known.into_values() {
        let vmms = facts.vmms.iter().map(|vmm| (vmm.id, vmm.sled_id));
        let asked: Vec<_> = vmms.filter(|one| these.contains(one)).collect();
        found.extend(asked.into_iter().map(|(id, _)| (id, facts.clone())));
    }
    Ok(found)
}

fn of_each(
    conn: &mut PgConnection,
    rows: Vec<Row>,
) -> Result<HashMap<InstanceId, Known>, Error> {
    let mut of_each: HashMap<InstanceId, Vec<Row>> = HashMap::new();
    for row in rows {
        of_each.entry(row.0.id).or_default().push(row);
    }
    of_each
        .into_iter()
        .map(|(id, rows)| Ok((id, gathered(conn, rows)?)))
        .collect()
}

fn gathered(conn: &mut PgConnection, rows: Vec<Row>) -> Result<Known, Error> {
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
