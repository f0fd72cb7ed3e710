//! A simulated guest: a fact with a deadline.
//!
//! It needs nobody to run: what it is doing at a moment follows from what was
//! written down and from the time.

use crate::machine::GuestEvent;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What stands in `guest`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Guest {
    pub(super) vmm_id: Uuid,
    /// What it calls itself.
    pub(super) hostname: String,
    pub(super) phase: Phase,
    /// The last reset that it was told.
    pub(super) turn: u64,
}

/// What it is doing. One without a deadline is held: it stays there until a
/// test steps it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Coming up, or, if it is to fail, finding out that it cannot.
    Booting {
        until: Option<DateTime<Utc>>,
        fails: bool,
    },
    Running,
    /// Coming up again.
    Resetting {
        until: Option<DateTime<Utc>>,
    },
    /// Going down, told to or by itself.
    ShuttingDown {
        until: Option<DateTime<Utc>>,
        by_itself: bool,
    },
    /// Halted: by shutting itself down, as it was told to, or badly.
    Ended(GuestEvent),
}

/// What a test may have a guest do, now.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestStep {
    /// Be up, if it boots or reboots.
    Booted,
    /// Fail to boot.
    BootFailed {
        /// Why, in a sentence to the instance's user.
        message: String,
    },
    /// Be halted, if it shuts down.
    Halted,
    /// Shut itself down.
    Shutdown,
    /// Panic.
    Panic,
    /// Have its hypervisor die.
    HypervisorDied,
    /// Be forgotten by the whole host, with no tombstone and no report: the
    /// VMM too.
    Forget,
}

/// A guest after something happened to it, and what to tell of that.
pub(super) type Happened = (Phase, GuestEvent);

impl Phase {
    /// When it goes on by itself.
    pub(super) fn deadline(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Booting { until, .. }
            | Self::Resetting { until }
            | Self::ShuttingDown { until, .. } => *until,
            Self::Running | Self::Ended(_) => None,
        }
    }

    /// What happens to it by itself, if its time has come.
    pub(super) fn due(&self, now: DateTime<Utc>) -> Option<Happened> {
        self.deadline().filter(|at| *at <= now)?;
        self.complete()
    }

    /// What it is on its way to.
    fn complete(&self) -> Option<Happened> {
        match self {
            Self::Booting { fails: false, .. } => {
                Some((Self::Running, GuestEvent::Booted))
            }
            Self::Booting { fails: true, .. } => {
                Some(ended(boot_failed("The guest did not come up.")))
            }
            Self::Resetting { .. } => {
                Some((Self::Running, GuestEvent::Rebooted))
            }
            Self::ShuttingDown { by_itself: true, .. } => {
                Some((Self::Ended(GuestEvent::ShutDown), GuestEvent::Halted))
            }
            Self::ShuttingDown { by_itself: false, .. } => {
                Some(ended(GuestEvent::Halted))
            }
            Self::Running | Self::Ended(_) => None,
        }
    }

    /// The same, with a deadline if it was held.
    pub(super) fn let_go(
        &self,
        boot: bool,
        stop: bool,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let until = Some(now);
        match self {
            Self::Booting { until: None, fails } if !boot => {
                Some(Self::Booting { until, fails: *fails })
            }
            Self::Resetting { until: None } if !boot => {
                Some(Self::Resetting { until })
            }
            Self::ShuttingDown { until: None, by_itself } if !stop => {
                Some(Self::ShuttingDown { until, by_itself: *by_itself })
            }
            Self::Booting { .. }
            | Self::Running
            | Self::Resetting { .. }
            | Self::ShuttingDown { .. }
            | Self::Ended(_) => None,
        }
    }

    /// The last that befell it; none if it is still on its way.
    ///
    /// Of a guest that shut itself down that is the shutdown: that it halted
    /// is told when it is asked to shut down.
    pub(super) fn last_event(&self) -> Option<GuestEvent> {
        match self {
            Self::Booting { .. } => None,
            Self::Running | Self::Resetting { .. } => Some(GuestEvent::Booted),
            Self::ShuttingDown { by_itself: true, .. } => {
                Some(GuestEvent::ShutDown)
            }
            Self::ShuttingDown { by_itself: false, .. } => None,
            Self::Ended(event) => Some(event.clone()),
        }
    }

    /// What a test has it do; none if it is in no state to. `going_down` is
    /// the deadline of a shutdown that begins now.
    pub(super) fn step(
        &self,
        step: &GuestStep,
        going_down: Option<DateTime<Utc>>,
    ) -> Option<Happened> {
        let booting = matches!(self, Self::Booting { .. });
        let coming_up = booting || matches!(self, Self::Resetting { .. });
        let going = matches!(self, Self::ShuttingDown { .. });
        let alive = !matches!(self, Self::Ended(_));
        match step {
            GuestStep::Booted if booting => {
                Some((Self::Running, GuestEvent::Booted))
            }
            GuestStep::Booted if coming_up => self.complete(),
            GuestStep::BootFailed { message } if booting => {
                Some(ended(boot_failed(message)))
            }
            GuestStep::Halted if going => self.complete(),
            GuestStep::Shutdown if alive && !going => {
                let shutting_down =
                    Self::ShuttingDown { until: going_down, by_itself: true };
                Some((shutting_down, GuestEvent::ShutDown))
            }
            GuestStep::Panic if alive => Some(ended(GuestEvent::Panicked)),
            GuestStep::HypervisorDied if alive => Some(ended(died())),
            GuestStep::Booted
            | GuestStep::BootFailed { .. }
            | GuestStep::Halted
            | GuestStep::Shutdown
            | GuestStep::Panic
            | GuestStep::HypervisorDied
            | GuestStep::Forget => None,
        }
    }
}

fn ended(event: GuestEvent) -> Happened {
    (Phase::Ended(event.clone()), event)
}

fn boot_failed(message: &str) -> GuestEvent {
    GuestEvent::BootFailed { message: message.to_string() }
}

fn died() -> GuestEvent {
    GuestEvent::Died {
        message: "The hypervisor ended unexpectedly.".to_string(),
    }
}
