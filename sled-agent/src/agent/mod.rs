//! The agent: what becomes of each request and of each event.
//!
//! Every change of a VMM is made in [`Agent::apply`], under the lock of its
//! slot: decided by the machine, written to disk, and only then shown,
//! answered and reported. What the new state calls for is then done by the
//! task that keeps this VMM ([`keeper`]), with no lock held; a crash in
//! between is mended by the keeper of the next process, which does the same
//! again.

mod console;
mod cut_off;
mod keeper;
mod orders;
mod recovery;
mod unregister;

use crate::blocks::{Blocks, BlocksError};
use crate::capacity::{Capacity, Limits};
use crate::console::ConsoleError;
use crate::files::FileError;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::lease::Lease;
use crate::machine::{Event, Refusal};
use crate::reports::Reports;
use crate::slot::{Seat, Slot, Table};
use crate::store::{Identity, Store};
use crate::vmm::{Grace, Vmm};
use chrono::Utc;
use sled_agent_client::{RefusalCode, VmmReport};
use slog::{Logger, info};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// What the agent keeps, for as long as it lives.
pub(crate) struct Agent {
    sled_id: Uuid,
    store: Store,
    blocks: Arc<Blocks>,
    hypervisor: Arc<dyn Hypervisor>,
    table: Table,
    capacity: Capacity,
    reports: Arc<Reports>,
    lease: Arc<Lease>,
    grace_ms: AtomicU64,
    expunged: AtomicBool,
    recovered: watch::Sender<bool>,
    log: Logger,
}

/// What an agent works with.
pub(crate) struct Tools {
    pub(crate) store: Store,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) reports: Arc<Reports>,
}

