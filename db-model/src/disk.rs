//! Local disks: blocks of one sled's own storage.

use crate::schema::disk;
use crate::{ByteCount, DiskId, InstanceId, Name, ProjectId, SledId, VmmId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};

/// Disks that an instance may have.
pub const MAX_INSTANCE_DISKS: i64 = 12;

/// A local disk.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = disk)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Disk {
    pub id: DiskId,
    pub project_id: ProjectId,
    pub name: Name,
    pub description: String,
    pub size_bytes: ByteCount,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
    pub instance_id: Option<InstanceId>,
    pub sled_id: Option<SledId>,
    pub allocated_by: Option<VmmId>,
}

/// What a user says of a new disk.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewDisk {
    pub name: Name,
    pub description: String,
    pub size: ByteCount,
}
