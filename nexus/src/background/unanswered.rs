//! Completes the audit log's entries of changes whose answer nobody wrote down:
//! the process died, or the database was away just then.

use super::Task;
use crate::error::chain;
use db_queries::DataStore;
use slog::{Logger, warn};
use std::time::Duration;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Unanswered {
    pub datastore: DataStore,
    pub unknown_after_secs: u32,
    pub log: Logger,
}

impl Task for Unanswered {
    type Status = usize;
    const NAME: &'static str = "unanswered";

    async fn activate(&self) -> usize {
        let given_up =
            self.datastore.audit_log_give_up(self.unknown_after_secs).await;
        given_up.unwrap_or_else(|error| {
            warn!(self.log, "cannot complete the audit log now";
                "error" => chain(&error));
            0
        })
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}
