//! Snapshots on the wire.

use chrono::{DateTime, Utc};
use db_model::{ByteCount, DiskId, Name, NameOrId, ProjectId, SnapshotId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use crate::app::SnapshotWish;
use crate::error::Error;

/// Which snapshot.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SnapshotPath {
    /// Name or id of the snapshot.
    pub snapshot: NameOrId,
}

/// What a disk held at some time.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Snapshot {
    /// Never changes.
    pub id: SnapshotId,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// The disk that it is of, which may be deleted since.
    pub disk_id: DiskId,
    /// In bytes.
    pub size: ByteCount,
    /// How far it is.
    pub state: SnapshotState,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// How far a snapshot is.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// Its disk is being copied.
    Creating,
    /// It can be used.
    Ready,
}

/// A snapshot to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SnapshotCreate {
    /// Unique in the project.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// The distributed disk, of the project, that it is to be of: detached, or
    /// attached to an instance that is stopped or failed.
    pub disk: NameOrId,
}

impl TryFrom<SnapshotCreate> for SnapshotWish {
    type Error = Error;

    fn try_from(body: SnapshotCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        Ok(Self {
            name: body.name,
            description: body.description,
            disk: body.disk,
        })
    }
}
