//! What users ask for, and what the system does in their stead.

use super::situations::Situation::*;
use super::table;
use super::world::{World, user};
use crate::lifecycle::{Refusal, requests};
use crate::*;
use chrono::TimeDelta;
use uuid::Uuid;

const STILL_CREATING: &str = "refused: the instance is still being created";
const DELETED: &str = "refused: the instance is deleted";
const NO_RESTART: &str = "refused: the instance needs no restart";
const NOT_STOPPED: &str = "refused: the instance must be stopped first";

fn new_attempt() -> StartAttemptId {
    StartAttemptId(Uuid::from_u128(900))
}

#[test]
fn a_start_is_taken_unless_the_run_before_it_is_still_stopping() {
    table(
        |w| requests::start(&w.facts(), new_attempt(), user()),
        // It is on its way, or runs.
        "nothing",
        &[
            (
                &[Creating, Stopped, ShutDown, Halted, StoppedAbandoned],
                "wants running; look now; new attempt (user)",
            ),
            (
                &[Stopping, StoppedInBoot],
                "refused: the instance is still stopping",
            ),
            (
                &[GuestStopping, Crashed, GuestGone],
                "look now; new attempt (user)",
            ),
            (
                &[TimedOut, BootFailed],
                "failed starts 0; retry never; look now; new attempt (user)",
            ),
            (
                &[FailedToStart, FailedAbandoned],
                "state no_vmm; failed starts 0; retry never; look now; \
                 new attempt (user)",
            ),
            (
                &[FailedForGood],
                "state no_vmm; failed starts 0; look now; new attempt (user)",
            ),
            (
                &[FailedAfterRun],
                "state no_vmm; retry never; look now; new attempt (user)",
            ),
            (&[FailedToStay], "state no_vmm; look now; new attempt (user)"),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn a_stop_is_always_taken_and_overtakes_a_pending_start() {
    table(
        |w| requests::stop(&w.facts()),
        "wants stopped; look now; attempt superseded",
        &[
            (&[Creating, CreatingToStart], STILL_CREATING),
            (
                &[Stopped, Stopping, StoppedInBoot, Halted, StoppedAbandoned],
                "nothing",
            ),
            (
                &[
                    ShutDown,
                    Running,
                    Rebooting,
                    GuestStopping,
                    Crashed,
                    GuestGone,
                ],
                "wants stopped; look now",
            ),
            (
                &[TimedOut, BootFailed],
                "wants stopped; failed starts 0; retry never; look now",
            ),
            // A failed instance without a VMM is stopped at once.
            (
                &[FailedToStart, FailedAbandoned],
                "state no_vmm; wants stopped; failed starts 0; retry never; \
                 look now",
            ),
            (
                &[FailedForGood],
                "state no_vmm; wants stopped; failed starts 0; look now",
            ),
            (
                &[FailedAfterRun],
                "state no_vmm; wants stopped; retry never; look now",
            ),
            (&[FailedToStay], "state no_vmm; wants stopped; look now"),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn a_delete_is_taken_if_no_vmm_is_linked_and_overtakes_a_pending_start() {
    table(
        |w| requests::delete(&w.facts()),
        NOT_STOPPED,
        &[
            (&[Creating, CreatingToStart], STILL_CREATING),
            (
                &[Stopped, ShutDown, StoppedAbandoned],
                "wants destroyed; look now; deleted",
            ),
            (
                &[Waiting, Claimed, WaitingAbandoned],
                "wants destroyed; look now; deleted; attempt superseded",
            ),
            (
                &[FailedToStart, FailedAfterRun, FailedAbandoned],
                "state no_vmm; wants destroyed; retry never; look now; deleted",
            ),
            (
                &[FailedForGood, FailedToStay],
                "state no_vmm; wants destroyed; look now; deleted",
            ),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn a_reboot_goes_to_a_guest_that_runs_and_is_to_go_on_running() {
    for situation in super::Situation::ALL {
        let world = situation.world();
        let runs = [Running, Rebooting].contains(situation);
        let creating = [Creating, CreatingToStart].contains(situation);
        let refusal = if world.instance.time_deleted.is_some() {
            Refusal::Deleted
        } else if creating {
            Refusal::Creating
        } else {
            Refusal::NotRunning
        };
        let vmm = world.linked().filter(|_| runs).cloned();
        let reboot = requests::reboot(&world.facts());
        assert_eq!(reboot, vmm.ok_or(refusal), "{situation:?}");
    }
}

#[test]
fn the_system_starts_again_only_what_should_run_and_rests_in_failed() {
    table(
        |w| {
            let mut facts = w.facts();
            // Whatever it waits for is over by then.
            facts.now += TimeDelta::hours(1);
            requests::auto_restart(&facts, new_attempt())
        },
        NO_RESTART,
        &[
            (
                &[FailedToStart, FailedAbandoned],
                "state no_vmm; retry never; look in 3600 s; \
                 new attempt (auto_restart)",
            ),
            (
                &[FailedForGood],
                "state no_vmm; look in 3600 s; new attempt (auto_restart)",
            ),
            // Only this is a restart that the cooldown spaces.
            (
                &[FailedAfterRun],
                "state no_vmm; retry never; look in 3600 s; cooldown begins; \
                 new attempt (auto_restart)",
            ),
        ],
    );
}

#[test]
fn the_system_starts_nothing_before_its_time() {
    let mut facts = FailedToStart.world().facts();
    let due = facts.instance.next_retry_at.unwrap();
    facts.now = due - TimeDelta::microseconds(1);
    assert_eq!(
        requests::auto_restart(&facts, new_attempt()),
        Err(Refusal::NoRestartNeeded)
    );
    facts.now = due;
    assert!(requests::auto_restart(&facts, new_attempt()).is_ok());
}

#[test]
fn a_retry_that_the_placement_refuses_comes_later_than_the_last() {
    table(
        |w| requests::postpone_retry(&w.facts(), w.instance.next_retry_at),
        NO_RESTART,
        &[
            (
                &[FailedToStart, FailedAbandoned],
                "failed starts 2; retry in 10 s; look now",
            ),
            (&[FailedAfterRun], "failed starts 1; retry in 5 s; look now"),
        ],
    );
}

#[test]
fn a_retry_that_cannot_work_before_something_changes_is_called_off() {
    table(
        |w| requests::call_off_retry(&w.facts(), w.instance.next_retry_at),
        NO_RESTART,
        &[(
            &[FailedToStart, FailedAfterRun, FailedAbandoned],
            "retry never; look now",
        )],
    );
}

#[test]
fn a_failed_start_is_retried_at_once_when_what_it_waits_for_has_come() {
    table(
        |w| requests::retry_now(&w.facts()),
        NO_RESTART,
        &[(
            &[FailedToStart, FailedForGood, FailedAbandoned],
            "retry now; look now",
        )],
    );
}

#[test]
fn nothing_is_restarted_once_its_user_forbids_it() {
    for situation in super::Situation::ALL {
        let mut facts = situation.world().facts();
        // As a plan saw it that is older than the change of policy.
        facts.instance.auto_restart_policy = Some(AutoRestartPolicy::Never);
        facts.now += TimeDelta::hours(1);
        let planned = facts.instance.next_retry_at;
        for refused in [
            requests::auto_restart(&facts, new_attempt()),
            requests::postpone_retry(&facts, planned),
            requests::call_off_retry(&facts, planned),
            requests::retry_now(&facts),
        ] {
            assert_eq!(refused, Err(Refusal::NoRestartNeeded), "{situation:?}");
        }
    }
}

#[test]
fn room_that_is_freed_while_the_placement_is_asked_is_not_forgotten() {
    let mut facts = FailedToStart.world().facts();
    let planned = facts.instance.next_retry_at;
    // As another Nexus, which found the room, has written.
    facts.instance.next_retry_at = Some(facts.now);
    for put_off in [requests::postpone_retry, requests::call_off_retry] {
        assert_eq!(put_off(&facts, planned), Err(Refusal::NoRestartNeeded));
    }
}

fn as_it_is(world: &World) -> InstanceChange {
    InstanceChange {
        boot_disk: None,
        hostname: None,
        ncpus: world.instance.ncpus,
        memory: world.instance.memory_bytes,
        cpu_platform: None,
        auto_restart_policy: world.instance.auto_restart_policy,
    }
}

fn larger(world: &World) -> InstanceChange {
    InstanceChange { ncpus: VcpuCount::new(4), ..as_it_is(world) }
}

fn restarts(world: &World, policy: AutoRestartPolicy) -> InstanceChange {
    InstanceChange { auto_restart_policy: Some(policy), ..as_it_is(world) }
}

#[test]
fn the_size_changes_only_at_rest_and_a_failed_start_is_then_tried_anew() {
    table(
        |w| requests::change(&w.facts(), &larger(w)),
        NOT_STOPPED,
        &[
            (&[Stopped, ShutDown, FailedToStay, StoppedAbandoned], "vcpus 4"),
            (
                &[FailedToStart, FailedForGood, FailedAbandoned],
                "vcpus 4; retry now; look now",
            ),
            (&[FailedAfterRun], "vcpus 4; look now"),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn the_hostname_changes_at_any_time_and_a_failed_start_is_then_tried_anew() {
    for situation in super::Situation::ALL {
        let world = situation.world();
        let facts = world.facts();
        let renamed = InstanceChange {
            hostname: Some("other.example".parse().unwrap()),
            ..as_it_is(&world)
        };
        match requests::change(&facts, &renamed) {
            Ok(changes) => {
                let new = changes.instance.expect("a change");
                assert_eq!(new.hostname.as_str(), "other.example");
                assert_eq!(new.time_modified, facts.now);
                assert_eq!(new.state, facts.instance.state);
                let failed = new.state == InstanceState::Failed;
                let allowed = new.auto_restart_enabled();
                if failed && allowed {
                    assert!(new.next_retry_at.is_some(), "{situation:?}");
                }
            }
            Err(refusal) => assert_eq!(refusal, Refusal::Deleted),
        }
    }
}

#[test]
fn restarts_are_forbidden_at_any_time_and_none_is_planned_then() {
    table(
        |w| {
            let change = restarts(w, AutoRestartPolicy::Never);
            requests::change(&w.facts(), &change)
        },
        "restarts never",
        &[
            (
                &[
                    TimedOut,
                    BootFailed,
                    FailedToStart,
                    FailedAfterRun,
                    FailedAbandoned,
                ],
                "restarts never; retry never",
            ),
            (&[FailedToStay], "nothing"),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn restarts_are_allowed_at_any_time_and_a_failed_start_is_tried_anew() {
    table(
        |w| {
            let change = restarts(w, AutoRestartPolicy::BestEffort);
            requests::change(&w.facts(), &change)
        },
        "restarts best_effort",
        &[
            (
                &[
                    TimedOut,
                    BootFailed,
                    FailedToStart,
                    FailedForGood,
                    FailedToStay,
                    FailedAbandoned,
                ],
                "restarts best_effort; retry now; look now",
            ),
            (&[FailedAfterRun], "restarts best_effort; look now"),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}

#[test]
fn a_change_does_not_shorten_the_cooldown_after_a_run() {
    let mut world = FailedAfterRun.world();
    let restarted = world.now - TimeDelta::seconds(60);
    world.instance.time_last_auto_restarted = Some(restarted);
    let changed = requests::change(&world.facts(), &larger(&world)).unwrap();
    let instance = changed.instance.unwrap();
    assert_eq!(instance.next_retry_at, Some(restarted + DEFAULT_COOLDOWN));

    world.instance.auto_restart_cooldown_secs = Some(90);
    let changed = requests::change(&world.facts(), &larger(&world)).unwrap();
    let instance = changed.instance.unwrap();
    let own = restarted + TimeDelta::seconds(90);
    assert_eq!(instance.next_retry_at, Some(own));
}

#[test]
fn a_change_to_what_is_so_already_changes_nothing() {
    for situation in super::Situation::ALL {
        let world = situation.world();
        let hostname = Some(world.instance.hostname.clone());
        let named = InstanceChange { hostname, ..as_it_is(&world) };
        for same in [as_it_is(&world), named] {
            match requests::change(&world.facts(), &same) {
                Ok(changes) => assert!(changes.is_empty(), "{situation:?}"),
                Err(refusal) => assert_eq!(refusal, Refusal::Deleted),
            }
        }
    }
}

#[test]
fn disks_are_moved_while_it_holds_no_place_on_a_sled() {
    table(
        |w| requests::move_disk(&w.facts()),
        NOT_STOPPED,
        &[
            (
                &[
                    Creating,
                    CreatingToStart,
                    Stopped,
                    ShutDown,
                    Waiting,
                    Claimed,
                    FailedAfterRun,
                    FailedToStay,
                ],
                "nothing",
            ),
            (&[FailedToStart, FailedForGood], "retry now; look now"),
            (
                &[FailedAbandoned, WaitingAbandoned, StoppedAbandoned],
                "refused: another VMM of the instance may run",
            ),
            (&[Deleted, DeletedAbandoned, Destroyed], DELETED),
        ],
    );
}
