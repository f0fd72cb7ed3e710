//! What sagas do, and the reconciler about sagas that nobody will finish.

use super::situations::Situation::*;
use super::table;
use super::world::{World, sled};
use crate::lifecycle::{Changes, Refusal, steps};
use crate::*;
use uuid::Uuid;

const OVERTAKEN: &str = "refused: the start attempt was overtaken";
const ENDED: &str = "refused: the VMM has ended";

fn new_saga() -> SagaId {
    SagaId(Uuid::from_u128(900))
}

fn new_vmm() -> VmmId {
    VmmId(Uuid::from_u128(901))
}

/// The guard that stands before a node's step.
fn may_go_on(world: &World) -> Result<(), Refusal> {
    let attempt = world.attempts.get(&world.attempt_id());
    let attempt = attempt.ok_or(Refusal::AttemptOvertaken)?;
    steps::may_go_on(attempt, world.saga_id())
}

#[test]
fn an_instance_is_made_once() {
    table(
        |w| steps::created(&w.facts()),
        "nothing",
        &[(&[Creating, CreatingToStart], "state no_vmm; look now")],
    );
}

#[test]
fn an_instance_whose_attempt_failed_while_it_was_made_rests_in_failed() {
    let mut world = CreatingToStart.world();
    let failure = StartFailure::host_unreachable();
    let attempt = world.attempt_id();
    let failed = steps::give_up_attempt(&world.facts(), attempt, &failure);
    world.apply(&failed);
    assert_eq!(world.instance.state, InstanceState::Creating);
    world.apply(&steps::created(&world.facts()));
    assert_eq!(world.instance.state, InstanceState::Failed);
}

#[test]
fn a_creation_that_is_undone_leaves_no_instance_and_no_pending_attempt() {
    table(
        |w| steps::create_undone(&w.facts(), new_saga()),
        "state destroyed; wants destroyed; deleted",
        &[
            (
                &[CreatingToStart, Waiting, Claimed, WaitingAbandoned],
                "state destroyed; wants destroyed; deleted; \
                 attempt failed (internal)",
            ),
            (&[Deleted, DeletedAbandoned], "state destroyed"),
            // Somebody started it: then it was made after all.
            (
                &[
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
                    Destroyed,
                ],
                "nothing",
            ),
            (
                &[FailedToStart, FailedAfterRun, FailedAbandoned],
                "state destroyed; wants destroyed; deleted",
            ),
        ],
    );
}

#[test]
fn a_creation_that_is_given_up_is_undone_unless_it_was_finished() {
    table(
        |w| steps::create_given_up(&w.facts(), new_saga()),
        "nothing",
        &[
            (&[Creating], "state destroyed; wants destroyed; deleted"),
            (
                &[CreatingToStart],
                "state destroyed; wants destroyed; deleted; \
                 attempt failed (internal)",
            ),
        ],
    );
}

#[test]
fn a_saga_takes_a_pending_attempt_unless_a_vmm_of_the_instance_may_run() {
    table(
        |w| steps::claim(&w.facts(), w.attempt_id(), new_saga()),
        OVERTAKEN,
        &[
            (&[CreatingToStart, Waiting, Claimed], "attempt pending claimed"),
            (
                &[
                    Placed,
                    Ordered,
                    Booting,
                    GuestStoppingAndAsked,
                    TimedOutAndAsked,
                    CrashedAndAsked,
                    WaitingAbandoned,
                ],
                "refused: another VMM of the instance may run",
            ),
        ],
    );
}

#[test]
fn an_abandoned_vmm_that_was_never_told_to_run_holds_no_start_back() {
    let mut world = Placed.world();
    let vmm = world.linked_id();
    world.apply(&steps::abandon(&world.facts(), vmm));
    let attempt = world.id();
    let user = super::world::user();
    let start = crate::lifecycle::requests::start;
    let asked = start(&world.facts(), attempt, user).unwrap();
    world.apply(&asked);
    let claimed = steps::claim(&world.facts(), attempt, new_saga());
    assert!(claimed.is_ok(), "{claimed:?}");
}

#[test]
fn a_saga_that_takes_an_attempt_does_not_inherit_another_s_failure() {
    let mut world = Claimed.world();
    let id = world.attempt_id();
    let staged = StagedFailure {
        failure: StartFailure::host_unreachable(),
        internal_error: String::new(),
    };
    world.attempts.get_mut(&id).unwrap().staged_failure =
        Some(serde_json::to_value(staged).unwrap());
    let taken = steps::claim(&world.facts(), id, new_saga()).unwrap();
    assert_eq!(taken.attempt.unwrap().staged(), None);
}

