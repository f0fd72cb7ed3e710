//! A VMM as this sled keeps it: what it was asked for, and what it is now.

use crate::machine::{self, Event, Refusal, Status};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sled_agent_client::{VmmRegister, VmmReport, VmmState};
use std::time::Duration;
use uuid::Uuid;

/// What stands in `vmm`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Vmm {
    pub(crate) vmm_id: Uuid,
    pub(crate) spec: VmmRegister,
    pub(crate) status: Status,
    pub(crate) time_updated: DateTime<Utc>,
    /// When it is killed if it has not halted; set if it was told to stop.
    pub(crate) kill_at: Option<DateTime<Utc>>,
}

/// How much time a VMM has to halt by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grace {
    /// This long, from the first order to stop.
    Lasts(Duration),
    /// None, whatever it had before.
    IsOver,
}

impl Vmm {
    pub(crate) fn new(
        vmm_id: Uuid,
        spec: VmmRegister,
        now: DateTime<Utc>,
    ) -> Self {
        let status = Status::new();
        Self { vmm_id, spec, status, time_updated: now, kill_at: None }
    }

    /// What it becomes by `event` at the time `now`; the same if the event
    /// changes nothing.
    pub(crate) fn next(
        &self,
        event: &Event,
        grace: Grace,
        now: DateTime<Utc>,
    ) -> Result<Self, Refusal> {
        let status = machine::next(&self.status, event)?;
        let mut next = self.clone();
        if status.state == VmmState::Stopping {
            next.kill_at = match grace {
                Grace::IsOver => Some(self.kill_at.unwrap_or(now).min(now)),
                Grace::Lasts(grace) => {
                    self.kill_at.or_else(|| Some(now + grace))
                }
            };
        }
        if status != self.status {
            next.status = status;
            next.time_updated = now;
        }
        Ok(next)
    }

    pub(crate) fn report(&self) -> VmmReport {
        VmmReport {
            vmm_id: self.vmm_id,
            instance_id: self.spec.instance_id,
            generation: self.status.generation,
            state: self.status.state,
            ever_ran: self.status.ever_ran,
            failure: self.status.failure.clone(),
            end_reason: self.status.end_reason(),
            time_updated: self.time_updated,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.status.state.is_ended()
    }

    /// Whether the time has come to kill it.
    pub(crate) fn must_be_killed(&self, now: DateTime<Utc>) -> bool {
        self.status.state == VmmState::Stopping
            && self.kill_at.is_some_and(|at| at <= now)
    }
}
