//! Sleds: the hosts.

use crate::schema::sled;
use crate::{
    ByteCount, InstanceId, Name, RunState, SledCpu, SledId, VcpuCount,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};
use uuid::Uuid;

sql_enum! {
    /// Whether a host is ours to use at all.
    pub enum SledPolicy: SledPolicySql {
        /// It is.
        InService = "in_service",
        /// It is off for good: an operator said so.
        Expunged = "expunged",
    }
}

sql_enum! {
    /// Whether new instances may be placed on a host.
    pub enum SledProvisionPolicy: SledProvisionPolicySql {
        /// They may.
        Provisionable = "provisionable",
        /// They may not; what runs there stays.
        NonProvisionable = "non_provisionable",
    }
}

/// A host, as its agent registered it and as operators set it.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = sled)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Sled {
    pub id: SledId,
    pub address: String,
    pub serial: String,
    pub part: String,
    pub revision: i64,
    pub policy: SledPolicy,
    pub provision_policy: SledProvisionPolicy,
    pub incarnation: Uuid,
    pub vcpus: i64,
    pub memory_bytes: ByteCount,
    pub storage_bytes: ByteCount,
    pub reserved_vcpus: i64,
    pub reserved_memory_bytes: ByteCount,
    pub time_last_heartbeat: DateTime<Utc>,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub cpu: SledCpu,
    pub reserved_storage_bytes: ByteCount,
    pub fences_after_ms: Option<i64>,
}

/// How long a sled may be silent before what it last said counts as
/// unconfirmed, and before nothing more is placed on it. Agents send a
/// heartbeat every 2 s, so this is a handful of lost ones.
pub const HEARTBEAT_ALLOWANCE: TimeDelta = TimeDelta::seconds(10);

impl Sled {
    /// Has it been silent for longer than its heartbeat allows?
    pub fn silent(&self, now: DateTime<Utc>) -> bool {
        now - self.time_last_heartbeat > HEARTBEAT_ALLOWANCE
    }
}

/// An instance on a sled, as an operator sees it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SledInstance {
    pub id: InstanceId,
    pub sled_id: SledId,
    pub name: Name,
    pub project_name: Name,
    pub silo_name: Name,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
    pub state: RunState,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
}
