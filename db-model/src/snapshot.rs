//! Snapshots: what a disk held at some time.

use crate::schema::snapshot;
use crate::{BlockSize, ByteCount, DiskId, Name, ProjectId, SnapshotId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// A snapshot.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = snapshot)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Snapshot {
    pub id: SnapshotId,
    pub project_id: ProjectId,
    pub name: Name,
    pub description: String,
    pub size_bytes: ByteCount,
    pub block_size: BlockSize,
    pub disk_id: DiskId,
    pub made: bool,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// A snapshot to be made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewSnapshot {
    pub name: Name,
    pub description: String,
    pub disk_id: DiskId,
}