#[test]
fn a_vmm_is_linked_for_an_attempt_that_is_pending_and_claimed() {
    table(
        |w| {
            may_go_on(w)?;
            steps::link(&w.facts(), w.attempt_id(), new_vmm(), sled())
        },
        OVERTAKEN,
        &[
            (&[Claimed], "state vmm; attempt pending; new VMM, room taken"),
            (
                &[Placed, Ordered, Booting],
                "refused: another VMM of the instance may run",
            ),
        ],
    );
}

#[test]
fn a_vmm_may_run_once_it_is_linked_and_as_long_as_it_lives() {
    table(
        |w| steps::allow_to_run(&w.facts(), w.linked_id()),
        ENDED,
        &[
            (&[Placed], "VMM creating, may run"),
            (
                &[
                    Ordered,
                    Booting,
                    Running,
                    Rebooting,
                    GuestStopping,
                    GuestStoppingAndAsked,
                    Stopping,
                    StoppedInBoot,
                    TimedOut,
                    TimedOutAndAsked,
                ],
                "nothing",
            ),
        ],
    );
}

#[test]
fn a_node_goes_on_while_its_attempt_is_pending_or_started() {
    for situation in super::Situation::ALL {
        let world = situation.world();
        let Some(attempt) = world.attempts.get(&world.attempt_id()) else {
            continue;
        };
        let saga = attempt.saga_id;
        let mine = |saga| steps::may_go_on(attempt, saga).is_ok();
        let goes_on = matches!(
            attempt.outcome,
            StartOutcome::Pending | StartOutcome::Started
        );
        assert_eq!(
            saga.is_some_and(mine),
            saga.is_some() && goes_on,
            "{situation:?}"
        );
        assert!(!mine(new_saga()), "{situation:?}: not another saga's");
    }
}

#[test]
fn a_saga_that_fails_ends_the_attempt_if_that_is_still_pending_and_its_own() {
    table(
        |w| {
            let facts = w.facts();
            steps::close_failed(&facts, w.attempt_id(), w.saga_id(), None)
        },
        "nothing",
        &[
            (
                &[Claimed],
                "state failed; failed starts 1; retry in 5 s; look now; \
                 attempt failed (internal)",
            ),
            (
                &[Placed, Ordered, Booting],
                "failed starts 1; retry in 5 s; look now; \
                 attempt failed (internal)",
            ),
        ],
    );
    let world = Claimed.world();
    let another = steps::close_failed(
        &world.facts(),
        world.attempt_id(),
        new_saga(),
        None,
    );
    assert!(another.is_empty(), "another saga's attempt is left alone");
}

#[test]
fn an_attempt_that_fails_keeps_what_its_saga_staged_and_no_more() {
    // As much as the column holds.
    const KEPT: usize = 4096;
    let world = Claimed.world();
    let staged = StagedFailure {
        failure: super::situations::no_room(),
        internal_error: "x".repeat(2 * KEPT),
    };
    let closed = steps::close_failed(
        &world.facts(),
        world.attempt_id(),
        world.saga_id(),
        Some(staged.clone()),
    );
    let attempt = closed.attempt.unwrap();
    assert_eq!(attempt.failure(), Some(staged.failure));
    assert_eq!(attempt.staged(), None);
    let kept = attempt.internal_error.unwrap();
    assert_eq!(kept.chars().count(), KEPT);
    let instance = closed.instance.unwrap();
    assert_eq!(instance.next_retry_at, None, "it does not go away by itself");
}

#[test]
fn a_failed_start_is_not_retried_where_its_user_wants_no_restarts() {
    let mut world = Claimed.world();
    world.instance.auto_restart_policy = Some(AutoRestartPolicy::Never);
    let closed = steps::close_failed(
        &world.facts(),
        world.attempt_id(),
        world.saga_id(),
        None,
    );
    assert_eq!(closed.instance.unwrap().next_retry_at, None);
}

