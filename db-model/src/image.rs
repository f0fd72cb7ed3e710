//! Images: what disks may begin with.

use crate::schema::image;
use crate::{
    BlockSize, ByteCount, ImageId, Name, ProjectId, SiloId, SnapshotId,
};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// An image: a project's, or its silo's.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = image)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Image {
    pub id: ImageId,
    pub silo_id: SiloId,
    pub project_id: Option<ProjectId>,
    pub name: Name,
    pub description: String,
    pub os: String,
    pub version: String,
    pub size_bytes: ByteCount,
    pub block_size: BlockSize,
    pub made: bool,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// An image to be made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewImage {
    pub name: Name,
    pub description: String,
    pub os: String,
    pub version: String,
    pub snapshot_id: SnapshotId,
}
