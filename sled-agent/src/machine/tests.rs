//! The machine as a table, and what holds for every way through it.

use super::{Event, GuestEvent, Refusal, Status, StopCause, next};
use proptest::prelude::*;
use sled_agent_client::VmmState::{self, *};

const STATES: [VmmState; 9] = [
    Creating, Starting, Running, Stopping, Stopped, Rebooting, Migrating,
    Failed, Destroyed,
];

fn died() -> GuestEvent {
    GuestEvent::Died { message: "It died.".to_string() }
}

fn boot_failed() -> GuestEvent {
    GuestEvent::BootFailed { message: "It would not boot.".to_string() }
}

fn events() -> Vec<Event> {
    let guest = [
        GuestEvent::Booted,
        boot_failed(),
        GuestEvent::Rebooted,
        GuestEvent::ShutDown,
        GuestEvent::Halted,
        GuestEvent::Panicked,
        died(),
        GuestEvent::Fenced,
    ];
    let mut events = vec![
        Event::Run,
        Event::Stop(StopCause::Requested),
        Event::Reboot,
        Event::Released,
    ];
    events.extend(guest.into_iter().map(Event::Guest));
    events
}

/// A VMM in that state, as it would have come there.
fn at(state: VmmState) -> Status {
    let down = matches!(state, Stopping | Stopped | Destroyed);
    let failed = next(
        &Status { state: Running, ..Status::new() },
        &Event::Guest(GuestEvent::Panicked),
    );
    Status {
        generation: 7,
        state,
        ever_ran: state != Creating && state != Starting,
        stop_cause: down.then_some(StopCause::Requested),
        failure: failed.unwrap().failure.filter(|_| state == Failed),
    }
}

