//! Finding everything again after a restart.

use super::{Agent, AgentError};
use crate::machine::{Event, GuestEvent};
use crate::slot::{Seat, Slot};
use crate::vmm::Vmm;
use sled_agent_client::VmmState;
use slog::{info, warn};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

/// Guests as the hypervisor found them, each with the last that befell it.
type Found = HashMap<Uuid, Option<GuestEvent>>;

impl Agent {
    /// Finds the VMMs and guests of an earlier agent, takes in what happened
    /// to them since, and tells Nexus of all. From then on requests are
    /// answered. Called once.
    ///
    /// *Errors*: something cannot be read; no VMM may be taken for gone on
    /// that account, so the agent is of no use.
    pub(crate) async fn recover(
        self: &Arc<Self>,
        events: UnboundedReceiver<(Uuid, GuestEvent)>,
    ) -> Result<(), AgentError> {
        let mut found = self.hypervisor.recover().await?;
        let vmms = self.store.vmms().await?;
        self.blocks.recover(&vmms).await?;
        for vmm in vmms {
            let event = found.remove(&vmm.vmm_id);
            self.recover_vmm(vmm, event).await?;
        }
        self.kill_orphans(found).await?;
        if !self.lease.holds() {
            // Nobody is told that what has been stopped since is alive.
            self.stop_all().await?;
        }
        // Before anything can change: an older report must not come after a
        // newer one.
        for report in self.store.outbox().await?.into_iter().chain(self.list())
        {
            self.reports.offer(report);
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move { agent.pass_on(events).await });
        let slots = self.table.all();
        for slot in &slots {
            self.keep(slot);
        }
        info!(self.log, "recovered"; "vmms" => slots.len());
        self.recovered.send_replace(true);
        Ok(())
    }

    /// `found` is none if there is no such guest.
    async fn recover_vmm(
        &self,
        vmm: Vmm,
        found: Option<Option<GuestEvent>>,
    ) -> Result<(), AgentError> {
        let id = vmm.vmm_id;
        if self.store.tombstone(id).await?.is_some() {
            // Cut off while it was being buried, by an agent that had files.
            return Ok(self.store.remove_vmm(id).await?);
        }
        if !vmm.has_ended() {
            self.capacity.restore(id, &vmm.spec);
        }
        let missed = missed(vmm.status.state, found);
        let slot = self.table.get_or_make(id);
        {
            let mut seat = slot.seat.lock().await;
            slot.shown.send_replace(Some(vmm.clone()));
            *seat = Seat::Taken(Box::new(vmm));
        }
        match missed {
            Some(event) => self.catch_up(&slot, event).await,
            None => Ok(()),
        }
    }

    async fn catch_up(
        &self,
        slot: &Slot,
        event: GuestEvent,
    ) -> Result<(), AgentError> {
        let event = Event::Guest(event);
        match self.apply(slot, &event, self.grace()).await {
            Ok(_) | Err(AgentError::Misfit(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A VMM is recorded before its guest exists, and for longer: a guest
    /// without one is a leftover.
    async fn kill_orphans(&self, orphans: Found) -> Result<(), AgentError> {
        for id in orphans.into_keys() {
            warn!(self.log, "a guest without a VMM"; "vmm_id" => %id);
            self.hypervisor.kill(id).await?;
            self.hypervisor.release(id).await?;
        }
        Ok(())
    }

    /// Passes what befalls guests on to the keepers.
    async fn pass_on(&self, mut events: UnboundedReceiver<(Uuid, GuestEvent)>) {
        while let Some((vmm_id, event)) = events.recv().await {
            if let Some(slot) = self.table.get(vmm_id) {
                slot.tell(event);
            }
        }
    }
}

/// What befell a guest while nobody looked. One that should be there and is
/// not has died, unless it was to halt, or never got to be.
fn missed(
    state: VmmState,
    found: Option<Option<GuestEvent>>,
) -> Option<GuestEvent> {
    match (found, state) {
        (Some(event), _) => event,
        (
            None,
            VmmState::Running | VmmState::Rebooting | VmmState::Migrating,
        ) => Some(GuestEvent::Died {
            message: "The host lost the instance when it restarted."
                .to_string(),
        }),
        (None, VmmState::Stopping) => Some(GuestEvent::Halted),
        (
            None,
            VmmState::Creating
            | VmmState::Starting
            | VmmState::Stopped
            | VmmState::Failed
            | VmmState::Destroyed,
        ) => None,
    }
}
