//! How an instance, its VMMs and its start attempts change: every transition,
//! as a pure function from [`Facts`] to [`Changes`] or a named [`Refusal`].
//!
//! ```text
//!                     create saga ends        link
//!   (create) creating ───────────────▶ no_vmm ────▶ vmm
//!                │                      ▲  ▲         │ unlink, abandon:
//!          undone│        start, restart│  └─────────┤  stopped as asked,
//!                ▼                      │            │  or an attempt waits
//!            destroyed ◀── delete saga  failed ◀─────┘  should run
//! ```
//!
//! `db_queries` reads the facts with the instance's row locked, calls one of
//! these, and writes the changes in the same transaction: so each is atomic,
//! whatever else goes on, at any isolation level. Nothing else writes these
//! columns. `now` is the database's.
//!
//! - [`requests`]: what users ask for, and what the system does in their stead;
//! - [`steps`]: what sagas do;
//! - [`reports`]: what sleds say, which enters by one door.

pub mod reports;
pub mod requests;
pub mod steps;

#[cfg(test)]
mod tests;

use crate::{
    Instance, InstanceState, ReservationRole, SledReservation, StartAttempt,
    StartFailure, Vmm, VmmEndReason, VmmId, retry_backoff,
};
use chrono::{DateTime, Utc};

/// All that is unsettled about one instance, read under its lock.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The instance.
    pub instance: Instance,
    /// Its VMMs that are linked or have not ended.
    pub vmms: Vec<Vmm>,
    /// Its pending start attempt.
    pub attempt: Option<StartAttempt>,
    /// The database's time of this reading.
    pub now: DateTime<Utc>,
}

impl Facts {
    /// The linked VMM.
    pub fn active_vmm(&self) -> Option<&Vmm> {
        self.instance.active_vmm_id.and_then(|id| self.vmm(id))
    }

    /// The VMM of this id, if it is linked or has not ended.
    pub fn vmm(&self, id: VmmId) -> Option<&Vmm> {
        self.vmms.iter().find(|v| v.id == id)
    }
}

/// What becomes of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationFate {
    /// It is given back.
    Release,
    /// It is kept, for a VMM that nobody knows about.
    Abandon,
}

/// What a transition writes, all in one transaction. Rows are whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The instance, changed.
    pub instance: Option<Instance>,
    /// The pending attempt, changed or ended.
    pub attempt: Option<StartAttempt>,
    /// An attempt that begins. Written after the one above has ended.
    pub new_attempt: Option<StartAttempt>,
    /// A VMM, changed or ended.
    pub vmm: Option<Vmm>,
    /// A VMM that begins, with what it holds of its sled.
    pub new_vmm: Option<(Vmm, SledReservation)>,
    /// What becomes of which VMM's reservation.
    pub reservation: Option<(VmmId, ReservationFate)>,
}

impl Changes {
    /// Does it write nothing?
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// Why a transition is not made. Nothing is changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is deleted.
    #[error("the instance is deleted")]
    Deleted,
    /// Its create saga is at work.
    #[error("the instance is still being created")]
    Creating,
    /// It was told to stop and has not stopped yet.
    #[error("the instance is still stopping")]
    StillStopping,
    /// It must be stopped first.
    #[error("the instance must be stopped first")]
    NotStopped,
    /// It does not run.
    #[error("the instance is not running")]
    NotRunning,
    /// It does not rest in `failed`, so it is not restarted.
    #[error("the instance needs no restart")]
    NoRestartNeeded,
    /// The attempt has ended, or another saga has it.
    #[error("the start attempt was overtaken")]
    AttemptOvertaken,
    /// Another VMM is linked, or was abandoned and may run.
    #[error("another VMM of the instance may run")]
    OtherVmmLinked,
    /// The VMM has ended or was abandoned.
    #[error("the VMM has ended")]
    VmmEnded,
}

/// Until when nobody need look at an instance that is wanted and has a VMM, if
/// that goes on as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Its guest has until then to boot.
    Until(DateTime<Utc>),
    /// It runs: until something about it changes.
    Settled,
}

