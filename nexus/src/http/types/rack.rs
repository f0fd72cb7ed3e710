//! Racks on the wire, and what is in them.

use chrono::{DateTime, Utc};
use db_model::SledId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Baseboard;

/// Which rack, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RackPath {
    /// Id of the rack.
    pub rack_id: Uuid,
}

/// What all sleds of the fleet are in. There is one.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Rack {
    /// Never changes.
    pub id: Uuid,
    /// When the fleet's database was made.
    pub time_created: DateTime<Utc>,
    /// When it was last brought to a newer schema.
    pub time_modified: DateTime<Utc>,
}

/// Which physical disk, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct PhysicalDiskPath {
    /// Id of the disk.
    pub disk_id: Uuid,
}

/// A host that is there and is not in use.
#[derive(Debug, JsonSchema, Serialize)]
pub struct UninitializedSled {
    /// What the hardware is.
    pub baseboard: Baseboard,
    /// The rack that it is in.
    pub rack_id: Uuid,
    /// Where in the rack.
    pub cubby: u16,
}

/// A disk of a host.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PhysicalDisk {
    /// Never changes.
    pub id: Uuid,
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub model: String,
    /// Which of these it is.
    pub serial: String,
    /// How it is built in.
    pub form_factor: PhysicalDiskKind,
    /// The host that it is in.
    pub sled_id: Option<SledId>,
    /// What operators have decided about it.
    pub policy: PhysicalDiskPolicy,
    /// Is it in use?
    pub state: PhysicalDiskState,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// How a disk is built in.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhysicalDiskKind {
    /// On the board.
    M2,
    /// In a bay.
    U2,
}

/// What operators have decided about a disk.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PhysicalDiskPolicy {
    /// It is used.
    InService,
    /// It is gone, and does not come back under this id.
    Expunged,
}

/// Is a disk in use?
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhysicalDiskState {
    /// It is.
    Active,
    /// No more, for ever.
    Decommissioned,
}
