//! The table behind [`next`](super::next): every state, every event.

use super::{Event, GuestEvent, Refusal, StopCause};
use sled_agent_client::{FailureReason, VmmFailure, VmmState};

/// What an event does to a VMM.
pub(super) enum Move {
    /// Nothing: it is so already, or it does not matter any more.
    Stay,
    /// It is up.
    Run,
    /// It stays where it is, and is now known to have run.
    HasRun,
    /// It goes on to this state.
    To(VmmState),
    /// It goes down, for this cause.
    GoDown(VmmState, StopCause),
    /// It fails.
    Fail(VmmFailure),
}

pub(super) fn decide(state: VmmState, event: &Event) -> Result<Move, Refusal> {
    match event {
        Event::Run => run(state),
        Event::Stop(cause) => Ok(stop(state, *cause)),
        Event::Reboot => reboot(state),
        Event::Guest(event) => guest(state, event),
        Event::Released => released(state),
    }
}

/// No order revives a VMM that was told to stop.
fn run(state: VmmState) -> Result<Move, Refusal> {
    match state {
        VmmState::Creating => Ok(Move::To(VmmState::Starting)),
        VmmState::Starting
        | VmmState::Running
        | VmmState::Rebooting
        | VmmState::Migrating => Ok(Move::Stay),
        VmmState::Stopping
        | VmmState::Stopped
        | VmmState::Failed
        | VmmState::Destroyed => Err(Refusal::Stopping),
    }
}

/// The first cause stands.
fn stop(state: VmmState, cause: StopCause) -> Move {
    match state {
        VmmState::Creating => Move::GoDown(VmmState::Destroyed, cause),
        VmmState::Starting
        | VmmState::Running
        | VmmState::Rebooting
        | VmmState::Migrating => Move::GoDown(VmmState::Stopping, cause),
        VmmState::Stopping
        | VmmState::Stopped
        | VmmState::Failed
        | VmmState::Destroyed => Move::Stay,
    }
}

fn reboot(state: VmmState) -> Result<Move, Refusal> {
    match state {
        VmmState::Running => Ok(Move::To(VmmState::Rebooting)),
        VmmState::Creating
        | VmmState::Starting
        | VmmState::Rebooting
        | VmmState::Migrating
        | VmmState::Stopping
        | VmmState::Stopped
        | VmmState::Failed
        | VmmState::Destroyed => Err(Refusal::NotRunning),
    }
}

fn released(state: VmmState) -> Result<Move, Refusal> {
    match state {
        VmmState::Stopped => Ok(Move::To(VmmState::Destroyed)),
        VmmState::Failed | VmmState::Destroyed => Ok(Move::Stay),
        VmmState::Creating
        | VmmState::Starting
        | VmmState::Running
        | VmmState::Rebooting
        | VmmState::Migrating
        | VmmState::Stopping => Err(Refusal::NotHalted),
    }
}

fn guest(state: VmmState, event: &GuestEvent) -> Result<Move, Refusal> {
    match state {
        VmmState::Creating => Err(Refusal::NoGuest),
        VmmState::Starting => Ok(match event {
            GuestEvent::Booted => Move::Run,
            GuestEvent::Rebooted => Move::Stay,
            GuestEvent::BootFailed { .. }
            | GuestEvent::ShutDown
            | GuestEvent::Halted
            | GuestEvent::Panicked
            | GuestEvent::Died { .. }
            | GuestEvent::Fenced => loss(event),
        }),
        VmmState::Running | VmmState::Migrating => Ok(match event {
            // A guest that resets itself is no business of ours.
            GuestEvent::Booted | GuestEvent::Rebooted => Move::Stay,
            GuestEvent::BootFailed { .. }
            | GuestEvent::ShutDown
            | GuestEvent::Halted
            | GuestEvent::Panicked
            | GuestEvent::Died { .. }
            | GuestEvent::Fenced => loss(event),
        }),
        VmmState::Rebooting => Ok(match event {
            // That is the boot from before, told again.
            GuestEvent::Booted => Move::Stay,
            GuestEvent::Rebooted => Move::Run,
            GuestEvent::BootFailed { .. }
            | GuestEvent::ShutDown
            | GuestEvent::Halted
            | GuestEvent::Panicked
            | GuestEvent::Died { .. }
            | GuestEvent::Fenced => loss(event),
        }),
        VmmState::Stopping => Ok(match event {
            // Told to stop while it started, and quicker than that.
            GuestEvent::Booted => Move::HasRun,
            GuestEvent::Rebooted | GuestEvent::ShutDown => Move::Stay,
            // It was to halt, and has: how is not a failure any more.
            GuestEvent::Halted
            | GuestEvent::BootFailed { .. }
            | GuestEvent::Panicked
            | GuestEvent::Died { .. }
            | GuestEvent::Fenced => Move::To(VmmState::Stopped),
        }),
        VmmState::Stopped => Ok(Move::Stay),
        VmmState::Failed | VmmState::Destroyed => Err(Refusal::Ended),
    }
}

/// What becomes of a guest that should be up and is not.
fn loss(event: &GuestEvent) -> Move {
    let (reason, message) = match event {
        GuestEvent::Booted | GuestEvent::Rebooted => return Move::Stay,
        GuestEvent::ShutDown => {
            return Move::GoDown(VmmState::Stopping, StopCause::GuestShutdown);
        }
        GuestEvent::Fenced => {
            return Move::GoDown(VmmState::Stopped, StopCause::Fenced);
        }
        GuestEvent::BootFailed { message } => {
            (FailureReason::BootFailed, message.clone())
        }
        GuestEvent::Panicked => {
            (FailureReason::Panic, "The guest's kernel panicked.".to_string())
        }
        GuestEvent::Died { message } => {
            (FailureReason::HypervisorDied, message.clone())
        }
        GuestEvent::Halted => (
            FailureReason::HypervisorDied,
            "The guest halted without being told to.".to_string(),
        ),
    };
    Move::Fail(VmmFailure { reason, message })
}
