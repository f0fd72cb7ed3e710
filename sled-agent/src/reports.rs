//! Tells Nexus of each change, until Nexus has it.
//!
//! One report on a VMM is under way at a time; a newer one replaces those that
//! wait. A report ends by being taken or by the definite answer that no such
//! VMM exists; everything else is repeated for ever. One that says no more than
//! the answer to an order waits a moment, in which there mostly is a newer one.

use crate::logger::chain;
use crate::store::Store;
use sled_agent_client::{NexusClient, NexusError, VmmReport, VmmState};
use slog::{Logger, debug, warn};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// The first wait after a report that was not taken.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest such wait: how stale Nexus may be once it is back.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long one waits that says no more than an answer did.
const MOMENT: Duration = Duration::from_secs(1);
/// How many reports are under way at once: a restart with many VMMs should
/// not be a flood.
const AT_ONCE: usize = 16;

/// The reports that Nexus has not taken yet.
pub(crate) struct Reports {
    sled_id: Uuid,
    nexus: NexusClient,
    store: Store,
    log: Logger,
    /// The newest report on each VMM that has one waiting or under way.
    pending: Mutex<HashMap<Uuid, Pending>>,
    turns: Semaphore,
}

struct Pending {
    newest: VmmReport,
    newer: Arc<Notify>,
}

impl Reports {
    pub(crate) fn new(
        sled_id: Uuid,
        nexus: NexusClient,
        store: Store,
        log: Logger,
    ) -> Self {
        Self {
            sled_id,
            nexus,
            store,
            log,
            pending: Mutex::new(HashMap::new()),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Sees to it that Nexus gets `report`, or a newer one. Does not wait.
    pub(crate) fn offer(self: &Arc<Self>, report: VmmReport) {
        let vmm_id = report.vmm_id;
        let mut pending = self.lock();
        if let Some(Pending { newest, newer }) = pending.get_mut(&vmm_id) {
            if newest.generation < report.generation {
                *newest = report;
                newer.notify_one();
            }
            return;
        }
        let newer = Arc::new(Notify::new());
        let reports = Arc::clone(self);
        let deliver = {
            let newer = Arc::clone(&newer);
            async move { reports.deliver(vmm_id, &newer).await }
        };
        pending.insert(vmm_id, Pending { newest: report, newer });
        tokio::spawn(deliver);
    }

    /// The report on this VMM that Nexus has yet to take.
    pub(crate) fn waiting(&self, vmm_id: Uuid) -> Option<VmmReport> {
        self.lock().get(&vmm_id).map(|pending| pending.newest.clone())
    }

    /// Tells nothing more of this VMM.
    pub(crate) fn drop_vmm(&self, vmm_id: Uuid) {
        self.lock().remove(&vmm_id);
    }

    async fn deliver(&self, vmm_id: Uuid, newer: &Notify) {
        let mut backoff = BACKOFF_MIN;
        let mut has_waited = false;
        while let Some(report) = self.waiting(vmm_id) {
            if !has_waited && answers_an_order(&report) {
                let newer = tokio::time::timeout(MOMENT, newer.notified());
                has_waited = newer.await.is_err();
                continue;
            }
            has_waited = true;
            if self.push(&report).await {
                backoff = BACKOFF_MIN;
                if self.settle(&report) {
                    self.clear_outbox(&report).await;
                    return;
                }
            } else {
                tokio::time::sleep(backoff).await;
                backoff = BACKOFF_MAX.min(backoff * 2);
            }
        }
    }

    /// Only the last report on a VMM is ever in the outbox.
    async fn clear_outbox(&self, taken: &VmmReport) {
        if !taken.state.is_ended() {
            return;
        }
        if let Err(error) = self.store.remove_outbox(taken.vmm_id).await {
            // It is told once more after a restart, and does no harm then.
            warn!(self.log, "a report that was taken is kept";
                "vmm_id" => %taken.vmm_id, "error" => chain(&error));
        }
    }

    /// Whether this report needs no more telling.
    async fn push(&self, report: &VmmReport) -> bool {
        let _turn = self.turns.acquire().await;
        let log = self.log.new(slog::o!(
            "vmm_id" => report.vmm_id.to_string(),
            "generation" => report.generation,
            "state" => format!("{:?}", report.state),
        ));
        match self.nexus.vmm_put(self.sled_id, report).await {
            Ok(()) => {
                debug!(log, "Nexus took a report");
                true
            }
            Err(NexusError::NoSuchVmm) => {
                warn!(log, "Nexus knows no such VMM");
                true
            }
            Err(
                error @ (NexusError::Unreachable(_)
                | NexusError::SledUnknown
                | NexusError::Refused { .. }),
            ) => {
                debug!(log, "a report was not taken, and will be repeated";
                    "error" => chain(&error));
                false
            }
        }
    }

    /// Crosses a report off, unless a newer one has come in its place.
    fn settle(&self, taken: &VmmReport) -> bool {
        let mut pending = self.lock();
        let newest = pending.get(&taken.vmm_id).map(|p| &p.newest);
        if newest.is_some_and(|newest| newest.generation > taken.generation) {
            return false;
        }
        pending.remove(&taken.vmm_id);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does it say what the answer to an order to register or to run says, which Nexus
/// asks for until it has it?
fn answers_an_order(report: &VmmReport) -> bool {
    matches!(report.state, VmmState::Creating | VmmState::Starting)
}
