//! Disks: local ones, blocks of one sled's own storage, and distributed ones,
//! whose blocks are in the store that every sled sees.

use crate::schema::disk;
use crate::{
    BlockSize, BlocksId, BlocksOf, BlocksPlace, BlocksSource, ByteCount,
    DiskId, ImageId, InstanceId, Name, ProjectId, SagaId, SledId, SnapshotId,
    VmmId,
};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};
use serde::{Deserialize, Serialize};

/// Disks that an instance may have.
pub const MAX_INSTANCE_DISKS: i64 = 12;

sql_enum! {
    /// Where a disk's blocks are.
    pub enum DiskBackend: DiskBackendSql {
        /// On a sled's own storage.
        Local = "local",
        /// In the store.
        Distributed = "distributed",
    }
}

sql_enum! {
    /// How far a disk's blocks are. Whether it is attached is another question.
    pub enum DiskState: DiskStateSql {
        /// They are being made.
        Creating = "creating",
        /// They are there, or, of a local disk, come about when it is needed.
        Ready = "ready",
        /// They are to be sent.
        ImportReady = "import_ready",
        /// They are being sent.
        ImportingFromBulkWrites = "importing_from_bulk_writes",
        /// All was sent that will be.
        Finalizing = "finalizing",
        /// They are lost.
        Faulted = "faulted",
    }
}

impl DiskState {
    /// May a disk that is attached to nothing be deleted?
    pub fn may_be_deleted(self) -> bool {
        match self {
            DiskState::Ready
            | DiskState::ImportReady
            | DiskState::ImportingFromBulkWrites
            | DiskState::Faulted => true,
            DiskState::Creating | DiskState::Finalizing => false,
        }
    }
}

/// A disk.
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
    pub backend: DiskBackend,
    pub state: DiskState,
    pub block_size: BlockSize,
    pub read_only: bool,
    pub blocks_id: Option<BlocksId>,
    pub snapshot_id: Option<SnapshotId>,
    pub image_id: Option<ImageId>,
    pub finalized_by: Option<SagaId>,
}

impl Disk {
    /// What its blocks are called, and where. Of a local disk that was
    /// allocated before its blocks had a name of their own, they bear its id.
    pub fn blocks(&self) -> (BlocksId, BlocksPlace) {
        let own = BlocksOf::Disk(self.id).id();
        match self.backend {
            DiskBackend::Distributed => (own, BlocksPlace::Store),
            DiskBackend::Local => {
                (self.blocks_id.unwrap_or(own), BlocksPlace::Local)
            }
        }
    }
}

/// What a user says of a new disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewDisk {
    pub name: Name,
    pub description: String,
    pub size: ByteCount,
    #[serde(default)]
    pub kind: NewDiskKind,
}

/// Where a new disk's blocks shall be, and what shall be in them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum NewDiskKind {
    /// On the host that runs its instance; blank.
    #[default]
    Local,
    /// In the store; blank.
    Blank { block_size: BlockSize },
    /// In the store; to be sent.
    Import { block_size: BlockSize },
    /// In the store; what a snapshot holds.
    Snapshot { id: SnapshotId, read_only: bool },
    /// In the store; what an image holds.
    Image { id: ImageId, read_only: bool },
}

impl NewDiskKind {
    /// Where its blocks shall be.
    pub fn backend(self) -> DiskBackend {
        match self.blocks_source() {
            None => DiskBackend::Local,
            Some(_) => DiskBackend::Distributed,
        }
    }

    /// What shall be in its blocks; `None`: there are none before it is needed.
    pub fn blocks_source(self) -> Option<BlocksSource> {
        match self {
            NewDiskKind::Local => None,
            NewDiskKind::Blank { .. } => Some(BlocksSource::Blank),
            NewDiskKind::Import { .. } => Some(BlocksSource::Import),
            NewDiskKind::Snapshot { id, .. } => {
                Some(BlocksSource::Copy(BlocksOf::Snapshot(id)))
            }
            NewDiskKind::Image { id, .. } => {
                Some(BlocksSource::Copy(BlocksOf::Image(id)))
            }
        }
    }

    /// Shall it be read only?
    pub fn read_only(self) -> bool {
        match self {
            NewDiskKind::Snapshot { read_only, .. }
            | NewDiskKind::Image { read_only, .. } => read_only,
            NewDiskKind::Local
            | NewDiskKind::Blank { .. }
            | NewDiskKind::Import { .. } => false,
        }
    }
}
