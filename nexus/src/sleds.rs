//! Asking sleds: finds the client for a sled, and turns what sleds say into
//! what `db_model` knows.

use crate::config::Tuning;
use crate::fleet::Fleet;
use crate::lease::Lease;
use db_model::lifecycle::reports::{Observation, VmmReport};
use db_model::{
    HEARTBEAT_ALLOWANCE, Sled, SledId, SledPolicy, VmmEndReason, VmmState,
};
use db_queries::DataStore;
use sled_agent_client as wire;
use sled_agent_client::{Client, Timeouts};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The clients of all sleds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sleds {
    datastore: DataStore,
    lease: Lease,
    fleet: Fleet,
    timeouts: Timeouts,
    clients: Arc<Mutex<HashMap<SledId, Known>>>,
    lists: Arc<Mutex<HashMap<SledId, (u32, Instant)>>>,
}

#[derive(Debug)]
struct Known {
    address: SocketAddr,
    client: Client,
    /// When its row was asked for, by which it was where it is and of the fleet.
    asked: Instant,
}

/// For how long a sled's row that was read is taken for what it says.
const TRUSTED: Duration = Duration::from_secs(1);

/// How a sled can be asked.
pub enum Reach {
    /// By this client.
    Client(Client),
    /// Not at all: it is off for good.
    Expunged,
}

