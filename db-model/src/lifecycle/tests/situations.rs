//! The situations that an instance can be in, each reached by the transitions
//! that lead there.

use super::world::{World, sled, user};
use crate::lifecycle::reports::Observation;
use crate::lifecycle::{requests, steps};
use crate::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Situation {
    /// Its create saga is at work.
    Creating,
    /// The same, and it is to start.
    CreatingToStart,
    /// Never started.
    Stopped,
    /// Its guest shut itself down, and it is parted from the VMM.
    ShutDown,
    /// An attempt is pending that no saga has.
    Waiting,
    /// A saga has the attempt.
    Claimed,
    /// A VMM is linked; its sled may not have heard of it.
    Placed,
    /// The VMM may run; its sled has not said that it took the order.
    Ordered,
    /// The sled has taken the order.
    Booting,
    Running,
    Rebooting,
    /// Its guest is shutting itself down.
    GuestStopping,
    /// The same, and its user asked for a start since.
    GuestStoppingAndAsked,
    /// Told to stop; its VMM runs still.
    Stopping,
    /// Told to stop before it was known to run.
    StoppedInBoot,
    /// Told to stop; its VMM has ended and is still linked.
    Halted,
    /// Its attempt was given up; the VMM is linked and never ran.
    TimedOut,
    /// The same, and its user asked for a start since.
    TimedOutAndAsked,
    /// Its VMM ended without having run, and is still linked.
    BootFailed,
    /// Its VMM ended after it had run, and is still linked.
    Crashed,
    /// The same, and its user asked for a start since.
    CrashedAndAsked,
    /// Its guest shut itself down; the VMM is still linked.
    GuestGone,
    /// A start failed, and will be tried again.
    FailedToStart,
    /// A start failed, and will not be tried again.
    FailedForGood,
    /// It ran and failed, and will be started again.
    FailedAfterRun,
    /// It ran and failed, and its user wants no restarts.
    FailedToStay,
    /// A start failed, and its VMM, which may run, was abandoned.
    FailedAbandoned,
    /// The same, and its user asked for a start since.
    WaitingAbandoned,
    /// It is to stop, and its VMM, which may run, was abandoned.
    StoppedAbandoned,
    Deleted,
    /// Deleted, with an abandoned VMM that may run.
    DeletedAbandoned,
    Destroyed,
}

use Situation::*;

impl Situation {
    pub(super) const ALL: &[Situation] = &[
        Creating,
        CreatingToStart,
        Stopped,
        ShutDown,
        Waiting,
        Claimed,
        Placed,
        Ordered,
        Booting,
        Running,
        Rebooting,
        GuestStopping,
        GuestStoppingAndAsked,
        Stopping,
        StoppedInBoot,
        Halted,
        TimedOut,
        TimedOutAndAsked,
        BootFailed,
        Crashed,
        CrashedAndAsked,
        GuestGone,
        FailedToStart,
        FailedForGood,
        FailedAfterRun,
        FailedToStay,
        FailedAbandoned,
        WaitingAbandoned,
        StoppedAbandoned,
        Deleted,
        DeletedAbandoned,
        Destroyed,
    ];

    /// The rows of an instance in this situation. Somebody has looked at it
    /// since.
    pub(super) fn world(self) -> World {
        let mut world = self.reach();
        world.instance.reconcile_at = None;
        world
    }

