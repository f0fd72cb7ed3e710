//! What sleds say of VMMs: the one door.

use super::situations::Situation::*;
use super::world::{BOOT_ALLOWANCE, World};
use super::{Outcome, Situation, table};
use crate::lifecycle::reports::{Answer, Observation, VmmReport, observe};
use crate::lifecycle::{Changes, Refusal};
use crate::*;
use chrono::TimeDelta;
use uuid::Uuid;

const ENDED: &str = "refused: the VMM has ended";

impl Outcome for Answer {
    fn outcome(self) -> Result<Changes, Refusal> {
        match self {
            Answer::Taken(changes) => Ok(*changes),
            Answer::Stale => Ok(Changes::default()),
            Answer::Ended => Err(Refusal::VmmEnded),
        }
    }
}

/// The VMM that there is to say something of: the linked one, else one that
/// was abandoned.
fn vmm(world: &World) -> Option<&Vmm> {
    let abandoned =
        || world.vmms.values().find(|v| v.state == VmmState::Abandoned);
    world.linked().or_else(abandoned)
}

fn hears(world: &World, observation: &Observation) -> Answer {
    let id = vmm(world).map_or(VmmId(Uuid::nil()), |v| v.id);
    observe(&world.facts(), id, observation, BOOT_ALLOWANCE)
}

/// What a sled says next, in a report.
fn report(
    world: &World,
    state: VmmState,
    ever_ran: bool,
    end: Option<VmmEndReason>,
) -> Observation {
    Observation::Reported(VmmReport {
        generation: vmm(world).map_or(1, |v| v.generation + 1),
        state,
        ever_ran,
        end: end.map(|reason| (reason, None)),
    })
}

const ALIVE: &[Situation] = &[
    Placed,
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
];

/// Those whose VMM is not the pending attempt's.
const NOT_STARTING: &[Situation] = &[
    Running,
    Rebooting,
    GuestStopping,
    GuestStoppingAndAsked,
    Stopping,
    StoppedInBoot,
    TimedOut,
    TimedOutAndAsked,
];

const ABANDONED: &[Situation] =
    &[FailedAbandoned, WaitingAbandoned, StoppedAbandoned, DeletedAbandoned];

#[test]
fn a_report_that_it_boots_begins_its_time_to_boot() {
    table(
        |w| hears(w, &report(w, VmmState::Starting, false, None)),
        ENDED,
        &[
            (&[Ordered], "look in 120 s; VMM starting"),
            (&[Placed, Booting], "VMM starting"),
            (NOT_STARTING, "VMM starting"),
            (ABANDONED, "nothing"),
        ],
    );
    let mut world = Ordered.world();
    let began = world.now;
    let booting = report(&world, VmmState::Starting, false, None);
    world.observe(world.linked_id(), &booting);
    let deadline = world.linked().unwrap().boot_deadline;
    assert_eq!(deadline, Some(began + BOOT_ALLOWANCE));

    world.pass(TimeDelta::seconds(60));
    let again = report(&world, VmmState::Starting, false, None);
    world.observe(world.linked_id(), &again);
    assert_eq!(world.linked().unwrap().boot_deadline, deadline, "it stands");
}

#[test]
fn a_report_that_it_is_still_being_made_begins_nothing() {
    let mut world = Placed.world();
    let made = report(&world, VmmState::Creating, false, None);
    world.observe(world.linked_id(), &made);
    let vmm = world.linked().unwrap();
    assert_eq!((vmm.generation, vmm.boot_deadline), (1, None));
}

#[test]
fn a_report_that_it_runs_ends_the_attempt_as_started() {
    table(
        |w| hears(w, &report(w, VmmState::Running, true, None)),
        ENDED,
        &[
            (&[Placed], "attempt started; VMM running, may run"),
            (&[Ordered, Booting], "attempt started; VMM running"),
            (
                &[
                    Running,
                    Rebooting,
                    GuestStopping,
                    GuestStoppingAndAsked,
                    Stopping,
                ],
                "VMM running",
            ),
            (&[StoppedInBoot], "look now; VMM running"),
            // It came up after its attempt had been given up.
            (&[TimedOut], "failed starts 0; retry never; VMM running"),
            (&[TimedOutAndAsked], "attempt started; VMM running"),
            (ABANDONED, "nothing"),
        ],
    );
}

#[test]
fn what_failed_before_is_forgotten_once_it_runs_again() {
    let mut world = CrashedAndAsked.world();
    world.apply(&crate::lifecycle::steps::unlink(
        &world.facts(),
        world.linked_id(),
    ));
    assert_eq!(world.instance.last_failure_kind, Some(VmmEndReason::Panic));
    let mut world = world.boots();
    let runs = report(&world, VmmState::Running, true, None);
    world.observe(world.linked_id(), &runs);
    let instance = &world.instance;
    assert_eq!(instance.last_failure_kind, None);
    assert_eq!(instance.last_failure_message, None);
    assert_eq!(instance.time_last_failure, None);
}

#[test]
fn a_report_that_it_never_came_up_fails_the_attempt() {
    let failed = |w: &World| {
        report(w, VmmState::Failed, false, Some(VmmEndReason::BootFailed))
    };
    table(
        |w| hears(w, &failed(w)),
        ENDED,
        &[
            (
                &[Placed, Ordered, Booting],
                "failed starts 1; retry in 5 s; look now; \
                 attempt failed (boot_failed); VMM failed (boot_failed)",
            ),
            (NOT_STARTING, "look now; VMM failed (boot_failed)"),
            (ABANDONED, "look now; VMM failed (boot_failed); room given back"),
        ],
    );
}

