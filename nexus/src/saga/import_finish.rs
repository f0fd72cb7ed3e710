//! Finishes the import of a disk's blocks, and makes a snapshot with that if one
//! is wished.
//!
//! 1. `will_begin`: nothing. Undo: the snapshot, if it is there, is deleted, and
//!    the disk, if it is still `finalizing`, is `import_ready` again.
//! 2. `begin`: the disk is `finalizing`, so nothing is sent to it any more, and
//!    the snapshot's row is there.
//! 3. `finish`: a sled finishes the blocks. If they are lost, the disk is
//!    faulted, which is not undone.
//! 4. `copy`: a sled makes the snapshot's blocks.
//! 5. `end`: the disk is detached, and the snapshot ready.

use super::{
    Node, NodeError, Saga, SagaContext, SagaFailure, granted_silo, store,
};
use crate::authz::{Action, Granted};
use db_model::{
    BlocksOf, BlocksSource, ByteCount, DiskId, InstanceId, NewSnapshot,
    SnapshotId,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

/// See the module.
pub struct ImportFinish;

/// What is to be finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub disk_id: DiskId,
    pub size: ByteCount,
    pub snapshot: Option<(SnapshotId, NewSnapshot)>,
    /// Who asked, and what was allowed. `None`: it was begun before that was
    /// recorded.
    #[serde(default)]
    pub granted: Option<Granted>,
}

impl Params {
    fn disk(&self) -> BlocksOf {
        BlocksOf::Disk(self.disk_id)
    }

    fn snapshot_id(&self) -> Option<SnapshotId> {
        self.snapshot.as_ref().map(|(id, _)| *id)
    }
}

impl Saga for ImportFinish {
    const NAME: &'static str = "import_finish";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.disk().in_place_of_instance()
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![
            Node {
                name: "will_begin",
                action: |_, _| async { Ok(()) }.boxed(),
                undo: Some(|cx, p| will_begin_undo(cx, p).boxed()),
            },
            Node {
                name: "begin",
                action: |cx, p| begin(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "finish",
                action: |cx, p| finish(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "copy",
                action: |cx, p| copy(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "end",
                action: |cx, p| end(cx, p).boxed(),
                undo: None,
            },
        ]
    }
}

async fn will_begin_undo(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    if let Some(id) = p.snapshot_id() {
        let of = BlocksOf::Snapshot(id);
        cx.datastore.blocks_unmade(cx.fence, of).await?;
        cx.activators.blocks_gone();
    }
    cx.datastore.disk_finalize_undone(cx.fence, p.disk_id, false).await?;
    Ok(())
}

async fn begin(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let project = p.granted.and_then(|granted| granted.project);
    let silo = granted_silo(p.granted, Action::ChangeContents, project)?;
    let within = silo.zip(project);
    let begun =
        cx.datastore.disk_finalize(cx.fence, within, p.disk_id, p.snapshot);
    Ok(begun.await?)
}

async fn finish(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let finished = store::finish(&cx, p.disk()).await;
    if let Err(NodeError::Failed(
        SagaFailure::BlocksFailed { .. } | SagaFailure::NotFound,
    )) = finished
    {
        cx.datastore.disk_finalize_undone(cx.fence, p.disk_id, true).await?;
    }
    finished
}

async fn copy(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let Some(id) = p.snapshot_id() else { return Ok(()) };
    let source = BlocksSource::Copy(p.disk());
    store::ensure(&cx, BlocksOf::Snapshot(id), p.size, true, source).await
}

async fn end(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let snapshot = p.snapshot_id();
    Ok(cx.datastore.disk_finalized(cx.fence, p.disk_id, snapshot).await?)
}