/// Why the agent does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// A definite answer.
    #[error("this sled has no such VMM")]
    NoSuchVmm,
    /// A definite answer.
    #[error("this sled finds no such blocks")]
    NoSuchBlocks,
    /// A definite answer, by code.
    #[error("{message}")]
    Refused { code: RefusalCode, message: String },
    /// The machine has no such move; nobody but the agent itself is told.
    #[error("the event does not fit the VMM")]
    Misfit(#[source] Refusal),
    /// Nexus has not been heard for too long: guests are stopped, not started.
    #[error("the host is cut off from Nexus, and starts nothing")]
    CutOff,
    /// Not done in time, and still being done.
    #[error("the VMM is still being killed")]
    StillAlive,
    /// It may have been written, or not.
    #[error("the VMM cannot be recorded")]
    Store(#[from] FileError),
    /// It may have been done, or not.
    #[error("the hypervisor does not do as told")]
    Hypervisor(#[from] HypervisorError),
    /// Nothing was to be done.
    #[error("the console is not to be had")]
    Console(#[from] ConsoleError),
}

impl From<Refusal> for AgentError {
    fn from(refusal: Refusal) -> Self {
        match refusal.code() {
            Some(code) => Self::Refused { code, message: refusal.to_string() },
            None => Self::Misfit(refusal),
        }
    }
}

impl From<BlocksError> for AgentError {
    fn from(error: BlocksError) -> Self {
        match error {
            BlocksError::NoSuchBlocks => Self::NoSuchBlocks,
            BlocksError::Refused { code, message } => {
                Self::Refused { code, message }
            }
            BlocksError::File(error) => Self::Store(error),
        }
    }
}

impl Agent {
    /// An agent that knows no VMMs yet: see [`Agent::recover`]. VMMs that are
    /// told to stop have no time to halt by themselves, see
    /// [`Agent::set_grace`].
    pub(crate) fn new(
        identity: &Identity,
        limits: Limits,
        tools: Tools,
        lease: Arc<Lease>,
        log: Logger,
    ) -> Arc<Self> {
        Arc::new(Self {
            sled_id: identity.sled_id,
            store: tools.store,
            blocks: tools.blocks,
            hypervisor: tools.hypervisor,
            table: Table::default(),
            capacity: Capacity::new(limits),
            reports: tools.reports,
            lease,
            grace_ms: AtomicU64::new(0),
            expunged: AtomicBool::new(identity.expunged),
            recovered: watch::Sender::new(false),
            log,
        })
    }

    pub(crate) fn sled_id(&self) -> Uuid {
        self.sled_id
    }

    pub(crate) fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Whether it has found its VMMs again; before that it knows nothing.
    pub(crate) fn is_recovered(&self) -> bool {
        *self.recovered.borrow()
    }

    /// How long a VMM that is told to stop from now on has to halt by itself.
    pub(crate) fn set_grace(&self, grace: Duration) {
        let ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.grace_ms.store(ms, Ordering::Relaxed);
    }

    /// Stops everything, for good: this sled is no longer of the fleet. Does
    /// not wait for the guests to halt.
    ///
    /// *Errors*: something could not be recorded, and the call is to be
    /// repeated; what could be stopped is being stopped.
    pub(crate) async fn expunge(&self) -> Result<(), AgentError> {
        info!(self.log, "this sled was expunged; stopping its guests");
        self.expunged.store(true, Ordering::SeqCst);
        let identity = Identity { sled_id: self.sled_id, expunged: true };
        let recorded = self.store.put_identity(&identity).await;
        self.stop_all().await?;
        Ok(recorded?)
    }

    /// Forgets a VMM, and tells nobody: what a host that lost its memory
    /// would do. For tests.
    pub(crate) async fn forget(&self, vmm_id: Uuid) -> Result<(), AgentError> {
        let slot = self.table.get(vmm_id).ok_or(AgentError::NoSuchVmm)?;
        let mut seat = slot.seat.lock().await;
        self.store.remove_vmm(vmm_id).await?;
        self.table.remove(&slot, &mut seat);
        self.capacity.release(vmm_id);
        self.reports.drop_vmm(vmm_id);
        self.hypervisor.kill(vmm_id).await?;
        self.blocks.give_back(vmm_id, true).await?;
        Ok(self.hypervisor.release(vmm_id).await?)
    }

    /// The one place where a VMM changes.
    ///
    /// When this returns `Ok`, what it returns is on disk. *Errors*: refused
    /// by the machine, and nothing changed; or not written, and to be tried
    /// again.
    async fn apply(
        &self,
        slot: &Slot,
        event: &Event,
        grace: Grace,
    ) -> Result<VmmReport, AgentError> {
        let mut seat = slot.seat.lock().await;
        let vmm = match &*seat {
            Seat::Taken(vmm) => vmm,
            Seat::Vacant | Seat::Gone => return Err(AgentError::NoSuchVmm),
        };
        let next = vmm.next(event, grace, Utc::now())?;
        let report = next.report();
        if next == **vmm {
            return Ok(report);
        }
        self.store.put_vmm(&next).await?;
        self.settle_disks(vmm, &next).await?;
        if next.status != vmm.status {
            info!(self.log, "a VMM changed";
                "vmm_id" => %next.vmm_id,
                "instance_id" => %next.spec.instance_id,
                "from" => ?vmm.status.state,
                "to" => ?next.status.state,
                "generation" => next.status.generation);
            self.reports.offer(report.clone());
        }
        if next.has_ended() {
            self.capacity.release(next.vmm_id);
        }
        slot.shown.send_replace(Some(next.clone()));
        *seat = Seat::Taken(Box::new(next));
        Ok(report)
    }

    /// Before it is shown that a VMM has ended, its disks are free: whoever
    /// sees its end may give them to another at once.
    async fn settle_disks(
        &self,
        before: &Vmm,
        after: &Vmm,
    ) -> Result<(), FileError> {
        let ran = after.status.ever_ran;
        if after.has_ended() && !before.has_ended() {
            self.blocks.give_back(after.vmm_id, ran).await
        } else if ran && !before.status.ever_ran {
            self.blocks.keep(after.vmm_id).await
        } else {
            Ok(())
        }
    }

    /// What a VMM that is told to stop gets.
    fn grace(&self) -> Grace {
        let ms = self.grace_ms.load(Ordering::Relaxed);
        Grace::Lasts(Duration::from_millis(ms))
    }
}