impl Rest {
    /// What stands in `reconcile_at` of an instance that is left so.
    pub fn reconcile_at(self) -> Option<DateTime<Utc>> {
        match self {
            Rest::Until(at) => Some(at),
            Rest::Settled => None,
        }
    }

    /// That of `instance`, whose VMMs are these. `None`: somebody must look.
    fn of<'a>(
        instance: &Instance,
        attempt: Option<&StartAttempt>,
        vmms: impl Iterator<Item = &'a Vmm>,
    ) -> Option<Rest> {
        let mut alive = vmms.filter(|vmm| !vmm.ended());
        // With another one that may run, there is something to do about that.
        let (Some(vmm), None) = (alive.next(), alive.next()) else {
            return None;
        };
        let is_wanted = instance.active_vmm_id == Some(vmm.id)
            && instance.intended_state == crate::IntendedState::Running
            && vmm.state != crate::VmmState::Abandoned;
        match attempt
            .filter(|a| instance.pending_start_attempt_id == Some(a.id))
        {
            _ if !is_wanted => None,
            None if instance.pending_start_attempt_id.is_some() => None,
            None => vmm.ever_ran.then_some(Rest::Settled),
            Some(its) if its.vmm_id == Some(vmm.id) && vmm.may_run => {
                vmm.boot_deadline.map(Rest::Until)
            }
            Some(_) => None,
        }
    }

    /// That in which `changes` leave the instance of these facts, as its row says,
    /// too. `None`: somebody must look, or is to.
    pub fn left_by(facts: &Facts, changes: &Changes) -> Option<Rest> {
        let instance = changes.instance.as_ref().unwrap_or(&facts.instance);
        let attempt = changes.attempt.as_ref().or(facts.attempt.as_ref());
        let vmms = facts.vmms.iter().map(|old| {
            changes.vmm.as_ref().filter(|new| new.id == old.id).unwrap_or(old)
        });
        Rest::of(instance, attempt, vmms)
            .filter(|rest| rest.reconcile_at() == instance.reconcile_at)
    }
}

/// Collects a transition's changes, starting from the facts.
struct Draft<'a> {
    facts: &'a Facts,
    instance: Instance,
    changes: Changes,
    /// Something outside the instance's row that users see has changed.
    visible: bool,
}

