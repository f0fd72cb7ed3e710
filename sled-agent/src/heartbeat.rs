//! Tells Nexus that this sled is there, and hears how it stands with it.

use crate::agent::Agent;
use crate::lease::{Lease, RenewError, Sent};
use crate::logger::chain;
use sled_agent_client::nexus_types::{SledRegistration, SledStatus};
use sled_agent_client::{NexusClient, NexusError};
use slog::{Logger, info, warn};
use std::sync::Arc;
use std::time::Duration;

/// The first wait after Nexus did not answer.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest such wait: how long Nexus may be back before it hears from us.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The shortest period that is taken from Nexus: a 0 is no flood.
const PERIOD_MIN: Duration = Duration::from_millis(10);

/// What the loop goes by.
pub(crate) struct Heartbeat {
    pub(crate) agent: Arc<Agent>,
    pub(crate) nexus: NexusClient,
    pub(crate) sled: SledRegistration,
    pub(crate) lease: Arc<Lease>,
    /// How often; as Nexus wants it, if none.
    pub(crate) period: Option<Duration>,
    pub(crate) log: Logger,
}

impl Heartbeat {
    /// Registers, and again whenever Nexus has forgotten us; in between, a
    /// heartbeat each period. What Nexus has taken renews the lease; while one
    /// that is over has left guests to stop, nothing is sent. Never returns.
    pub(crate) async fn run(self) {
        let mut registered = false;
        let mut fenced = false;
        let mut backoff = BACKOFF_MIN;
        loop {
            self.lease.may_be_renewed().await;
            let sent = match self.lease.send().await {
                Ok(sent) => sent,
                Err(error) => {
                    warn!(self.log, "no heartbeat without a lease";
                        "error" => chain(&error));
                    tokio::time::sleep(BACKOFF_MAX).await;
                    continue;
                }
            };
            match self.beat(registered).await {
                Ok(status) => {
                    self.renew(sent).await;
                    if !registered {
                        info!(self.log, "registered with Nexus");
                    }
                    registered = true;
                    backoff = BACKOFF_MIN;
                    if status.expunged && !fenced {
                        fenced = self.fence().await;
                    }
                    tokio::time::sleep(self.period(&status)).await;
                    continue;
                }
                Err(NexusError::SledUnknown) if registered => {
                    registered = false;
                    continue;
                }
                Err(
                    error @ (NexusError::SledUnknown
                    | NexusError::NoSuchVmm
                    | NexusError::Unreachable(_)
                    | NexusError::Refused { .. }),
                ) => {
                    warn!(self.log, "Nexus does not hear this sled";
                        "error" => chain(&error));
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = BACKOFF_MAX.min(backoff * 2);
        }
    }

    async fn beat(&self, registered: bool) -> Result<SledStatus, NexusError> {
        let sled_id = self.agent.sled_id();
        let vmms = Some(self.agent.listed());
        let sled = SledRegistration { vmms, ..self.sled.clone() };
        if registered {
            self.nexus.sled_heartbeat(sled_id, &sled).await
        } else {
            self.nexus.sled_put(sled_id, &sled).await
        }
    }

    async fn renew(&self, sent: Sent) {
        match self.lease.renew(sent).await {
            Ok(()) => {}
            // What ran is stopped, and the next heartbeat begins a new one.
            Err(RenewError::Over) => {}
            Err(error @ RenewError::File(_)) => {
                warn!(self.log, "the lease is not renewed";
                    "error" => chain(&error));
            }
        }
    }

    /// Stops everything; whether that is on its way for good.
    async fn fence(&self) -> bool {
        match self.agent.expunge().await {
            Ok(()) => true,
            Err(error) => {
                warn!(self.log, "not all guests are being stopped";
                    "error" => chain(&error));
                false
            }
        }
    }

    fn period(&self, status: &SledStatus) -> Duration {
        let wanted = Duration::from_millis(status.heartbeat_period_ms);
        self.period.unwrap_or(wanted).max(PERIOD_MIN)
    }
}
