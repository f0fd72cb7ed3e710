//! Finds processes that died, and takes over sagas that nobody runs.

use super::reconciler::VISIBILITY;
use super::{Activators, Task};
use crate::error::chain;
use crate::lease::Lease;
use crate::saga::{Recovered, SagaExecutor};
use db_queries::DataStore;
use slog::{Logger, info, warn};
use std::sync::Arc;
use std::time::Duration;

/// Looks for sagas that nobody runs, in the time of a lease: what a process
/// leaves waits little longer than its lease.
const LOOKS_PER_LEASE: i32 = 8;

/// See the module.
#[derive(Debug)]
pub struct Recovery {
    /// Where they are run from here on.
    pub sagas: Arc<SagaExecutor>,
    /// The database.
    pub datastore: DataStore,
    /// The right to act.
    pub lease: Lease,
    /// To wake who goes on with what the dead had claimed.
    pub activators: Activators,
    /// Its log.
    pub log: Logger,
}

impl Task for Recovery {
    type Status = Recovered;
    const NAME: &'static str = "recovery";

    async fn activate(&self) -> Recovered {
        self.lease.live().await;
        match self.take_over().await {
            Ok(recovered) => recovered,
            Err(error) => {
                warn!(self.log, "cannot look for sagas now";
                    "error" => chain(&error));
                Recovered::default()
            }
        }
    }

    async fn pause(&self) -> Duration {
        let period = self.lease.time() / LOOKS_PER_LEASE;
        period.to_std().unwrap_or_default()
    }
}

impl Recovery {
    /// The lease is taken before any saga is, so that its holder, if it should
    /// live after all, knows that it may not act.
    async fn take_over(&self) -> Result<Recovered, db_queries::Error> {
        let taken = self
            .datastore
            .lease_take_expired(self.lease.id(), self.lease.time())
            .await?;
        for dead in &taken {
            info!(self.log, "took the lease of a process that died";
                "dead" => %dead);
        }
        if !taken.is_empty() {
            self.datastore.reconcile_claimed_is_due(VISIBILITY).await?;
            self.activators.reconcile();
        }
        let recovered = self.sagas.recover().await?;
        self.datastore.lease_forget_old().await?;
        Ok(recovered)
    }
}
