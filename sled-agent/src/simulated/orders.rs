//! What the agent tells the simulated hypervisor.

use super::guest::{Guest, Phase};
use super::{GUEST, Simulated, broken};
use crate::counters::HypervisorCall;
use crate::hypervisor::{Hypervisor, HypervisorError, may_start};
use crate::ledger::Change;
use crate::machine::GuestEvent;
use async_trait::async_trait;
use sled_agent_client::VmmRegister;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl Hypervisor for Simulated {
    async fn boot(
        &self,
        vmm_id: Uuid,
        spec: &VmmRegister,
    ) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Boot);
        may_start(&self.0.lease)?;
        let (until, fails) = self.knobs().boot();
        self.change(vmm_id, |guest| match guest {
            None => {
                let booting = Phase::Booting { until, fails };
                // Where that takes no time, it is one turn, and not two.
                let (phase, event) = match booting.due(self.guests_now()) {
                    Some((phase, event)) => (phase, Some(event)),
                    None => (booting, None),
                };
                let hostname = spec.hostname.clone();
                Some((Guest { vmm_id, hostname, phase, turn: 0 }, event))
            }
            Some(guest) => Some((guest.clone(), guest.phase.last_event())),
        })
        .await?;
        Ok(())
    }

    async fn reset(
        &self,
        vmm_id: Uuid,
        turn: u64,
    ) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Reset);
        may_start(&self.0.lease)?;
        let until = self.knobs().boot_deadline();
        self.change(vmm_id, |guest| {
            let guest = guest?;
            match guest.phase {
                Phase::Running if guest.turn < turn => {
                    let phase = Phase::Resetting { until };
                    Some((Guest { phase, turn, ..guest.clone() }, None))
                }
                Phase::Running => {
                    Some((guest.clone(), Some(GuestEvent::Rebooted)))
                }
                Phase::Booting { .. }
                | Phase::Resetting { .. }
                | Phase::ShuttingDown { .. }
                | Phase::Ended(_) => {
                    Some((guest.clone(), guest.phase.last_event()))
                }
            }
        })
        .await?;
        Ok(())
    }

    async fn shut_down(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::ShutDown);
        let until = self.knobs().stop_deadline();
        let there = self.change(vmm_id, |guest| {
            let guest = guest?;
            match guest.phase {
                Phase::Booting { .. }
                | Phase::Running
                | Phase::Resetting { .. } => {
                    let phase = Phase::ShuttingDown { until, by_itself: false };
                    Some((Guest { phase, ..guest.clone() }, None))
                }
                Phase::ShuttingDown { .. } => Some((guest.clone(), None)),
                Phase::Ended(_) => {
                    Some((guest.clone(), Some(GuestEvent::Halted)))
                }
            }
        });
        if !there.await? {
            self.tell(vmm_id, GuestEvent::Halted);
        }
        Ok(())
    }

    async fn kill(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Kill);
        self.change(vmm_id, |guest| {
            let guest = guest?;
            let phase = match guest.phase {
                Phase::Ended(_) => return None,
                Phase::Booting { .. }
                | Phase::Running
                | Phase::Resetting { .. }
                | Phase::ShuttingDown { .. } => {
                    Phase::Ended(GuestEvent::Halted)
                }
            };
            Some((Guest { phase, ..guest.clone() }, None))
        })
        .await?;
        Ok(())
    }

    async fn release(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        let place = self.places().get(&vmm_id).cloned();
        let Some(place) = place else { return Ok(()) };
        let mut seat = place.lock().await;
        let removed = vec![Change::remove(GUEST, vmm_id)];
        self.0
            .facts
            .write(removed)
            .await
            .map_err(|error| broken("a guest cannot be removed", error))?;
        *seat = None;
        self.places().remove(&vmm_id);
        Ok(())
    }

    async fn console_input(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError> {
        self.echo(vmm_id, bytes).await
    }

    async fn recover(
        &self,
    ) -> Result<HashMap<Uuid, Option<GuestEvent>>, HypervisorError> {
        let guests: Vec<Guest> = self
            .0
            .facts
            .all(GUEST)
            .await
            .map_err(|error| broken("the guests cannot be read", error))?;
        let mut found = HashMap::new();
        for guest in guests {
            let vmm_id = guest.vmm_id;
            let phase = match guest.phase.due(self.guests_now()) {
                Some((phase, _)) => phase,
                None => guest.phase.clone(),
            };
            found.insert(vmm_id, phase.last_event());
            let place = Arc::clone(self.places().entry(vmm_id).or_default());
            *place.lock().await = Some(guest.clone());
            if phase == guest.phase {
                self.arm(&guest);
                continue;
            }
            self.change(vmm_id, |guest| {
                Some((Guest { phase, ..guest?.clone() }, None))
            })
            .await?;
        }
        Ok(found)
    }
}
