//! What runs guests, as seen by the agent.

use crate::lease::Lease;
use crate::machine::GuestEvent;
use async_trait::async_trait;
use sled_agent_client::VmmRegister;
use std::collections::HashMap;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

/// Where a hypervisor tells what befalls its guests. The events of one guest
/// come in their order.
pub(crate) type GuestEvents = UnboundedSender<(Uuid, GuestEvent)>;

/// Why the hypervisor could not do what it was told. Whether it did a part of
/// it is not known; it may be told again.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct HypervisorError {
    /// What it could not do.
    pub(crate) what: String,
    /// Why.
    #[source]
    pub(crate) source: std::io::Error,
}

/// May a guest be started under this lease?
///
/// *Errors*: it is over.
pub(crate) fn may_start(lease: &Lease) -> Result<(), HypervisorError> {
    if lease.holds() {
        return Ok(());
    }
    Err(HypervisorError {
        what: "the lease of the guests is over".to_string(),
        source: std::io::ErrorKind::TimedOut.into(),
    })
}

/// Runs guests, one for each VMM that was told to run.
///
/// Guests outlive the agent: they run on while it is dead, and
/// [`recover`](Hypervisor::recover) finds them again. Orders set something
/// going and return; what comes of it is told as a [`GuestEvent`]. Every order
/// but typing is idempotent: given once more, it has no second effect, and tells again
/// what has come about already. Orders to different guests do not wait for
/// each other.
///
/// When the lease is over, no guest is booted or reset ([`may_start`]), and all
/// that are there end, whether or not there is an agent.
#[async_trait]
pub(crate) trait Hypervisor: Send + Sync + 'static {
    /// Brings a guest up: [`GuestEvent::Booted`] or
    /// [`GuestEvent::BootFailed`]. A guest that is there is not booted again.
    async fn boot(
        &self,
        vmm_id: Uuid,
        spec: &VmmRegister,
    ) -> Result<(), HypervisorError>;

    /// Resets a guest that is up: [`GuestEvent::Rebooted`]. `turn` rises from
    /// one reset to the next, so that the same one is not done twice.
    async fn reset(
        &self,
        vmm_id: Uuid,
        turn: u64,
    ) -> Result<(), HypervisorError>;

    /// Asks a guest to shut down: [`GuestEvent::Halted`], or nothing if the
    /// guest does not listen. Of one that is not there: `Halted`.
    async fn shut_down(&self, vmm_id: Uuid) -> Result<(), HypervisorError>;

    /// Ends a guest by force. When this returns it is halted, or never was
    /// there; no event tells so.
    async fn kill(&self, vmm_id: Uuid) -> Result<(), HypervisorError>;

    /// Gives back what a halted guest held, and forgets it.
    async fn release(&self, vmm_id: Uuid) -> Result<(), HypervisorError>;

    /// Types on a guest's serial console. A guest that is not there, or does
    /// not listen, hears nothing, and that is no error. Not idempotent.
    async fn console_input(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError>;

    /// Finds the guests of an earlier agent, alive or halted and not released,
    /// each with the last that befell it (none if it is still booting). From
    /// now on their events are told. Called once, before anything else.
    async fn recover(
        &self,
    ) -> Result<HashMap<Uuid, Option<GuestEvent>>, HypervisorError>;
}
