//! Leases: the processes that run sagas.

use crate::SecId;
use crate::schema::nexus_lease;
use chrono::{DateTime, Utc};
use diesel::{Queryable, Selectable};
use serde::{Deserialize, Serialize};

/// A process's lease.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = nexus_lease)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct NexusLease {
    pub id: SecId,
    pub internal_address: String,
    pub time_started: DateTime<Utc>,
    pub lease_expires: DateTime<Utc>,
    pub steady_since: DateTime<Utc>,
    pub taken_by: Option<SecId>,
    pub time_taken: Option<DateTime<Utc>>,
}

/// How it stands with a process, as far as its lease tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// It lives.
    Live,
    /// It has not renewed in time, and nobody has taken its lease yet: it died
    /// a moment ago, or is paused, or nobody lives who could take it.
    Expired,
    /// Another has found it dead.
    Taken,
    /// It was closed in order.
    Closed,
}

impl std::fmt::Display for LeaseState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // In columns, so padded as asked.
        f.pad(match self {
            LeaseState::Live => "live",
            LeaseState::Expired => "expired",
            LeaseState::Taken => "taken",
            LeaseState::Closed => "closed",
        })
    }
}

impl NexusLease {
    /// The state at `now`, which is the database's time.
    pub fn state(&self, now: DateTime<Utc>) -> LeaseState {
        match self.taken_by {
            Some(taker) if taker == self.id => LeaseState::Closed,
            Some(_) => LeaseState::Taken,
            None if self.lease_expires > now => LeaseState::Live,
            None => LeaseState::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn a_lease_lives_until_it_runs_out_or_is_taken() {
        let now: DateTime<Utc> = "2026-01-02T03:04:05Z".parse().unwrap();
        let second = TimeDelta::seconds(1);
        let me = SecId::new_v4();
        let lease = NexusLease {
            id: me,
            internal_address: "[::1]:1".to_string(),
            time_started: now,
            lease_expires: now + second,
            steady_since: now,
            taken_by: None,
            time_taken: None,
        };
        let taken = |by| NexusLease { taken_by: Some(by), ..lease.clone() };
        for (lease, at, state) in [
            (lease.clone(), now, LeaseState::Live),
            (lease.clone(), now + second, LeaseState::Expired),
            (taken(SecId::new_v4()), now, LeaseState::Taken),
            (taken(me), now, LeaseState::Closed),
        ] {
            assert_eq!(lease.state(at), state, "{lease:?}");
        }
    }
}
