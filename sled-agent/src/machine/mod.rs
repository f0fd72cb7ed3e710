//! The life of a VMM: the one decision about what it may become.
//!
//! ```text
//!            run            booted             reboot
//! creating ------> starting ------> running <--------> rebooting
//!    |                |                |    rebooted       |
//!    | stop           +-------+--------+-------------------+
//!    |                        |                  |
//!    |             stop, or the guest's own      | it could not boot, it
//!    |             shutdown   |                  | panicked, its hypervisor
//!    |                        v                  | died
//!    |                    stopping               |
//!    |                        | halted           |
//!    |                        v                  v
//!    |                    stopped             failed
//!    |                        | released
//!    |                        v
//!    +-----------------> destroyed
//! ```
//!
//! A guest that was ended with its lease is `stopped` at once, for that cause.
//!
//! Everything that befalls a VMM goes through [`next`]: the orders of Nexus
//! and the events of a hypervisor, at work and while recovering. It has no
//! clock and does no I/O.

mod decide;
#[cfg(test)]
mod tests;

use decide::Move;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sled_agent_client::{
    EndReason, FailureReason, RefusalCode, VmmFailure, VmmState,
};

/// What a VMM is at one moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Starts at 1 and rises with every other change in here.
    pub(crate) generation: u64,
    /// What it is doing.
    pub(crate) state: VmmState,
    /// Whether it was ever `running`.
    pub(crate) ever_ran: bool,
    /// Why it goes down or went down in order; set once.
    pub(crate) stop_cause: Option<StopCause>,
    /// What went wrong; set if and only if it is `failed`.
    pub(crate) failure: Option<VmmFailure>,
}

impl Status {
    /// A VMM that was just registered.
    pub(crate) fn new() -> Self {
        Self {
            generation: 1,
            state: VmmState::Creating,
            ever_ran: false,
            stop_cause: None,
            failure: None,
        }
    }

    /// Why it ended, if it has.
    pub(crate) fn end_reason(&self) -> Option<EndReason> {
        let failed =
            self.failure.as_ref().map(|failure| match failure.reason {
                FailureReason::BootFailed => EndReason::BootFailed,
                FailureReason::Panic => EndReason::Panic,
                FailureReason::HypervisorDied => EndReason::HypervisorDied,
            });
        let stopped = self.stop_cause.map(|cause| match cause {
            StopCause::Requested => EndReason::Requested,
            StopCause::GuestShutdown => EndReason::GuestShutdown,
            StopCause::Fenced => EndReason::Fenced,
        });
        failed.or(stopped).filter(|_| self.state.is_ended())
    }
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a VMM goes down in order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopCause {
    /// Nexus asked for it.
    Requested,
    /// The guest shut itself down.
    GuestShutdown,
    /// The sled is no longer of the fleet, or cut off from it.
    Fenced,
}

/// What can befall a VMM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// The order to run.
    Run,
    /// The order to go down: gracefully or by force makes no difference to
    /// where that leads.
    Stop(StopCause),
    /// The order to reboot.
    Reboot,
    /// Something happened to the guest.
    Guest(GuestEvent),
    /// Of the halted guest nothing is left on the host.
    Released,
}

/// What a hypervisor tells of a guest.
///
/// `BootFailed`, `Panicked`, `Died`, `Fenced` and `Halted` are told only once
/// the guest is halted for good. Each may be told more than once.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GuestEvent {
    /// It is up.
    Booted,
    /// It never came up.
    BootFailed {
        /// Why, in a sentence to the instance's user.
        message: String,
    },
    /// It is up again, after the reset that it was told.
    Rebooted,
    /// It began to shut itself down, or has done so.
    ShutDown,
    /// It halted as it was told to.
    Halted,
    /// Its kernel gave up.
    Panicked,
    /// The hypervisor ended under it.
    Died {
        /// Why, in a sentence to the instance's user.
        message: String,
    },
    /// The lease under which it ran was over, and it was stopped for that.
    Fenced,
}

/// Why an event changes nothing, though whoever sent it expected it to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Ordered to run after it was told to stop.
    #[error("the VMM was told to stop or has ended and will not run again")]
    Stopping,
    /// Ordered to reboot while not running.
    #[error("the VMM is not running and cannot be rebooted")]
    NotRunning,
    /// News of a guest from before there was one.
    #[error("the VMM has no guest yet")]
    NoGuest,
    /// News of a guest from after its end.
    #[error("the VMM has ended")]
    Ended,
    /// Released while its guest may be alive.
    #[error("the VMM has not halted")]
    NotHalted,
}

impl Refusal {
    /// What it is to Nexus; none if no order of Nexus is refused so.
    pub(crate) fn code(self) -> Option<RefusalCode> {
        match self {
            Self::Stopping => Some(RefusalCode::VmmStopping),
            Self::NotRunning => Some(RefusalCode::NotRunning),
            Self::NoGuest | Self::Ended | Self::NotHalted => None,
        }
    }
}

/// What `status` becomes by `event`: the same if the event changes nothing.
///
/// *Errors*: the event does not fit; the status stays as it is.
pub(crate) fn next(status: &Status, event: &Event) -> Result<Status, Refusal> {
    let mut next = status.clone();
    match decide::decide(status.state, event)? {
        Move::Stay => {}
        Move::Run => {
            next.state = VmmState::Running;
            next.ever_ran = true;
        }
        Move::HasRun => next.ever_ran = true,
        Move::To(state) => next.state = state,
        Move::GoDown(state, cause) => {
            next.state = state;
            next.stop_cause = Some(cause);
        }
        Move::Fail(failure) => {
            next.state = VmmState::Failed;
            next.failure = Some(failure);
        }
    }
    if next != *status {
        next.generation = status.generation.saturating_add(1);
    }
    Ok(next)
}
