//! What a simulated guest prints: a line for each turn of its life, and what is
//! typed.

use super::guest::{Guest, Phase};
use super::{Simulated, broken};
use crate::console;
use crate::hypervisor::HypervisorError;
use crate::machine::GuestEvent;
use std::mem::discriminant;
use uuid::Uuid;

impl Simulated {
    /// Has a guest print what it has to say of becoming what it is `now`.
    pub(super) async fn print_turn(
        &self,
        before: Option<&Guest>,
        now: &Guest,
    ) -> Result<(), HypervisorError> {
        let same = before.is_some_and(|b| {
            discriminant(&b.phase) == discriminant(&now.phase)
        });
        if same {
            return Ok(());
        }
        let name = &now.hostname;
        let booting = format!("{name}: booting\r\n");
        let line = match &now.phase {
            Phase::Booting { .. } => String::new(),
            Phase::Running => format!("{name} login: "),
            Phase::Resetting { .. } => format!("\r\n{name}: rebooting\r\n"),
            Phase::ShuttingDown { .. } => {
                format!("\r\n{name}: shutting down\r\n")
            }
            Phase::Ended(GuestEvent::Panicked) => {
                format!("\r\n{name}: kernel panic\r\n")
            }
            Phase::Ended(_) => format!("{name}: halted\r\n"),
        };
        let begins = if before.is_none() { booting } else { String::new() };
        self.print(now.vmm_id, (begins + &line).as_bytes()).await
    }

    /// A guest that is up, or on its way, says what it hears.
    pub(super) async fn echo(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError> {
        let place = self.places().get(&vmm_id).cloned();
        let Some(place) = place else { return Ok(()) };
        let seat = place.lock().await;
        match seat.as_ref().map(|guest| &guest.phase) {
            None | Some(Phase::Ended(_)) => Ok(()),
            Some(
                Phase::Booting { .. }
                | Phase::Running
                | Phase::Resetting { .. }
                | Phase::ShuttingDown { .. },
            ) => self.print(vmm_id, bytes).await,
        }
    }

    async fn print(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError> {
        let consoles = self.0.consoles.clone();
        console::print(consoles, vmm_id, bytes.to_vec())
            .await
            .map_err(|error| broken("a guest cannot print", error))
    }
}
