//! Keeps this process's certificates from running out: its own, in the fleet,
//! and the one that users see.

use super::Task;
use crate::error::chain;
use crate::external_tls::ExternalTls;
use crate::fleet::Fleet;
use slog::{Logger, error};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Between two looks at the files of the one that users see.
const PERIOD: Duration = Duration::from_secs(60);

/// How old its own becomes: far from as old as it is good for.
const OWN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Certificates {
    pub fleet: Fleet,
    pub external: Option<ExternalTls>,
    pub renewed: Mutex<Instant>,
    pub log: Logger,
}

/// What was replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Replaced {
    pub own: bool,
    pub external: bool,
}

impl Task for Certificates {
    type Status = Replaced;
    const NAME: &'static str = "certificates";

    async fn activate(&self) -> Replaced {
        Replaced { own: self.own().await, external: self.external() }
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}

impl Certificates {
    async fn own(&self) -> bool {
        let mut renewed = self.renewed.lock().await;
        if renewed.elapsed() < OWN_AGE {
            return false;
        }
        if let Err(error) = self.fleet.renew() {
            error!(self.log, "this process's certificate is not renewed";
                "error" => chain(&error));
            return false;
        }
        *renewed = Instant::now();
        true
    }

    fn external(&self) -> bool {
        let Some(external) = &self.external else { return false };
        external.reload().unwrap_or_else(|error| {
            error!(self.log, "the external API's new certificate is not used";
                "error" => chain(&error));
            false
        })
    }
}
