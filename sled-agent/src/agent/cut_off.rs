//! Stopping everything, since Nexus has not been heard for too long.
//!
//! The lease is over at that moment, by itself: nothing is registered and no
//! guest started from then on. What is registered ends here, for good, before
//! there is a new lease: so whatever Nexus has said, or says late, none of it
//! runs again.

use super::{Agent, AgentError};
use crate::logger::chain;
use crate::machine::{Event, StopCause};
use crate::vmm::{Grace, Vmm};
use slog::{info, warn};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before stopping again what could not be stopped.
const RETRY: Duration = Duration::from_millis(200);

impl Agent {
    /// Stops all guests whenever the lease is over, for as long as the agent
    /// lives. To be called once, when it has found its VMMs again.
    pub(crate) async fn keep_to_lease(self: Arc<Self>) {
        loop {
            self.lease.is_over().await;
            warn!(self.log, "Nexus was not heard for too long; stopping all guests";
                "over_for_ms" => self.lease.over_for().as_millis());
            while let Err(error) = self.stop_all().await {
                warn!(self.log, "not all guests are being stopped";
                    "error" => chain(&error));
                tokio::time::sleep(RETRY).await;
            }
            self.all_have_ended().await;
            self.lease.all_is_stopped();
            info!(self.log, "all guests are stopped");
        }
    }

    /// Has every VMM stop, by force. Does not wait for the guests to halt.
    ///
    /// *Errors*: something could not be recorded, and the call is to be
    /// repeated; what could be stopped is being stopped.
    pub(super) async fn stop_all(&self) -> Result<(), AgentError> {
        let mut outcome = Ok(());
        // A register under way holds its seat: either it has seen that nothing
        // is taken in any more, or its VMM is seen here.
        for slot in self.table.all() {
            let stop = Event::Stop(StopCause::Fenced);
            let applied = self.apply(&slot, &stop, Grace::IsOver).await;
            // Any other error says that there is no VMM.
            if let Err(error @ AgentError::Store(_)) = applied {
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn all_have_ended(&self) {
        for slot in self.table.all() {
            let mut shown = slot.shown.subscribe();
            // Its sender is in the slot, and lives.
            let _ = shown
                .wait_for(|vmm| vmm.as_ref().is_none_or(Vmm::has_ended))
                .await;
        }
    }

    /// May guests be started?
    ///
    /// *Errors*: `CutOff`.
    pub(super) fn may_start(&self) -> Result<(), AgentError> {
        if self.lease.holds() { Ok(()) } else { Err(AgentError::CutOff) }
    }
}
