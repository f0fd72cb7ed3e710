//! Blocks: the contents of disks, snapshots and images.

use crate::schema::blocks_gone;
use crate::{
    BlocksId, ByteCount, DiskId, ImageId, InstanceId, SledId, SnapshotId,
};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};
use serde::{Deserialize, Serialize};

sql_enum! {
    /// Where blocks are.
    pub enum BlocksPlace: BlocksPlaceSql {
        /// In the store, which every sled sees.
        Store = "store",
        /// On one sled's storage.
        Local = "local",
    }
}

/// Whose blocks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlocksOf {
    /// A distributed disk's.
    Disk(DiskId),
    /// A snapshot's.
    Snapshot(SnapshotId),
    /// An image's.
    Image(ImageId),
}

impl BlocksOf {
    /// What they are called in the store.
    pub fn id(self) -> BlocksId {
        BlocksId(match self {
            BlocksOf::Disk(id) => id.0,
            BlocksOf::Snapshot(id) => id.0,
            BlocksOf::Image(id) => id.0,
        })
    }

    /// How a saga that works on them is found: its records know instances, and
    /// take any id for one.
    pub fn in_place_of_instance(self) -> InstanceId {
        InstanceId(self.id().0)
    }
}

/// What blocks are at first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", content = "of", rename_all = "snake_case")]
pub enum BlocksSource {
    /// Zeroes.
    Blank,
    /// What is sent afterwards.
    Import,
    /// What these hold.
    Copy(BlocksOf),
}

/// Blocks to be rid of.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = blocks_gone)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct BlocksGone {
    pub id: BlocksId,
    pub place: BlocksPlace,
    pub sled_id: Option<SledId>,
    pub size_bytes: ByteCount,
    pub time_created: DateTime<Utc>,
    pub tries: i64,
    pub next_try_at: DateTime<Utc>,
    pub last_error: Option<String>,
}

/// More storage was asked for than a silo's quota has left.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error,
)]
#[error(
    "the silo's storage quota is exceeded: {used} of {limit} are used, and \
     {requested} are requested"
)]
pub struct StorageExceeded {
    /// In use.
    pub used: ByteCount,
    /// The quota.
    pub limit: ByteCount,
    /// What was asked for.
    pub requested: ByteCount,
}
