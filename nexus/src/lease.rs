//! This process's lease: its right to act.
//!
//! A process that cannot renew starts no saga's node and calls no sled from the
//! moment on at which another may take its lease: by its own monotonic clock,
//! counted from when it *sent* the last renewal that was taken. It goes on
//! answering. When the database is back it renews and goes on, unless its lease
//! was taken: then it exits.

use crate::error::chain;
use chrono::TimeDelta;
use db_model::SecId;
use db_queries::{DataStore, Error, Zombie};
use slog::{Logger, info, warn};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Renewals in the time of a lease: three may be lost.
const RENEWALS_PER_LEASE: u32 = 4;

/// The right to act. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lease {
    id: SecId,
    time: Duration,
    until: Arc<watch::Sender<Instant>>,
}

impl Lease {
    /// Begins the process's lease, and keeps it renewed until `stop` says so.
    /// `datastore` should have a connection of its own for this, so that no
    /// load keeps the lease from being renewed.
    ///
    /// # Errors
    ///
    /// The database is away.
    pub async fn begin(
        id: SecId,
        internal_address: String,
        time: Duration,
        datastore: DataStore,
        zombie: Zombie,
        stop: watch::Receiver<bool>,
        log: Logger,
    ) -> Result<(Lease, JoinHandle<()>), Error> {
        let sent = Instant::now();
        datastore.lease_begin(id, internal_address, delta(time)).await?;
        let lease = Lease {
            id,
            time,
            until: Arc::new(watch::Sender::new(sent + time)),
        };
        let renewing =
            tokio::spawn(lease.clone().renew(datastore, zombie, stop, log));
        Ok((lease, renewing))
    }

    /// A lease that never ends, for sagas that are run outside a server.
    pub fn without_end(id: SecId) -> Lease {
        let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365);
        let until = Arc::new(watch::Sender::new(far));
        Lease { id, time: Duration::MAX, until }
    }

    /// Whose it is.
    pub fn id(&self) -> SecId {
        self.id
    }

    /// How long it lasts without a renewal.
    pub fn time(&self) -> TimeDelta {
        delta(self.time)
    }

    /// May this process act?
    pub fn is_live(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }

    /// How long ago the last renewal that was taken was sent: past the time of
    /// the lease, this process may not act.
    pub fn age(&self) -> Duration {
        let until = *self.until.borrow();
        Instant::now()
            .checked_add(self.time)
            .map_or(Duration::ZERO, |now| now.saturating_duration_since(until))
    }

    /// Answers when this process may act, which is mostly at once.
    pub async fn live(&self) {
        let mut renewed = self.until.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = renewed.wait_for(|until| Instant::now() < *until).await;
    }

    /// It is over here: whoever waits to act waits for ever. Not to be called
    /// while it is renewed.
    pub fn end(&self) {
        self.until.send_replace(Instant::now());
    }

    async fn renew(
        self,
        datastore: DataStore,
        zombie: Zombie,
        mut stop: watch::Receiver<bool>,
        log: Logger,
    ) {
        let period = self.time / RENEWALS_PER_LEASE;
        let mut was_live = true;
        while !*stop.borrow() {
            let sent = Instant::now();
            match datastore.lease_renew(self.id, delta(self.time)).await {
                Ok(true) => {
                    self.until.send_replace(sent + self.time);
                    if !was_live {
                        info!(log, "the lease is renewed: going on");
                    }
                    was_live = true;
                }
                Ok(false) => return zombie.declare(),
                Err(error) => {
                    warn!(log, "the lease cannot be renewed now";
                        "error" => chain(&error),
                        "live" => self.is_live());
                    was_live = self.is_live();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(period) => (),
                _ = stop.changed() => (),
            }
        }
    }
}

fn delta(time: Duration) -> TimeDelta {
    TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX)
}