/// Why a sled cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Its row cannot be read.
    #[error("cannot look the sled up")]
    Database(#[from] db_queries::Error),
    /// Its row says something that is no address.
    #[error("the sled's address is none")]
    Address(#[from] std::net::AddrParseError),
}

impl Sleds {
    /// Clients that show what `fleet` has for them, and wait as `tuning` says. No sled is asked
    /// while `lease` is not live.
    pub fn new(
        datastore: DataStore,
        lease: Lease,
        fleet: Fleet,
        tuning: &Tuning,
    ) -> Sleds {
        let request = Duration::from_millis(u64::from(tuning.sled_timeout_ms));
        Sleds {
            datastore,
            lease,
            fleet,
            timeouts: Timeouts {
                connect: request.min(Timeouts::default().connect),
                request,
            },
            clients: Arc::default(),
            lists: Arc::default(),
        }
    }

    /// May this process ask sleds? If not, [`Sleds::reach`] waits until it may.
    pub fn may_ask(&self) -> bool {
        self.lease.is_live()
    }

    /// The way to a sled, where it was last registered; once this process may
    /// act.
    ///
    /// # Errors
    ///
    /// There is no such sled, or the database is away.
    pub async fn reach(&self, id: SledId) -> Result<Reach, ReachError> {
        self.lease.live().await;
        let asked = Instant::now();
        let sled = self.datastore.sled_view(id).await?;
        self.way(&sled, asked)
    }

    /// The same, without a look at its row if that was read in the last second.
    ///
    /// # Errors
    ///
    /// As those of [`Sleds::reach`].
    pub async fn reach_lately(&self, id: SledId) -> Result<Reach, ReachError> {
        self.lease.live().await;
        let lately = |known: &&Known| known.asked.elapsed() < TRUSTED;
        let known = self
            .clients()
            .get(&id)
            .filter(lately)
            .map(|known| Reach::Client(known.client.clone()));
        match known {
            Some(reach) => Ok(reach),
            None => self.reach(id).await,
        }
    }

    /// The same to a sled whose row was `asked` for then; if that is longer ago
    /// than a second, it is read again.
    ///
    /// # Errors
    ///
    /// As those of [`Sleds::reach`].
    pub async fn reach_known(
        &self,
        sled: &Sled,
        asked: Instant,
    ) -> Result<Reach, ReachError> {
        self.lease.live().await;
        match asked.elapsed() < TRUSTED {
            true => self.way(sled, asked),
            false => self.reach(sled.id).await,
        }
    }

    fn way(&self, sled: &Sled, asked: Instant) -> Result<Reach, ReachError> {
        let id = sled.id;
        let mut clients = self.clients();
        if sled.policy == SledPolicy::Expunged {
            clients.remove(&id);
            return Ok(Reach::Expunged);
        }
        let address: SocketAddr = sled.address.parse()?;
        // What was asked for later is not undone by what is said earlier.
        if let Some(known) = clients.get_mut(&id)
            && (known.address == address || known.asked > asked)
        {
            known.asked = known.asked.max(asked);
            return Ok(Reach::Client(known.client.clone()));
        }
        let client = Client::new(
            id.0,
            address,
            self.fleet.secret().of_sled(id.0),
            self.fleet.credentials(),
            self.timeouts,
        );
        let reach = Reach::Client(client.clone());
        clients.insert(id, Known { address, client, asked });
        Ok(reach)
    }

    /// A sled that is registered has said how many VMMs it lists, or nothing
    /// of that.
    pub fn told(&self, id: SledId, lists: Option<u32>) {
        let mut known = self.lists();
        match lists {
            Some(vmms) => known.insert(id, (vmms, Instant::now())),
            None => known.remove(&id),
        };
    }

    /// How many VMMs a sled listed when it was last heard by this process; none
    /// if that was too long ago for it to be there still, or not said.
    pub fn lists_lately(&self, id: SledId) -> Option<u32> {
        let (vmms, told) = self.lists().get(&id).copied()?;
        let allowance = HEARTBEAT_ALLOWANCE.to_std().unwrap_or_default();
        (told.elapsed() < allowance).then_some(vmms)
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<SledId, (u32, Instant)>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<SledId, Known>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As much of a sled's sentence as is kept. Longer ones explain no more.
const SENTENCE_CHARS: usize = 400;

/// A sled's sentence, fit to be kept and shown: bounded, and without what the
/// database refuses or a terminal obeys.
pub fn sentence(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SENTENCE_CHARS)
        .collect()
}

/// What a sled's report says, in our terms.
pub fn report(report: &wire::VmmReport) -> VmmReport {
    let sentence = report.failure.as_ref().map(|f| sentence(&f.message));
    let state = match report.state {
        wire::VmmState::Creating => VmmState::Creating,
        wire::VmmState::Starting => VmmState::Starting,
        wire::VmmState::Running => VmmState::Running,
        wire::VmmState::Stopping => VmmState::Stopping,
        wire::VmmState::Stopped => VmmState::Stopped,
        wire::VmmState::Rebooting => VmmState::Rebooting,
        wire::VmmState::Migrating => VmmState::Migrating,
        wire::VmmState::Failed => VmmState::Failed,
        wire::VmmState::Destroyed => VmmState::Destroyed,
    };
    let reason = report.end_reason.map(|reason| match reason {
        wire::EndReason::GuestShutdown => VmmEndReason::GuestShutdown,
        wire::EndReason::Requested => VmmEndReason::Requested,
        wire::EndReason::BootFailed => VmmEndReason::BootFailed,
        wire::EndReason::Panic => VmmEndReason::Panic,
        wire::EndReason::HypervisorDied => VmmEndReason::HypervisorDied,
        wire::EndReason::Fenced => VmmEndReason::Fenced,
    });
    // An end without a reason is not what the trait promises; it is an end all
    // the same.
    let reason = reason
        .or((state == VmmState::Failed).then_some(VmmEndReason::HypervisorDied))
        .or((state == VmmState::Destroyed).then_some(VmmEndReason::Requested));
    VmmReport {
        generation: i64::try_from(report.generation).unwrap_or(i64::MAX),
        state,
        ever_ran: report.ever_ran,
        end: reason.map(|reason| (reason, sentence)),
    }
}

/// The observation in a sled's report.
pub fn reported(wire: &wire::VmmReport) -> Observation {
    Observation::Reported(report(wire))
}

/// The observation in the answer to an unregister.
pub fn unregistered(wire: &wire::VmmUnregistered) -> Observation {
    Observation::Unregistered(wire.report.as_ref().map(report))
}