    fn reach(self) -> World {
        match self {
            Creating => World::new(false),
            CreatingToStart => World::new(true),
            Stopped => World::new(false).created(),
            Waiting => World::new(true).created(),
            Claimed => Waiting.reach().claim(),
            Placed => Claimed.reach().link(),
            Ordered => Placed.reach().allow_to_run(),
            Booting => Waiting.reach().boots(),
            Running => Booting.reach().hears(VmmState::Running, true, None),
            Rebooting => Running.reach().hears(VmmState::Rebooting, true, None),
            GuestStopping => {
                Running.reach().hears(VmmState::Stopping, true, None)
            }
            GuestStoppingAndAsked => GuestStopping.reach().start(),
            Stopping => Running.reach().stop(),
            StoppedInBoot => Booting.reach().stop(),
            Halted => Stopping.reach().hears(
                VmmState::Destroyed,
                true,
                Some(VmmEndReason::Requested),
            ),
            TimedOut => Booting.reach().give_up(),
            TimedOutAndAsked => TimedOut.reach().start(),
            BootFailed => Booting.reach().hears(
                VmmState::Failed,
                false,
                Some(VmmEndReason::BootFailed),
            ),
            Crashed => Running.reach().hears(
                VmmState::Failed,
                true,
                Some(VmmEndReason::Panic),
            ),
            CrashedAndAsked => Crashed.reach().start(),
            GuestGone => Running.reach().hears(
                VmmState::Destroyed,
                true,
                Some(VmmEndReason::GuestShutdown),
            ),
            ShutDown => GuestGone.reach().unlink(),
            FailedToStart => BootFailed.reach().unlink(),
            FailedForGood => Claimed.reach().close(&no_room()),
            FailedAfterRun => Crashed.reach().unlink(),
            FailedToStay => Crashed.reach().never_restart().unlink(),
            FailedAbandoned => TimedOut.reach().abandon(),
            WaitingAbandoned => FailedAbandoned.reach().start(),
            StoppedAbandoned => StoppedInBoot.reach().abandon(),
            Deleted => Stopped.reach().delete(),
            DeletedAbandoned => StoppedAbandoned.reach().delete(),
            Destroyed => Deleted.reach().destroyed(),
        }
    }
}

/// A failure that does not go away by itself.
pub(super) fn no_room() -> StartFailure {
    StartFailure {
        kind: crate::StartFailureKind::InsufficientCapacity,
        message: "No host is large enough.".to_string(),
        transient: false,
        details: crate::StartFailureDetails::None,
    }
}

impl World {
    fn then(mut self, changes: &crate::lifecycle::Changes) -> World {
        self.apply(changes);
        self
    }

    fn created(self) -> World {
        let changes = steps::created(&self.facts());
        self.then(&changes)
    }

    pub(super) fn attempt_id(&self) -> StartAttemptId {
        self.instance
            .latest_start_attempt_id
            .unwrap_or(StartAttemptId(uuid::Uuid::nil()))
    }

    pub(super) fn saga_id(&self) -> SagaId {
        let attempt = self.attempts.get(&self.attempt_id());
        attempt.and_then(|a| a.saga_id).unwrap_or(SagaId(uuid::Uuid::nil()))
    }

    pub(super) fn linked_id(&self) -> VmmId {
        self.linked().map_or(VmmId(uuid::Uuid::nil()), |v| v.id)
    }

    fn claim(mut self) -> World {
        let saga = self.id();
        let changes =
            steps::claim(&self.facts(), self.attempt_id(), saga).unwrap();
        self.then(&changes)
    }

    fn link(mut self) -> World {
        let vmm = self.id();
        let changes =
            steps::link(&self.facts(), self.attempt_id(), vmm, sled()).unwrap();
        self.then(&changes)
    }

    fn allow_to_run(self) -> World {
        let changes =
            steps::allow_to_run(&self.facts(), self.linked_id()).unwrap();
        self.then(&changes)
    }

    /// A waiting instance, booted.
    pub(super) fn boots(self) -> World {
        self.claim().link().allow_to_run().hears(
            VmmState::Starting,
            false,
            None,
        )
    }

    fn hears(
        mut self,
        state: VmmState,
        ever_ran: bool,
        end: Option<VmmEndReason>,
    ) -> World {
        let report: Observation = self.report(state, ever_ran, end);
        self.observe(self.linked_id(), &report);
        self
    }

    fn start(mut self) -> World {
        let attempt = self.id();
        let changes = requests::start(&self.facts(), attempt, user()).unwrap();
        self.then(&changes)
    }

    fn stop(self) -> World {
        let changes = requests::stop(&self.facts()).unwrap();
        self.then(&changes)
    }

    fn delete(self) -> World {
        let changes = requests::delete(&self.facts()).unwrap();
        self.then(&changes)
    }

    fn never_restart(self) -> World {
        let change = InstanceChange {
            boot_disk: None,
            hostname: None,
            ncpus: self.instance.ncpus,
            memory: self.instance.memory_bytes,
            cpu_platform: None,
            auto_restart_policy: Some(AutoRestartPolicy::Never),
        };
        let changes = requests::change(&self.facts(), &change).unwrap();
        self.then(&changes)
    }