#[test]
fn the_host_s_own_sentence_is_what_the_user_reads() {
    let world = Booting.world();
    let sentence = "The image has no boot sector.";
    let observation = Observation::Reported(VmmReport {
        generation: 9,
        state: VmmState::Failed,
        ever_ran: false,
        end: Some((VmmEndReason::BootFailed, Some(sentence.to_string()))),
    });
    let changes = hears(&world, &observation).outcome().unwrap();
    let failure = changes.attempt.unwrap().failure().unwrap();
    assert!(failure.message.ends_with(sentence), "{}", failure.message);
    let vmm = changes.vmm.unwrap();
    assert_eq!(vmm.failure_reason.as_deref(), Some(sentence));
}

#[test]
fn one_that_ran_and_died_between_two_reports_counts_as_started() {
    let died = |w: &World| {
        report(w, VmmState::Failed, true, Some(VmmEndReason::Panic))
    };
    table(
        |w| hears(w, &died(w)),
        ENDED,
        &[
            (
                &[Placed],
                "look now; attempt started; VMM failed (panic), may run",
            ),
            (
                &[Ordered, Booting],
                "look now; attempt started; VMM failed (panic)",
            ),
            // Another attempt waits: this end says nothing of it.
            (NOT_STARTING, "look now; VMM failed (panic)"),
            (ABANDONED, "look now; VMM failed (panic); room given back"),
        ],
    );
}

#[test]
fn a_guest_that_shuts_itself_down_ends_in_order() {
    let down = |w: &World| {
        let end = Some(VmmEndReason::GuestShutdown);
        report(w, VmmState::Destroyed, true, end)
    };
    table(
        |w| hears(w, &down(w)),
        ENDED,
        &[
            (
                &[Placed],
                "look now; attempt started; \
                 VMM destroyed (guest_shutdown), may run",
            ),
            (
                &[Ordered, Booting],
                "look now; attempt started; VMM destroyed (guest_shutdown)",
            ),
            (NOT_STARTING, "look now; VMM destroyed (guest_shutdown)"),
            (
                ABANDONED,
                "look now; VMM destroyed (guest_shutdown); room given back",
            ),
        ],
    );
}

#[test]
fn a_sled_that_does_not_know_a_vmm_has_lost_it_unless_it_may_be_on_its_way() {
    table(
        |w| hears(w, &Observation::Unknown),
        ENDED,
        &[
            (&[Placed, Ordered], "nothing"),
            (
                &[Booting],
                "failed starts 1; retry in 5 s; look now; \
                 attempt failed (boot_failed); VMM failed (gone)",
            ),
            (NOT_STARTING, "look now; VMM failed (gone)"),
            (ABANDONED, "look now; VMM failed (gone); room given back"),
        ],
    );
}

#[test]
fn a_vmm_that_its_sled_has_unregistered_is_over_whatever_it_was() {
    table(
        |w| hears(w, &Observation::Unregistered(None)),
        ENDED,
        &[
            // Whoever had it unregistered ends the attempt.
            (ALIVE, "look now; VMM destroyed (unwound)"),
            (ABANDONED, "look now; VMM destroyed (unwound); room given back"),
        ],
    );
}

#[test]
fn an_unregistered_vmm_keeps_the_end_that_it_had_before() {
    let world = TimedOut.world();
    let last = |end| {
        Observation::Unregistered(Some(VmmReport {
            generation: 7,
            state: VmmState::Failed,
            ever_ran: true,
            end,
        }))
    };
    for (end, kept) in [
        (None, VmmEndReason::Unwound),
        (Some(VmmEndReason::Requested), VmmEndReason::Unwound),
        (Some(VmmEndReason::Panic), VmmEndReason::Panic),
        (Some(VmmEndReason::GuestShutdown), VmmEndReason::GuestShutdown),
    ] {
        let observation = last(end.map(|reason| (reason, None)));
        let changes = hears(&world, &observation).outcome().unwrap();
        let vmm = changes.vmm.unwrap();
        assert_eq!(vmm.end_reason, Some(kept));
        assert_eq!((vmm.generation, vmm.ever_ran), (7, true));
    }
}

#[test]
fn a_sled_that_is_off_for_good_ends_every_vmm_that_it_had() {
    table(
        |w| hears(w, &Observation::Fenced),
        ENDED,
        &[
            (
                &[Placed, Ordered, Booting],
                "failed starts 1; retry in 5 s; look now; \
                 attempt failed (host_unreachable); VMM failed (fenced)",
            ),
            (NOT_STARTING, "look now; VMM failed (fenced)"),
            (ABANDONED, "look now; VMM failed (fenced); room given back"),
        ],
    );
}

#[test]
fn a_report_that_is_not_newer_is_no_news() {
    let world = Running.world();
    let known = world.linked().unwrap().generation;
    for generation in [0, known - 1, known] {
        let observation = Observation::Reported(VmmReport {
            generation,
            state: VmmState::Failed,
            ever_ran: true,
            end: Some((VmmEndReason::Panic, None)),
        });
        assert_eq!(hears(&world, &observation), Answer::Stale);
    }
}

#[test]
fn questions_that_went_unanswered_are_forgotten_at_the_next_word() {
    let mut world = Booting.world();
    let id = world.linked_id();
    world.vmms.get_mut(&id).unwrap().unanswered = 3;
    let word = report(&world, VmmState::Starting, false, None);
    world.observe(id, &word);
    assert_eq!(world.linked().unwrap().unanswered, 0);
}