impl<'a> Draft<'a> {
    fn new(facts: &'a Facts) -> Draft<'a> {
        Draft {
            facts,
            instance: facts.instance.clone(),
            changes: Changes::default(),
            visible: false,
        }
    }

    /// Somebody must look, now.
    fn unsettle(&mut self) {
        self.instance.reconcile_at = Some(self.facts.now);
    }

    /// Leaves it at rest, if it is by its linked VMM being as `new` says. Says
    /// whether it did.
    fn rest_with(&mut self, new: &Vmm) -> bool {
        let vmms = self.facts.vmms.iter();
        let vmms = vmms.map(|old| if old.id == new.id { new } else { old });
        let attempt = self.facts.attempt.as_ref();
        let Some(rest) = Rest::of(&self.instance, attempt, vmms) else {
            return false;
        };
        self.instance.reconcile_at = rest.reconcile_at();
        if rest == Rest::Settled {
            self.instance.reconcile_errors = 0;
            self.instance.reconcile_last_error = None;
        }
        true
    }

    /// Ends the pending attempt, if there is one, as `ended` makes of it.
    fn end_attempt(
        &mut self,
        ended: impl FnOnce(&StartAttempt) -> StartAttempt,
    ) {
        if let Some(attempt) = &self.facts.attempt {
            self.instance.pending_start_attempt_id = None;
            self.changes.attempt = Some(ended(attempt));
        }
    }

    /// Opens an attempt; the instance is wanted from here on.
    fn open_attempt(&mut self, attempt: StartAttempt) {
        self.instance.intended_state = crate::IntendedState::Running;
        self.instance.pending_start_attempt_id = Some(attempt.id);
        self.instance.latest_start_attempt_id = Some(attempt.id);
        self.instance.next_retry_at = None;
        if self.instance.state == InstanceState::Failed {
            self.instance.state = InstanceState::NoVmm;
        }
        self.changes.new_attempt = Some(attempt);
        self.unsettle();
    }

    /// Ends the pending attempt as failed, with all that follows from it. The
    /// caller has made sure that there is one.
    fn fail_attempt(
        &mut self,
        failure: &StartFailure,
        internal_error: Option<String>,
    ) {
        let now = self.facts.now;
        self.end_attempt(|a| a.failed(failure, internal_error, now));
        self.instance.failed_starts += 1;
        self.instance.next_retry_at = (failure.transient
            && self.instance.auto_restart_enabled())
        .then(|| now + retry_backoff(self.instance.failed_starts));
        self.rest();
        self.unsettle();
    }

    /// The instance has run: ends the pending attempt as started, if there is
    /// one, and forgets the failures before.
    fn attempt_started(&mut self) {
        let now = self.facts.now;
        self.end_attempt(|a| a.started(now));
        self.instance.failed_starts = 0;
        self.instance.next_retry_at = None;
        self.instance.last_failure_kind = None;
        self.instance.last_failure_message = None;
        self.instance.time_last_failure = None;
    }

    /// Puts an instance without a VMM where its intent says.
    fn rest(&mut self) {
        let i = &mut self.instance;
        if i.active_vmm_id.is_some() || i.state == InstanceState::Creating {
            return;
        }
        i.state = match i.intended_state {
            crate::IntendedState::Running
                if i.pending_start_attempt_id.is_none() =>
            {
                InstanceState::Failed
            }
            crate::IntendedState::Running
            | crate::IntendedState::Stopped
            | crate::IntendedState::GuestShutdown
            | crate::IntendedState::Destroyed => InstanceState::NoVmm,
        };
    }

    /// Keeps for the user why a VMM that had run is there no more.
    fn note_bad_end(&mut self, vmm: &Vmm) {
        // One that was abandoned has not ended, as far as is known. One that
        // nobody had wanted to end came up as its start was given up.
        let (reason, sentence) = match vmm.end_reason {
            Some(
                reason @ (VmmEndReason::Unwound | VmmEndReason::Requested),
            ) if self.instance.intended_state
                == crate::IntendedState::Running =>
            {
                (
                    reason,
                    "The system ended this run: it began only when its start \
                     had been given up.",
                )
            }
            Some(reason) => (reason, reason.sentence()),
            None => (
                VmmEndReason::Gone,
                "The host that ran the instance does not answer.",
            ),
        };
        self.instance.last_failure_kind = Some(reason);
        self.instance.last_failure_message =
            Some(vmm.failure_reason.clone().unwrap_or(sentence.to_string()));
        self.instance.time_last_failure = Some(self.facts.now);
    }

    /// The changes, with the generations raised as they must be.
    fn finish(mut self) -> Changes {
        let old = &self.facts.instance;
        let new = &mut self.instance;
        let lifecycle = |i: &Instance| {
            (
                i.state,
                i.intended_state,
                i.active_vmm_id,
                i.target_vmm_id,
                i.pending_start_attempt_id,
            )
        };
        if lifecycle(old) != lifecycle(new) {
            new.state_gen += 1;
            new.time_state_updated = self.facts.now;
        }
        let unseen = Instance {
            reconcile_at: old.reconcile_at,
            reconcile_errors: old.reconcile_errors,
            reconcile_last_error: old.reconcile_last_error.clone(),
            ..new.clone()
        };
        if unseen != *old || self.visible {
            new.view_gen += 1;
        }
        if new != old {
            self.changes.instance = Some(self.instance);
        }
        self.changes
    }
}

/// What `vmm` holds of its sled for `instance`.
fn reservation(instance: &Instance, vmm: &Vmm) -> SledReservation {
    SledReservation {
        vmm_id: vmm.id,
        instance_id: instance.id,
        sled_id: vmm.sled_id,
        role: ReservationRole::Active,
        vcpus: instance.ncpus.to_i64(),
        memory_bytes: instance.memory_bytes,
        time_created: vmm.time_created,
        // The reservation finds it.
        silo_id: None,
    }
}
