//! What a console needs to know of its VMM.

use super::Agent;
use crate::console::{Typed, Unheard};
use crate::logger::chain;
use crate::vmm::Vmm;
use slog::info;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// Types on the console of a VMM.
pub(crate) struct Typing {
    agent: Arc<Agent>,
    vmm_id: Uuid,
}

impl Agent {
    /// Returns when a VMM has ended: at once, if it has, or is not here.
    pub(crate) async fn until_ended(self: Arc<Self>, vmm_id: Uuid) {
        let Some(slot) = self.table.get(vmm_id) else { return };
        let mut shown = slot.shown.subscribe();
        // An error says that it is gone.
        let _ =
            shown.wait_for(|vmm| vmm.as_ref().is_none_or(Vmm::has_ended)).await;
    }

    /// To type on the console of a VMM.
    pub(crate) fn typing(self: Arc<Self>, vmm_id: Uuid) -> Typing {
        Typing { agent: self, vmm_id }
    }

    /// The VMMs that have not ended.
    pub(crate) fn alive(&self) -> HashSet<Uuid> {
        let list = self.list().into_iter();
        list.filter(|vmm| !vmm.state.is_ended()).map(|vmm| vmm.vmm_id).collect()
    }
}

impl Typed for Typing {
    async fn typed(&mut self, bytes: &[u8]) -> Result<(), Unheard> {
        let hypervisor = &self.agent.hypervisor;
        let heard = hypervisor.console_input(self.vmm_id, bytes).await;
        heard.map_err(|error| {
            info!(self.agent.log, "nothing can be typed";
                "vmm_id" => %self.vmm_id, "error" => chain(&error));
            Unheard
        })
    }
}
