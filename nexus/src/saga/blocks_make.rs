//! Makes what has blocks in the store: a distributed disk, a snapshot or an
//! image.
//!
//! 1. `will_insert`: nothing. Undo: the row, if it is there, is deleted: its name
//!    is free, its quota given back, and its blocks are to be gone, however far
//!    they are.
//! 2. `insert`: the row, not made yet, and its quota. From here on a disk that is
//!    being copied has no guest.
//! 3. `ensure`: a sled makes the blocks. As long as that goes on, so does this.
//! 4. `finish`: the row says that they are there.

use super::{Node, NodeError, Saga, SagaContext, beyond, granted_silo, store};
use crate::authz::{Action, Granted};
use db_model::{
    BlocksOf, BlocksSource, ByteCount, DiskId, DiskState, ImageId, InstanceId,
    NewDisk, NewImage, NewSnapshot, ProjectId, SiloId, SnapshotId,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

/// See the module.
pub struct BlocksMake;

/// What is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub what: Made,
    pub size: ByteCount,
    /// Who asked, and what was allowed. `None`: it was begun before that was
    /// recorded.
    #[serde(default)]
    pub granted: Option<Granted>,
}

/// Something that has blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Made {
    /// A distributed disk of a project.
    Disk { id: DiskId, project: ProjectId, new: NewDisk },
    /// A snapshot of a distributed disk, of the same project.
    Snapshot { id: SnapshotId, project: ProjectId, new: NewSnapshot },
    /// An image of a project, or of the silo.
    Image {
        id: ImageId,
        silo: SiloId,
        project: Option<ProjectId>,
        new: NewImage,
    },
}

impl Made {
    /// Whose the blocks are.
    pub fn of(&self) -> BlocksOf {
        match self {
            Made::Disk { id, .. } => BlocksOf::Disk(*id),
            Made::Snapshot { id, .. } => BlocksOf::Snapshot(*id),
            Made::Image { id, .. } => BlocksOf::Image(*id),
        }
    }

    /// In which project. `None`: the silo's own.
    fn within(&self) -> Option<ProjectId> {
        match self {
            Made::Disk { project, .. } | Made::Snapshot { project, .. } => {
                Some(*project)
            }
            Made::Image { project, .. } => *project,
        }
    }

    fn source(&self) -> BlocksSource {
        match self {
            Made::Disk { new, .. } => {
                new.kind.blocks_source().unwrap_or(BlocksSource::Blank)
            }
            Made::Snapshot { new, .. } => {
                BlocksSource::Copy(BlocksOf::Disk(new.disk_id))
            }
            Made::Image { new, .. } => {
                BlocksSource::Copy(BlocksOf::Snapshot(new.snapshot_id))
            }
        }
    }

    fn read_only(&self) -> bool {
        match self {
            Made::Disk { new, .. } => new.kind.read_only(),
            Made::Snapshot { .. } | Made::Image { .. } => true,
        }
    }
}

impl Saga for BlocksMake {
    const NAME: &'static str = "blocks_make";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.what.of().in_place_of_instance()
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![
            Node {
                name: "will_insert",
                action: |_, _| async { Ok(()) }.boxed(),
                undo: Some(|cx, p| will_insert_undo(cx, p).boxed()),
            },
            Node {
                name: "insert",
                action: |cx, p| insert(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "ensure",
                action: |cx, p| ensure(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "finish",
                action: |cx, p| finish(cx, p).boxed(),
                undo: None,
            },
        ]
    }
}

async fn will_insert_undo(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    cx.datastore.blocks_unmade(cx.fence, p.what.of()).await?;
    cx.activators.blocks_gone();
    Ok(())
}

async fn insert(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let (store, fence) = (&cx.datastore, cx.fence);
    let within = p.what.within();
    let action = match within {
        Some(_) => Action::Create,
        None => Action::ChangeImages,
    };
    let granted = granted_silo(p.granted, action, within)?;
    let inserted = match p.what {
        Made::Disk { id, project, new } => {
            store.disk_insert(fence, granted, project, id, new).await
        }
        Made::Snapshot { id, project, new } => {
            store.snapshot_insert(fence, granted, project, id, new).await
        }
        Made::Image { silo, .. } if granted.is_some_and(|s| s != silo) => {
            return Err(beyond());
        }
        Made::Image { id, silo, project, new } => {
            store.image_insert(fence, silo, project, id, new).await
        }
    };
    Ok(inserted?)
}

async fn ensure(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let (of, source) = (p.what.of(), p.what.source());
    store::ensure(&cx, of, p.size, p.what.read_only(), source).await
}

async fn finish(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let state = match p.what.source() {
        BlocksSource::Import => DiskState::ImportReady,
        BlocksSource::Blank | BlocksSource::Copy(_) => DiskState::Ready,
    };
    cx.datastore.blocks_made(cx.fence, p.what.of(), state).await?;
    // A start may wait for what was being copied.
    cx.activators.changed();
    Ok(())
}
