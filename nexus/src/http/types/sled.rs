//! Sleds, the fleet's hosts, on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    ByteCount, InstanceId, Name, RunState, SledCpu, SledId, SledProvisionPolicy,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which sled, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SledPath {
    /// Id of the sled.
    pub sled_id: SledId,
}

/// A host that runs instances.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Sled {
    /// Never changes, and never comes back once expunged.
    pub id: SledId,
    /// What the hardware is.
    pub baseboard: Baseboard,
    /// The fleet that it belongs to.
    pub rack_id: Uuid,
    /// What operators have decided about it.
    pub policy: SledPolicy,
    /// Is it in use?
    pub state: SledState,
    /// vCPUs that instances may have here, in all.
    pub usable_hardware_threads: u32,
    /// Memory that instances may have here, in all.
    pub usable_physical_ram: ByteCount,
    /// What CPU it has, as its agent says.
    pub cpu: SledCpu,
    /// vCPUs that instances have here now.
    pub reserved_hardware_threads: u32,
    /// Memory that instances have here now.
    pub reserved_physical_ram: ByteCount,
    /// When it was last heard of.
    pub time_last_heartbeat: DateTime<Utc>,
    /// When it first registered.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// What tells one piece of hardware from all others.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Baseboard {
    /// Serial number.
    pub serial: String,
    /// Part number.
    pub part: String,
    /// Revision of the part.
    pub revision: u32,
}

/// What operators have decided about a sled.
#[derive(Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SledPolicy {
    /// It is in service.
    InService {
        /// May new instances be placed on it?
        provision_policy: SledProvisionPolicy,
    },
    /// It is gone for good.
    Expunged,
}

/// Whether a sled is in use.
#[derive(Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SledState {
    /// It is.
    Active,
    /// It no longer is, and never will be.
    Decommissioned,
}

/// Whether new instances shall be placed on a sled.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SledProvisionPolicyParams {
    /// The policy from now on.
    pub state: SledProvisionPolicy,
}

/// A changed provision policy.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SledProvisionPolicyResponse {
    /// The policy until now.
    pub old_state: SledProvisionPolicy,
    /// The policy from now on.
    pub new_state: SledProvisionPolicy,
}

/// An instance on a sled, as operators see it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SledInstance {
    /// The instance.
    pub id: InstanceId,
    /// Its name in its project.
    pub name: Name,
    /// The name of its project.
    pub project_name: Name,
    /// The name of its project's silo.
    pub silo_name: Name,
    /// The sled that it is on.
    pub active_sled_id: SledId,
    /// The migration under way, if there is one.
    pub migration_id: Option<Uuid>,
    /// What it does.
    pub state: RunState,
    /// Its vCPUs.
    pub ncpus: i64,
    /// Its memory, in bytes.
    pub memory: i64,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}
