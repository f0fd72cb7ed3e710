//! Forgets what is older than its time: start attempts, sagas, VMMs, the
//! keys of requests.

use super::Task;
use crate::error::chain;
use crate::lease::Lease;
use db_queries::DataStore;
use slog::{Logger, warn};
use std::time::Duration;

/// Between two rounds. Nothing is in a hurry to be forgotten.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Retention {
    pub datastore: DataStore,
    pub lease: Lease,
    pub log: Logger,
}

/// What a round has forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Forgotten {
    pub start_attempts: usize,
    pub sagas: usize,
    pub vmms: usize,
    pub idempotency_keys: usize,
}

#[derive(Clone, Copy)]
enum Records {
    StartAttempts,
    Sagas,
    Vmms,
    IdempotencyKeys,
}

impl Task for Retention {
    type Status = Forgotten;
    const NAME: &'static str = "retention";

    async fn activate(&self) -> Forgotten {
        Forgotten {
            start_attempts: self.walk(Records::StartAttempts).await,
            sagas: self.walk(Records::Sagas).await,
            vmms: self.walk(Records::Vmms).await,
            idempotency_keys: self.walk(Records::IdempotencyKeys).await,
        }
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}

impl Retention {
    /// Page by page, to the end or to the first error; the next round is the
    /// retry.
    async fn walk(&self, records: Records) -> usize {
        let mut deleted = 0;
        let mut after = None;
        loop {
            self.lease.live().await;
            let page = match records {
                Records::StartAttempts => {
                    self.datastore.start_attempts_prune(after).await
                }
                Records::Sagas => self.datastore.sagas_prune(after).await,
                Records::Vmms => self.datastore.vmms_prune(after).await,
                Records::IdempotencyKeys => {
                    self.datastore.idempotency_keys_prune(after).await
                }
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    warn!(self.log, "cannot forget old records now";
                        "error" => chain(&error));
                    return deleted;
                }
            };
            deleted += page.deleted;
            if page.last.is_none() {
                return deleted;
            }
            after = page.last;
        }
    }
}
