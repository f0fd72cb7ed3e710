//! Writing what transitions of instances change: all of them, whatever they are
//! and however many, in one statement, so that the server is asked once. (What is
//! seldom is asked for besides.)

use crate::fence::{self, Owes};
use crate::reservation::{self, Place, Taking};
use crate::saga::{self, NewSaga};
use crate::together::Together;
use crate::{Error, Work, affinity_group, disk, rows, ssh_key};
use db_model::lifecycle::{Changes, ReservationFate};
use db_model::{Instance, InstanceState, SledReservation, StartReason, Vmm};
use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::result::Error as DieselError;

/// What a transition writes, under the lock of its instance.
pub(crate) struct Write<'a> {
    /// The instance as it was.
    pub(crate) was: &'a Instance,
    pub(crate) changes: &'a Changes,
    /// A new saga that carries on from there.
    pub(crate) saga: Option<&'a NewSaga>,
    /// What the log of the saga owes whose transition it is, if that is still this
    /// process's.
    pub(crate) owes: Option<&'a Owes>,
    /// Where a new VMM of it is charged.
    pub(crate) place: Option<Place>,
}

impl<'a> Write<'a> {
    /// A new VMM, what it holds, and where that is charged.
    fn new_vmm(&self) -> Option<(&'a Vmm, &'a SledReservation, &Place)> {
        let (vmm, held) = self.changes.new_vmm.as_ref()?;
        Some((vmm, held, self.place.as_ref()?))
    }

    fn deletes(&self) -> bool {
        self.was.time_deleted.is_none()
            && self
                .changes
                .instance
                .as_ref()
                .is_some_and(|row| row.time_deleted.is_some())
    }

    /// A start of the system's own takes room.
    fn takes_for_system(&self) -> bool {
        let system =
            |a: &db_model::StartAttempt| a.reason == StartReason::AutoRestart;
        self.changes.new_vmm.is_some()
            && self.changes.attempt.as_ref().is_some_and(system)
    }

    /// Is it more than rows that this instance alone has, and room? Then it is not
    /// to be written with others: what they lock would have no order.
    pub(crate) fn is_alone(&self) -> bool {
        let Changes { attempt, new_attempt, reservation, .. } = self.changes;
        (attempt.is_some() && new_attempt.is_some())
            || reservation.is_some()
            || self.deletes()
            || self.takes_for_system()
            || self.place.as_ref().is_some_and(|p| p.has_groups || p.has_disks)
    }
}

/// Writes them, whole or not at all.
///
/// # Errors
///
/// `NoRoom`: a new VMM's sled has none any more; `Fenced`: one of them is a saga's
/// that is not this process's any more.
pub(crate) fn write(
    conn: &mut PgConnection,
    all: &[Write<'_>],
) -> Result<Work<()>, Error> {
    for Write { changes, .. } in all {
        if let (Some(ended), Some(_)) = (&changes.attempt, &changes.new_attempt)
        {
            // Only one can be pending, even for a moment.
            let mut before = Together::default();
            before.add(rows::update(&[ended])?);
            before.make(conn)?;
        }
    }
    let placed: Vec<_> = all.iter().filter_map(Write::new_vmm).collect();
    for (_, held, place) in &placed {
        reservation::groups_allow(conn, held, place)?;
    }
    let charged: Vec<_> = placed
        .iter()
        .map(|(_, held, place)| reservation::charged(held, place))
        .collect();
    let mut together = Together::default();
    let owes: Vec<_> = all.iter().filter_map(|one| one.owes).collect();
    if !owes.is_empty() {
        saga::write_owed(&mut together, &owes);
    }
    new_sagas(&mut together, all);
    let before = together.len();
    let given = rows_of(&mut together, all)?;
    if !charged.is_empty() {
        together.add(rows::insert(&charged.iter().collect::<Vec<_>>())?);
    }
    let made = together.make(conn)?;
    let ours = made.first().copied().and_then(|n| usize::try_from(n).ok());
    if !owes.is_empty() && ours != Some(owes.len()) {
        return Err(fence::why_not_ours(conn, &owes));
    }
    let written = made.get(before..);
    if !written.is_some_and(|written| written.starts_with(&given)) {
        // What has ended is not to live again: we should not have come here.
        return Err(Error::Internal(DieselError::NotFound));
    }
    for one in all {
        if one.deletes() {
            deleted(conn, one.was)?;
        }
        match one.changes.reservation {
            Some((vmm, ReservationFate::Release)) => {
                reservation::release(conn, vmm)?;
            }
            Some((vmm, ReservationFate::Abandon)) => {
                reservation::abandon(conn, vmm)?;
            }
            None => (),
        }
    }
    let mut taking = Vec::new();
    for one in all {
        if let Some((_, held, place)) = one.new_vmm() {
            let cpu = one.was.cpu_platform;
            taking.push(reservation::take_own(conn, held, place, cpu)?);
        }
    }
    take(conn, &taking, all)
}

fn new_sagas<'a>(together: &mut Together<'a>, all: &[Write<'a>]) {
    let sagas: Vec<_> = all.iter().filter_map(|one| one.saga).collect();
    if !sagas.is_empty() {
        together.add(NewSaga::insert(&sagas));
    }
}

/// The rows of each table, where there are any; how many, table by table.
fn rows_of<'a>(
    together: &mut Together<'a>,
    all: &[Write<'a>],
) -> Result<Vec<i64>, Error> {
    let (mut attempts, mut vmms) = (Vec::new(), Vec::new());
    let mut instances = Vec::new();
    for Write { changes, .. } in all {
        let attempt = changes.new_attempt.as_ref().or(changes.attempt.as_ref());
        attempts.extend(attempt);
        vmms.extend(&changes.vmm);
        vmms.extend(changes.new_vmm.iter().map(|(vmm, _)| vmm));
        instances.extend(&changes.instance);
    }
    if !attempts.is_empty() {
        together
            .add(rows::put(&attempts, "start_attempt.outcome = 'pending'")?);
    }
    if !vmms.is_empty() {
        together.add(rows::put(&vmms, "vmm.time_ended IS NULL")?);
    }
    if !instances.is_empty() {
        together.add(rows::update(&instances)?);
    }
    let given = [attempts.len(), vmms.len(), instances.len()];
    let given = given.into_iter().filter(|rows| *rows > 0);
    Ok(given.filter_map(|rows| i64::try_from(rows).ok()).collect())
}

/// Takes what many want some of, last, so that it is held for the shortest time.
fn take(
    conn: &mut PgConnection,
    taking: &[Taking<'_>],
    all: &[Write<'_>],
) -> Result<Work<()>, Error> {
    let Some(statement) = Taking::statement(taking) else {
        return Ok(Work::Written(()));
    };
    if !all.iter().any(Write::takes_for_system) {
        return Ok(Work::Last((), statement));
    }
    let taken = conn.batch_execute(&statement);
    taken.map_err(|error| Taking::refused(error.into()))?;
    for taking in taking {
        reservation::wake_who_is_next(conn, taking.held())?;
    }
    Ok(Work::Written(()))
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