#[test]
fn each_state_and_event_leads_where_the_table_says() {
    const STOPPING: Result<VmmState, Refusal> = Err(Refusal::Stopping);
    const NOT_RUNNING: Result<VmmState, Refusal> = Err(Refusal::NotRunning);
    const NOT_HALTED: Result<VmmState, Refusal> = Err(Refusal::NotHalted);
    const NO_GUEST: Result<VmmState, Refusal> = Err(Refusal::NoGuest);
    const ENDED: Result<VmmState, Refusal> = Err(Refusal::Ended);
    // In the order of `STATES`.
    let table: [(Event, [Result<VmmState, Refusal>; 9]); 12] = [
        (
            Event::Run,
            [
                Ok(Starting),
                Ok(Starting),
                Ok(Running),
                STOPPING,
                STOPPING,
                Ok(Rebooting),
                Ok(Migrating),
                STOPPING,
                STOPPING,
            ],
        ),
        (
            Event::Stop(StopCause::Fenced),
            [
                Ok(Destroyed),
                Ok(Stopping),
                Ok(Stopping),
                Ok(Stopping),
                Ok(Stopped),
                Ok(Stopping),
                Ok(Stopping),
                Ok(Failed),
                Ok(Destroyed),
            ],
        ),
        (
            Event::Reboot,
            [
                NOT_RUNNING,
                NOT_RUNNING,
                Ok(Rebooting),
                NOT_RUNNING,
                NOT_RUNNING,
                NOT_RUNNING,
                NOT_RUNNING,
                NOT_RUNNING,
                NOT_RUNNING,
            ],
        ),
        (
            Event::Released,
            [
                NOT_HALTED,
                NOT_HALTED,
                NOT_HALTED,
                NOT_HALTED,
                Ok(Destroyed),
                NOT_HALTED,
                NOT_HALTED,
                Ok(Failed),
                Ok(Destroyed),
            ],
        ),
        (
            Event::Guest(GuestEvent::Booted),
            [
                NO_GUEST,
                Ok(Running),
                Ok(Running),
                Ok(Stopping),
                Ok(Stopped),
                Ok(Rebooting),
                Ok(Migrating),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(GuestEvent::Rebooted),
            [
                NO_GUEST,
                Ok(Starting),
                Ok(Running),
                Ok(Stopping),
                Ok(Stopped),
                Ok(Running),
                Ok(Migrating),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(GuestEvent::ShutDown),
            [
                NO_GUEST,
                Ok(Stopping),
                Ok(Stopping),
                Ok(Stopping),
                Ok(Stopped),
                Ok(Stopping),
                Ok(Stopping),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(GuestEvent::Halted),
            [
                NO_GUEST,
                Ok(Failed),
                Ok(Failed),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Failed),
                Ok(Failed),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(boot_failed()),
            [
                NO_GUEST,
                Ok(Failed),
                Ok(Failed),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Failed),
                Ok(Failed),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(GuestEvent::Panicked),
            [
                NO_GUEST,
                Ok(Failed),
                Ok(Failed),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Failed),
                Ok(Failed),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(died()),
            [
                NO_GUEST,
                Ok(Failed),
                Ok(Failed),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Failed),
                Ok(Failed),
                ENDED,
                ENDED,
            ],
        ),
        (
            Event::Guest(GuestEvent::Fenced),
            [
                NO_GUEST,
                Ok(Stopped),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Stopped),
                Ok(Stopped),
                ENDED,
                ENDED,
            ],
        ),
    ];
    for (event, row) in table {
        for (state, expected) in STATES.into_iter().zip(row) {
            let got = next(&at(state), &event).map(|status| status.state);
            assert_eq!(got, expected, "{state:?} by {event:?}");
        }
    }
}

#[test]
fn a_guest_that_boots_while_told_to_stop_has_run() {
    let told = Status { ever_ran: false, ..at(Stopping) };
    let after = next(&told, &Event::Guest(GuestEvent::Booted)).unwrap();
    assert!(after.ever_ran);
    assert_eq!(after.generation, told.generation + 1);
}

#[test]
fn a_guest_that_its_lease_ended_was_fenced_unless_it_was_told_to_stop() {
    let over = Event::Guest(GuestEvent::Fenced);
    for (state, cause) in [
        (Starting, StopCause::Fenced),
        (Running, StopCause::Fenced),
        (Stopping, StopCause::Requested),
    ] {
        let stopped = next(&at(state), &over).unwrap();
        assert_eq!(stopped.stop_cause, Some(cause), "{state:?}");
    }
}

#[test]
fn the_first_cause_of_a_stop_stands() {
    let own = Event::Guest(GuestEvent::ShutDown);
    let shut = next(&at(Running), &own).unwrap();
    let asked = next(&shut, &Event::Stop(StopCause::Requested)).unwrap();
    assert_eq!(asked.stop_cause, Some(StopCause::GuestShutdown));
}

/// Where a single event may lead.
fn is_a_step(from: VmmState, to: VmmState) -> bool {
    matches!(
        (from, to),
        (Creating, Starting | Destroyed)
            | (Starting, Running | Stopping | Stopped | Failed)
            | (Running, Rebooting | Stopping | Stopped | Failed)
            | (Rebooting, Running | Stopping | Stopped | Failed)
            | (Stopping, Stopped)
            | (Stopped, Destroyed)
    )
}

proptest! {
    #[test]
    fn states_move_only_along_the_machine(
        walk in prop::collection::vec(prop::sample::select(events()), 0..40),
    ) {
        let mut status = Status::new();
        let mut told_to_stop = false;
        for event in walk {
            let Ok(after) = next(&status, &event) else { continue };
            if after == status {
                told_to_stop |= matches!(event, Event::Stop(_));
                continue;
            }
            prop_assert_eq!(after.generation, status.generation + 1);
            prop_assert!(
                after.state == status.state
                    || is_a_step(status.state, after.state)
            );
            prop_assert!(!status.state.is_ended(), "an end is an end");
            prop_assert!(after.ever_ran >= status.ever_ran);
            prop_assert!(after.ever_ran || after.state != Running);
            told_to_stop |= matches!(event, Event::Stop(_));
            if told_to_stop {
                prop_assert!(matches!(
                    after.state,
                    Stopping | Stopped | Destroyed | Failed
                ));
            }
            prop_assert_eq!(after.failure.is_some(), after.state == Failed);
            prop_assert_eq!(
                after.end_reason().is_some(),
                after.state.is_ended()
            );
            status = after;
        }
    }
}