#[test]
fn an_attempt_is_given_up_if_it_is_still_pending() {
    let failure = StartFailure::host_unreachable();
    table(
        |w| steps::give_up_attempt(&w.facts(), w.attempt_id(), &failure),
        "nothing",
        &[
            (
                &[
                    CreatingToStart,
                    Placed,
                    Ordered,
                    Booting,
                    GuestStoppingAndAsked,
                    TimedOutAndAsked,
                    CrashedAndAsked,
                ],
                "failed starts 1; retry in 5 s; look now; \
                 attempt failed (host_unreachable)",
            ),
            (
                &[Waiting, Claimed, WaitingAbandoned],
                "state failed; failed starts 1; retry in 5 s; look now; \
                 attempt failed (host_unreachable)",
            ),
        ],
    );
}

#[test]
fn an_instance_that_is_parted_from_its_vmm_rests_where_its_intent_says() {
    table(
        |w| steps::unlink(&w.facts(), w.linked_id()),
        "nothing",
        &[
            // With an attempt pending, or not wanted: nothing else changes.
            (
                &[
                    Placed,
                    Ordered,
                    Booting,
                    GuestStoppingAndAsked,
                    Stopping,
                    StoppedInBoot,
                    TimedOutAndAsked,
                ],
                "state no_vmm; look now; parted; VMM destroyed (unwound); \
                 room given back",
            ),
            (&[Halted], "state no_vmm; look now; parted; room given back"),
            (
                &[CrashedAndAsked],
                "state no_vmm; last failure panic; look now; parted; \
                 room given back",
            ),
            // Wanted, and nothing pending: the guest's own wish, or a failure.
            (
                &[GuestGone],
                "state no_vmm; wants guest_shutdown; look now; parted; \
                 room given back",
            ),
            (
                &[Crashed],
                "state failed; last failure panic; retry now; look now; \
                 parted; room given back",
            ),
            (
                &[Running, Rebooting, GuestStopping],
                "state failed; last failure unwound; retry now; look now; \
                 parted; VMM destroyed (unwound); room given back",
            ),
            // A start that never ran keeps its own retry.
            (
                &[TimedOut],
                "state failed; look now; parted; VMM destroyed (unwound); \
                 room given back",
            ),
            (&[BootFailed], "state failed; look now; parted; room given back"),
        ],
    );
}

#[test]
fn a_guest_that_shut_down_before_it_ever_ran_is_a_start_that_failed() {
    let mut world = Booting.world();
    let vmm = world.linked_id();
    let end = Some(VmmEndReason::GuestShutdown);
    let down = world.report(VmmState::Destroyed, false, end);
    world.observe(vmm, &down);
    world.apply(&steps::unlink(&world.facts(), vmm));
    assert_eq!(world.instance.intended_state, IntendedState::Running);
    assert_eq!(world.view().run_state(), RunState::Failed);
    let failure = world.view().start_failure().map(|(_, f)| f.kind);
    assert_eq!(failure, Some(StartFailureKind::BootFailed));
}

#[test]
fn an_instance_that_ran_and_failed_waits_for_its_cooldown() {
    let mut world = Crashed.world();
    let restarted = world.now - chrono::TimeDelta::seconds(100);
    world.instance.time_last_auto_restarted = Some(restarted);
    let parted = steps::unlink(&world.facts(), world.linked_id());
    let next = parted.instance.unwrap().next_retry_at;
    assert_eq!(next, Some(restarted + DEFAULT_COOLDOWN));
}

#[test]
fn a_stop_that_finds_its_vmm_lost_says_so_and_stays_stopped() {
    let mut world = Stopping.world();
    let vmm = world.linked_id();
    world.observe(vmm, &crate::lifecycle::reports::Observation::Unknown);
    world.apply(&steps::unlink(&world.facts(), vmm));
    let instance = &world.instance;
    assert_eq!(instance.last_failure_kind, Some(VmmEndReason::Gone));
    assert_eq!(instance.intended_state, IntendedState::Stopped);
    assert_eq!(instance.next_retry_at, None);
    assert_eq!(world.view().run_state(), RunState::Stopped);
}

#[test]
fn a_run_that_the_system_ended_though_it_was_wanted_is_not_said_to_be_asked_for()
 {
    for reason in [VmmEndReason::Unwound, VmmEndReason::Requested] {
        let mut world = Running.world();
        let vmm = world.facts().active_vmm().unwrap().clone();
        let ended = vmm.end(reason, None, world.facts().now);
        world.apply(&Changes { vmm: Some(ended), ..Changes::default() });
        let parted = steps::unlink(&world.facts(), vmm.id);
        let instance = parted.instance.unwrap();
        assert_eq!(instance.state, InstanceState::Failed);
        let message = instance.last_failure_message.unwrap();
        assert!(message.starts_with("The system ended this run"), "{message}");
    }
}

