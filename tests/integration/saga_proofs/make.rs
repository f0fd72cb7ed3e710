//! blocks_make, of an image of a snapshot of a disk.

use super::fixture::{BLANK, disks_deleted, granted, saga, snapshots_deleted};
use super::{Proved, slate};
use db_model::{
    ByteCount, DiskId, ImageId, NameOrId, NewDisk, NewImage, NewSnapshot,
    SnapshotId,
};
use db_queries::Error;
use harness::{SagaBench, blocks_in_store, name};
use nexus::authz::Action;
use nexus::saga::Fault;
use nexus::saga::blocks_make::{BlocksMake, Made, Params};

const SIZE: ByteCount = ByteCount::GIB;

impl Proved for BlocksMake {
    /// The disk and the snapshot are made by sagas of the same kind.
    async fn set_up(bench: &SagaBench) -> Params {
        let project = bench.project;
        let id = DiskId::new_v4();
        let new = NewDisk {
            name: name("source"),
            description: String::new(),
            size: SIZE,
            kind: BLANK,
        };
        let what = Made::Disk { id, project, new };
        saga::<BlocksMake>(bench, &to_do(bench, what)).await;
        let new = NewSnapshot {
            name: name("source"),
            description: String::new(),
            disk_id: id,
        };
        let id = SnapshotId::new_v4();
        let what = Made::Snapshot { id, project, new };
        saga::<BlocksMake>(bench, &to_do(bench, what)).await;
        to_make(bench, id).await
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        let image = image(bench, params).await.unwrap();
        assert_eq!(image.size_bytes, SIZE);
        let there = blocks_in_store(bench.dir());
        assert!(there.contains(&image.id.to_string()), "{there:?}");
        assert_eq!(there.len(), 3, "{there:?}");
    }

    async fn check_failure(
        bench: &SagaBench,
        params: &Params,
        _node: &str,
        _fault: Fault,
    ) {
        let found = image(bench, params).await;
        assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
        slate::is_clean(bench).await;
        assert_eq!(blocks_in_store(bench.dir()).len(), 2);
    }

    /// Another image of the same name, which must be free.
    async fn again(bench: &SagaBench, failed: &Params) -> Params {
        let Made::Image { new, .. } = &failed.what else { unreachable!() };
        to_make(bench, new.snapshot_id).await
    }

    async fn tear_down(bench: &SagaBench, params: &Params) {
        let Made::Image { id, .. } = params.what else { unreachable!() };
        bench.datastore.image_delete(id).await.unwrap();
        snapshots_deleted(bench).await;
        disks_deleted(bench).await;
    }
}

async fn to_make(bench: &SagaBench, snapshot_id: SnapshotId) -> Params {
    let new = NewImage {
        name: name("image"),
        description: String::new(),
        os: "debian".to_string(),
        version: "12".to_string(),
        snapshot_id,
    };
    let (silo, project) = (bench.silo, Some(bench.project));
    let what = Made::Image { id: ImageId::new_v4(), silo, project, new };
    to_do(bench, what)
}

fn to_do(bench: &SagaBench, what: Made) -> Params {
    Params { what, size: SIZE, granted: granted(bench, Action::Create) }
}

async fn image(
    bench: &SagaBench,
    params: &Params,
) -> Result<db_model::Image, Error> {
    let which = NameOrId::Id(params.what.of().id().0);
    bench.datastore.image_view(bench.silo, None, which).await
}
