//! import_finish, with a snapshot.

use super::fixture::{
    disks, disks_deleted, granted, saga, snapshots, snapshots_deleted,
};
use super::{Proved, slate};
use db_model::{
    BlockSize, ByteCount, DiskId, DiskState, NewDisk, NewDiskKind, NewSnapshot,
    SnapshotId,
};
use harness::{SagaBench, blocks_in_store, name};
use nexus::authz::Action;
use nexus::saga::Fault;
use nexus::saga::blocks_make::{self, BlocksMake, Made};
use nexus::saga::import_finish::{ImportFinish, Params};

const SIZE: ByteCount = ByteCount::GIB;

impl Proved for ImportFinish {
    async fn set_up(bench: &SagaBench) -> Params {
        let id = DiskId::new_v4();
        let block_size = BlockSize::try_from(512).unwrap();
        let new = NewDisk {
            name: name("import"),
            description: String::new(),
            size: SIZE,
            kind: NewDiskKind::Import { block_size },
        };
        let what = Made::Disk { id, project: bench.project, new };
        let granted = granted(bench, Action::Create);
        let params = blocks_make::Params { what, size: SIZE, granted };
        saga::<BlocksMake>(bench, &params).await;
        bench.sled.blocks_write(id.0, 0, vec![1; 512]).await.unwrap();
        to_finish(bench, id)
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        let disks = disks(bench).await;
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].state, DiskState::Ready);
        let snapshots = snapshots(bench).await;
        assert_eq!(snapshots.len(), 1);
        assert!(snapshots[0].made);
        assert_eq!(snapshots[0].disk_id, params.disk_id);
        assert_eq!(blocks_in_store(bench.dir()).len(), 2);
    }

    async fn check_failure(
        bench: &SagaBench,
        _params: &Params,
        _node: &str,
        _fault: Fault,
    ) {
        let disks = disks(bench).await;
        assert_eq!(disks[0].state, DiskState::ImportReady);
        assert!(snapshots(bench).await.is_empty());
        slate::is_clean(bench).await;
        assert_eq!(blocks_in_store(bench.dir()).len(), 1);
    }

    /// With another snapshot of the same name.
    async fn again(bench: &SagaBench, failed: &Params) -> Params {
        to_finish(bench, failed.disk_id)
    }

    async fn tear_down(bench: &SagaBench, _params: &Params) {
        snapshots_deleted(bench).await;
        disks_deleted(bench).await;
    }
}

fn to_finish(bench: &SagaBench, disk_id: DiskId) -> Params {
    let new = NewSnapshot {
        name: name("imported"),
        description: String::new(),
        disk_id,
    };
    let snapshot = Some((SnapshotId::new_v4(), new));
    let granted = granted(bench, Action::ChangeContents);
    Params { disk_id, size: SIZE, snapshot, granted }
}
