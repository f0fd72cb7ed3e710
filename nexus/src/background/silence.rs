//! For how long this process has listened to sleds that say nothing.
//!
//! Counted by its own monotonic clock, and from when it first saw a heartbeat
//! recorded, which is later than when the sled sent it: so no clock that is set
//! or jumps, the database's least of all, makes a silence longer than it was.

use chrono::{DateTime, TimeDelta, Utc};
use db_model::{Sled, SledId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub struct Silence(Mutex<HashMap<SledId, Heard>>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// The sled's last heartbeat that is recorded.
    last: DateTime<Utc>,
    /// When it was first seen here.
    seen: Instant,
}

impl Silence {
    /// Takes down when this sled was last heard, and says whether by this
    /// process's clock it has since been silent for long enough to have stopped
    /// its guests ([`Sled::stopped_after`]).
    pub fn has_stopped(
        &self,
        sled: &Sled,
        margin: TimeDelta,
        now: Instant,
    ) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = sled.time_last_heartbeat;
        let known = heard
            .entry(sled.id)
            .and_modify(|known| {
                if known.last != last {
                    *known = Heard { last, seen: now };
                }
            })
            .or_insert(Heard { last, seen: now });
        let silent = now.saturating_duration_since(known.seen);
        sled.stopped_after(margin)
            .and_then(|after| after.to_std().ok())
            .is_some_and(|after: Duration| silent > after)
    }

    /// This process could not have heard anybody: what it has counted is void.
    pub fn begin_anew(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
