//! Leases: the Nexuses that live, and those that did.

use crate::table::Table;
use crate::words::{span, when};
use chrono::{DateTime, Utc};
use db_model::{LeaseState, NexusLease, SecId};
use serde::Serialize;

/// A Nexus's lease.
#[derive(Serialize)]
pub(crate) struct Lease {
    id: SecId,
    address: String,
    pub(crate) state: LeaseState,
    time_started: DateTime<Utc>,
    lease_expires: DateTime<Utc>,
    steady_since: DateTime<Utc>,
    taken_by: Option<SecId>,
    time_taken: Option<DateTime<Utc>>,
}

impl Lease {
    pub(crate) fn of(lease: NexusLease, now: DateTime<Utc>) -> Lease {
        Lease {
            state: lease.state(now),
            id: lease.id,
            address: lease.internal_address,
            time_started: lease.time_started,
            lease_expires: lease.lease_expires,
            steady_since: lease.steady_since,
            taken_by: lease.taken_by,
            time_taken: lease.time_taken,
        }
    }
}

pub(crate) fn table(leases: &[Lease], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(&[
        "NEXUS",
        "ADDRESS",
        "STATE",
        "AGE",
        "EXPIRES",
        "STEADY FOR",
    ]);
    for lease in leases {
        let steady = match lease.state {
            LeaseState::Live => span(now - lease.steady_since),
            LeaseState::Expired | LeaseState::Taken | LeaseState::Closed => {
                "-".to_string()
            }
        };
        table.row([
            lease.id.to_string(),
            lease.address.clone(),
            lease.state.to_string(),
            span(now - lease.time_started),
            when(lease.time_taken.unwrap_or(lease.lease_expires), now),
            steady,
        ]);
    }
    table
}

/// How it stands with who runs a saga, from its lease; none is left of one that
/// ended long ago.
pub(crate) fn runner(
    lease: Option<&NexusLease>,
    now: DateTime<Utc>,
) -> Option<LeaseState> {
    lease.map(|lease| lease.state(now))
}
