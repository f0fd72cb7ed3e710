//! Forgets what is older than its time: start attempts, sagas, VMMs, the
//! keys of requests, the audit log, tokens, sessions, guesses at passwords,
//! devices that wanted to log in.

use super::Task;
use crate::error::chain;
use crate::lease::Lease;
use db_queries::{DataStore, SessionLife};
use slog::{Logger, warn};
use std::time::Duration;

/// Between two rounds. Nothing is in a hurry to be forgotten.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Retention {
    pub audit_keep_days: u32,
    pub session_life: SessionLife,
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
    pub audit_log: usize,
    pub tokens: usize,
    pub sessions: usize,
    pub login_guesses: usize,
    pub device_requests: usize,
    pub sled_join_tokens: usize,
}

/// What is forgotten by its time, which an index knows.
#[derive(Clone, Copy)]
enum Timed {
    AuditLog,
    Tokens,
    Sessions,
    LoginGuesses,
    DeviceRequests,
    SledJoinTokens,
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
            audit_log: self.forget(Timed::AuditLog).await,
            tokens: self.forget(Timed::Tokens).await,
            sessions: self.forget(Timed::Sessions).await,
            login_guesses: self.forget(Timed::LoginGuesses).await,
            device_requests: self.forget(Timed::DeviceRequests).await,
            sled_join_tokens: self.forget(Timed::SledJoinTokens).await,
        }
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}

impl Retention {
    /// Batch by batch, as [`Retention::walk`].
    async fn forget(&self, records: Timed) -> usize {
        let mut deleted = 0;
        loop {
            self.lease.live().await;
            let datastore = &self.datastore;
            let batch = match records {
                Timed::AuditLog => {
                    datastore.audit_log_prune(self.audit_keep_days).await
                }
                Timed::Tokens => datastore.api_tokens_prune().await,
                Timed::Sessions => {
                    datastore.sessions_prune(self.session_life).await
                }
                Timed::LoginGuesses => datastore.login_guesses_prune().await,
                Timed::DeviceRequests => {
                    datastore.device_requests_prune().await
                }
                Timed::SledJoinTokens => {
                    datastore.sled_join_tokens_prune().await
                }
            };
            match batch {
                Ok((batch, more)) => {
                    deleted += batch;
                    if !more {
                        return deleted;
                    }
                }
                Err(error) => {
                    warn!(self.log, "cannot forget old records now";
                        "error" => chain(&error));
                    return deleted;
                }
            }
        }
    }

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