#[test]
fn an_abandoned_vmm_keeps_its_room_and_its_instance_rests() {
    table(
        |w| steps::abandon(&w.facts(), w.linked_id()),
        "nothing",
        &[
            (
                &[Placed, Ordered, Booting],
                "state failed; failed starts 1; retry in 5 s; look now; \
                 parted; attempt failed (host_unreachable); VMM abandoned; \
                 room kept",
            ),
            (
                &[Running, Rebooting, GuestStopping],
                "state failed; last failure gone; retry now; look now; \
                 parted; VMM abandoned; room kept",
            ),
            (
                &[GuestStoppingAndAsked, Stopping],
                "state no_vmm; last failure gone; look now; parted; \
                 VMM abandoned; room kept",
            ),
            (
                &[StoppedInBoot, TimedOutAndAsked],
                "state no_vmm; look now; parted; VMM abandoned; room kept",
            ),
            (
                &[TimedOut],
                "state failed; look now; parted; VMM abandoned; room kept",
            ),
        ],
    );
}

#[test]
fn an_instance_whose_host_is_silent_is_not_said_to_be_lost_there() {
    let world = Running.world();
    let abandoned = steps::abandon(&world.facts(), world.linked_id());
    assert_eq!(
        abandoned.instance.unwrap().last_failure_message.as_deref(),
        Some("The host that ran the instance does not answer.")
    );
}

#[test]
fn an_instance_is_destroyed_once_it_is_deleted_and_nothing_of_it_may_run() {
    table(
        |w| steps::destroyed(&w.facts()),
        "refused: the instance must be stopped first",
        &[(&[Deleted], "state destroyed"), (&[Destroyed], "nothing")],
    );
}

#[test]
fn an_abandoned_vmm_that_may_not_run_is_asked_about_after_the_instance() {
    let mut world = Placed.world();
    let vmm = world.linked_id();
    world.apply(&steps::abandon(&world.facts(), vmm));
    let deleted = crate::lifecycle::requests::delete(&world.facts()).unwrap();
    world.apply(&deleted);
    let destroyed = steps::destroyed(&world.facts()).unwrap();
    let instance = destroyed.instance.clone().unwrap();
    assert_eq!(instance.state, InstanceState::Destroyed);
    assert_eq!(instance.reconcile_at, Some(world.now));
    world.apply(&destroyed);

    world.observe(vmm, &crate::lifecycle::reports::Observation::Fenced);
    assert_eq!(world.reservations.len(), 0, "its room is given back");
}

/// A node that died after its write runs again, and a step that runs on two
/// Nexuses at once is written by one after the other.
#[test]
fn every_step_may_be_done_twice() {
    type Step = fn(&World) -> Result<Changes, Refusal>;
    let steps: &[(&str, Step)] = &[
        ("created", |w| Ok(steps::created(&w.facts()))),
        ("create_undone", |w| Ok(steps::create_undone(&w.facts(), new_saga()))),
        ("claim", |w| steps::claim(&w.facts(), w.attempt_id(), new_saga())),
        ("link", |w| {
            may_go_on(w)?;
            steps::link(&w.facts(), w.attempt_id(), new_vmm(), sled())
        }),
        ("allow_to_run", |w| steps::allow_to_run(&w.facts(), w.linked_id())),
        ("close_failed", |w| {
            let facts = w.facts();
            Ok(steps::close_failed(&facts, w.attempt_id(), w.saga_id(), None))
        }),
        ("unlink", |w| Ok(steps::unlink(&w.facts(), w.linked_id()))),
        ("abandon", |w| Ok(steps::abandon(&w.facts(), w.linked_id()))),
        ("destroyed", |w| steps::destroyed(&w.facts())),
    ];
    for (name, step) in steps {
        for situation in super::Situation::ALL {
            let mut world = situation.world();
            let Ok(changes) = step(&world) else { continue };
            world.apply(&changes);
            let again = step(&world);
            assert_eq!(
                again,
                Ok(Changes::default()),
                "{name}, {situation:?}: the second time is no change"
            );
        }
    }
}
