//! Takes over sagas that nobody runs.

use super::Task;
use crate::error::chain;
use crate::saga::{Recovered, SagaExecutor};
use slog::{Logger, warn};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks for sagas that nobody runs.
const PERIOD: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Recovery {
    /// Where they are run from here on.
    pub sagas: Arc<SagaExecutor>,
    /// Its log.
    pub log: Logger,
}

impl Task for Recovery {
    type Status = Recovered;
    const NAME: &'static str = "recovery";

    async fn activate(&self) -> Recovered {
        self.sagas.recover().await.unwrap_or_else(|error| {
            warn!(self.log, "cannot look for sagas now";
                "error" => chain(&error));
            Recovered::default()
        })
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}
