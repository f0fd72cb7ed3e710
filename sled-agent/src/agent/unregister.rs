//! Being rid of a VMM, for good.
//!
//! In this order, so that a crash between any two leaves what the repeated
//! request can finish: the VMM is told to stop; it ends; a tombstone takes its
//! place, and with that its last report, if Nexus has not taken it yet, goes to
//! the outbox.

use super::{Agent, AgentError};
use crate::machine::{Event, StopCause};
use crate::slot::{Seat, Slot};
use crate::store::Tombstone;
use crate::vmm::{Grace, Vmm};
use sled_agent_client::VmmReport;
use slog::info;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long a request waits for a VMM to be killed: longer than any asker
/// does, and not for ever, so that repeated requests do not pile up.
const PATIENCE: Duration = Duration::from_secs(30);

impl Agent {
    /// Kills and forgets a VMM, and keeps its id out from now on.
    ///
    /// *Idempotency*: the answer is the same each time.
    pub(crate) async fn unregister(
        &self,
        vmm_id: Uuid,
    ) -> Result<Option<VmmReport>, AgentError> {
        loop {
            let slot = self.table.get_or_make(vmm_id);
            if self.end(&slot).await? {
                self.wait_for_end(&slot).await?;
            }
            let mut seat = slot.seat.lock().await;
            let buried = match &*seat {
                Seat::Taken(vmm) if vmm.has_ended() => self.bury(vmm).await,
                Seat::Vacant => self.bury_unknown(vmm_id).await,
                // It came to be after the look above, or is gone since.
                Seat::Taken(_) | Seat::Gone => continue,
            };
            let vacant = matches!(&*seat, Seat::Vacant);
            if buried.is_ok() || vacant {
                self.table.remove(&slot, &mut seat);
            }
            return buried;
        }
    }

    /// Tells a VMM to end at once; whether there is one.
    async fn end(&self, slot: &Slot) -> Result<bool, AgentError> {
        let stop = Event::Stop(StopCause::Requested);
        match self.apply(slot, &stop, Grace::IsOver).await {
            Ok(_) => Ok(true),
            Err(AgentError::NoSuchVmm) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn wait_for_end(&self, slot: &Arc<Slot>) -> Result<(), AgentError> {
        let mut shown = slot.shown.subscribe();
        let ended =
            shown.wait_for(|vmm| vmm.as_ref().is_none_or(Vmm::has_ended));
        match tokio::time::timeout(PATIENCE, ended).await {
            // Its sender is in the slot, and lives.
            Ok(_) => Ok(()),
            Err(_) => Err(AgentError::StillAlive),
        }
    }

    async fn bury(&self, vmm: &Vmm) -> Result<Option<VmmReport>, AgentError> {
        let (vmm_id, report) = (vmm.vmm_id, vmm.report());
        // Its keeper may not have come to that yet, and finds it gone then.
        self.hypervisor.release(vmm_id).await?;
        let untold = self.reports.waiting(vmm_id).is_some();
        let tombstone = Tombstone { vmm_id, report: Some(report.clone()) };
        self.store.bury(&tombstone, untold.then_some(&report)).await?;
        info!(self.log, "a VMM was unregistered"; "vmm_id" => %vmm_id);
        Ok(Some(report))
    }

    async fn bury_unknown(
        &self,
        vmm_id: Uuid,
    ) -> Result<Option<VmmReport>, AgentError> {
        if let Some(tombstone) = self.store.tombstone(vmm_id).await? {
            return Ok(tombstone.report);
        }
        let tombstone = Tombstone { vmm_id, report: None };
        self.store.bury(&tombstone, None).await?;
        // Of one that was not recorded for sure.
        self.blocks.give_back(vmm_id, false).await?;
        info!(self.log, "an unknown VMM was unregistered";
            "vmm_id" => %vmm_id);
        Ok(None)
    }
}
