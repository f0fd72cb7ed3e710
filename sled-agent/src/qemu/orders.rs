//! What the agent tells its QEMUs.

use super::Qemu;
use super::dir::GuestDir;
use super::guest::{Guest, What};
use crate::counters::HypervisorCall;
use crate::hypervisor::{Hypervisor, HypervisorError, may_start};
use crate::machine::GuestEvent;
use async_trait::async_trait;
use sled_agent_client::VmmRegister;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use uuid::Uuid;

#[async_trait]
impl Hypervisor for Qemu {
    async fn boot(
        &self,
        vmm_id: Uuid,
        spec: &VmmRegister,
    ) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Boot);
        may_start(&self.0.context.lease)?;
        if !self.guests().contains_key(&vmm_id) {
            let guest = Guest::open(vmm_id, Arc::clone(&self.0.context));
            self.drive(vmm_id, guest.await.map_err(unreadable)?);
        }
        self.order(vmm_id, What::Boot(Box::new(spec.clone()))).await?;
        Ok(())
    }

    async fn reset(
        &self,
        vmm_id: Uuid,
        turn: u64,
    ) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Reset);
        may_start(&self.0.context.lease)?;
        self.order(vmm_id, What::Reset { turn }).await?;
        Ok(())
    }

    async fn shut_down(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::ShutDown);
        if !self.order(vmm_id, What::ShutDown).await? {
            // The agent listens for as long as the process lives.
            let _ = self.0.context.events.send((vmm_id, GuestEvent::Halted));
        }
        Ok(())
    }

    async fn kill(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        self.0.counters.hypervisor(HypervisorCall::Kill);
        self.order(vmm_id, What::Kill).await?;
        Ok(())
    }

    async fn release(&self, vmm_id: Uuid) -> Result<(), HypervisorError> {
        self.order(vmm_id, What::Release).await?;
        self.guests().remove(&vmm_id);
        Ok(())
    }

    async fn console_input(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError> {
        self.type_in(vmm_id, bytes).await
    }

    async fn recover(
        &self,
    ) -> Result<HashMap<Uuid, Option<GuestEvent>>, HypervisorError> {
        let ids = GuestDir::all(&self.0.context.guests).map_err(unreadable)?;
        let mut found = HashMap::new();
        for vmm_id in ids {
            let guest = Guest::open(vmm_id, Arc::clone(&self.0.context));
            let mut guest = guest.await.map_err(unreadable)?;
            found.insert(vmm_id, guest.recover().await.map_err(unreadable)?);
            self.drive(vmm_id, guest);
        }
        Ok(found)
    }
}

fn unreadable(
    error: impl std::error::Error + Send + Sync + 'static,
) -> HypervisorError {
    HypervisorError {
        what: "what is left of the guests cannot be read".to_string(),
        source: io::Error::other(error),
    }
}