    fn give_up(self) -> World {
        let timed_out = StartFailure::timed_out(super::world::BOOT_ALLOWANCE);
        let changes = steps::give_up_attempt(
            &self.facts(),
            self.attempt_id(),
            &timed_out,
        );
        self.then(&changes)
    }

    fn close(self, failure: &StartFailure) -> World {
        let staged = StagedFailure {
            failure: failure.clone(),
            internal_error: String::new(),
        };
        let changes = steps::close_failed(
            &self.facts(),
            self.attempt_id(),
            self.saga_id(),
            Some(staged),
        );
        self.then(&changes)
    }

    fn unlink(self) -> World {
        let changes = steps::unlink(&self.facts(), self.linked_id());
        self.then(&changes)
    }

    fn abandon(self) -> World {
        let changes = steps::abandon(&self.facts(), self.linked_id());
        self.then(&changes)
    }

    fn destroyed(self) -> World {
        let changes = steps::destroyed(&self.facts()).unwrap();
        self.then(&changes)
    }
}

/// A situation is reached by transitions alone, and none leads to rows that
/// the schema refuses.
#[test]
fn every_situation_is_one_that_the_schema_allows() {
    for situation in Situation::ALL {
        for (name, holds) in super::world::constraints(&situation.world()) {
            assert!(holds, "{situation:?} breaks {name}");
        }
    }
}

#[test]
fn every_situation_looks_to_its_user_as_it_should() {
    for situation in Situation::ALL {
        let state = situation.world().view().run_state();
        let expected = match situation {
            Creating | CreatingToStart => RunState::Creating,
            Stopped | ShutDown | StoppedAbandoned => RunState::Stopped,
            Waiting | Claimed | Placed | Ordered | Booting | TimedOut
            | TimedOutAndAsked | CrashedAndAsked | WaitingAbandoned => {
                RunState::Starting
            }
            Running => RunState::Running,
            Rebooting => RunState::Rebooting,
            GuestStopping
            | GuestStoppingAndAsked
            | Stopping
            | StoppedInBoot
            | Halted
            | BootFailed
            | Crashed
            | GuestGone => RunState::Stopping,
            FailedToStart | FailedForGood | FailedAfterRun | FailedToStay
            | FailedAbandoned => RunState::Failed,
            Deleted | DeletedAbandoned | Destroyed => RunState::Destroyed,
        };
        assert_eq!(state, expected, "{situation:?}");
    }
}

#[test]
fn a_start_failure_is_shown_exactly_while_it_is_why_the_instance_does_not_run()
{
    for situation in Situation::ALL {
        let view = situation.world().view();
        let shown = view.start_failure().map(|(_, failure)| failure.kind);
        let expected = match situation {
            TimedOut => Some(StartFailureKind::TimedOut),
            BootFailed | FailedToStart => Some(StartFailureKind::BootFailed),
            FailedForGood => Some(StartFailureKind::InsufficientCapacity),
            FailedAbandoned => Some(StartFailureKind::TimedOut),
            Creating
            | CreatingToStart
            | Stopped
            | ShutDown
            | Waiting
            | Claimed
            | Placed
            | Ordered
            | Booting
            | Running
            | Rebooting
            | GuestStopping
            | GuestStoppingAndAsked
            | Stopping
            | StoppedInBoot
            | Halted
            | TimedOutAndAsked
            | Crashed
            | CrashedAndAsked
            | GuestGone
            | FailedAfterRun
            | FailedToStay
            | WaitingAbandoned
            | StoppedAbandoned
            | Deleted
            | DeletedAbandoned
            | Destroyed => None,
        };
        assert_eq!(shown, expected, "{situation:?}");
    }
}

#[test]
fn a_start_failure_is_gone_when_the_instance_comes_up_after_all() {
    let mut world = TimedOut.world();
    let runs = world.report(VmmState::Running, true, None);
    world.observe(world.linked_id(), &runs);
    assert_eq!(world.view().start_failure(), None);

    let panics =
        world.report(VmmState::Failed, true, Some(VmmEndReason::Panic));
    world.observe(world.linked_id(), &panics);
    let world = world.unlink();
    assert_eq!(world.view().run_state(), RunState::Failed);
    assert_eq!(world.view().start_failure(), None, "nor is it back later");
}
