//! How simulated guests behave.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// What of the behaviour to change; what is absent stays.
#[derive(
    Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize,
)]
pub struct Settings {
    /// How long a boot or a reboot takes.
    pub boot_ms: Option<u64>,
    /// How long a shutdown takes.
    pub stop_ms: Option<u64>,
    /// How long a guest has to shut down before it is killed.
    pub grace_ms: Option<u64>,
    /// How many of the boots fail, from 0.0 to 1.0.
    pub failure_share: Option<f64>,
}

/// What shall wait for a test to step it; what is absent stays.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
pub struct Hold {
    /// Guests that begin to boot or reboot stay at that.
    pub boot: Option<bool>,
    /// Guests that begin to shut down stay at that.
    pub stop: Option<bool>,
    /// The agent stays at recovering.
    pub recovery: Option<bool>,
}

/// What the simulated hypervisor goes by.
pub(super) struct Knobs {
    boot: Duration,
    stop: Duration,
    failure_share: f64,
    hold_boot: bool,
    hold_stop: bool,
}

impl Knobs {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut knobs = Self {
            boot: Duration::ZERO,
            stop: Duration::ZERO,
            failure_share: 0.0,
            hold_boot: false,
            hold_stop: false,
        };
        knobs.set(settings);
        knobs
    }

    pub(super) fn set(&mut self, settings: &Settings) {
        if let Some(ms) = settings.boot_ms {
            self.boot = Duration::from_millis(ms);
        }
        if let Some(ms) = settings.stop_ms {
            self.stop = Duration::from_millis(ms);
        }
        if let Some(share) = settings.failure_share {
            self.failure_share = share;
        }
    }

    /// What is held now: boots, stops.
    pub(super) fn hold(&mut self, hold: &Hold) -> (bool, bool) {
        self.hold_boot = hold.boot.unwrap_or(self.hold_boot);
        self.hold_stop = hold.stop.unwrap_or(self.hold_stop);
        (self.hold_boot, self.hold_stop)
    }

    /// The deadline of a first boot that begins now, and whether it fails.
    pub(super) fn boot(&self) -> (Option<DateTime<Utc>>, bool) {
        (self.boot_deadline(), draw() < self.failure_share)
    }

    /// The deadline of a boot or reboot that begins now; none if it is held.
    pub(super) fn boot_deadline(&self) -> Option<DateTime<Utc>> {
        (!self.hold_boot).then(|| Utc::now() + self.boot)
    }

    /// The deadline of a shutdown that begins now; none if it is held.
    pub(super) fn stop_deadline(&self) -> Option<DateTime<Utc>> {
        (!self.hold_stop).then(|| Utc::now() + self.stop)
    }
}

/// A number from 0.0 to 1.0, the latter excluded. Random UUIDs are the one
/// source of chance here that needs no more of them.
fn draw() -> f64 {
    let (high, _, _, _) = Uuid::new_v4().as_fields();
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}
