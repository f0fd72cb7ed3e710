//! Sagas go no farther than what was allowed to who asked for them.

use super::fixture::{BLANK, GUEST, created, granted, saga, to_create};
use db_model::{
    ByteCount, DiskId, InstanceId, NewDisk, NewDiskKind, NewImage, NewSnapshot,
    NewSshKey, ProjectId, SiloId, SiloUserId, SnapshotId,
};
use harness::{SagaBench, name};
use nexus::authz::{Action, Granted};
use nexus::saga::blocks_make::{BlocksMake, Made};
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::{Saga, SagaFailure, blocks_make, registry};

/// Another silo, with a project and a user.
async fn another(bench: &SagaBench) -> (SiloId, ProjectId, SiloUserId) {
    let (user, silo) = bench.another_silo().await;
    let project = bench
        .datastore
        .project_create(silo, name("theirs"), String::new())
        .await
        .unwrap();
    (silo, project.id, user)
}

/// Runs a saga that asks for too much: it fails, and leaves nothing.
async fn refused<S: Saga>(bench: &SagaBench, params: &S::Params, what: &str) {
    let count = || {
        bench.database.count(
            "SELECT (SELECT count(*) FROM instance \
                 WHERE time_deleted IS NULL) \
             + (SELECT count(*) FROM disk WHERE time_deleted IS NULL) \
             + (SELECT count(*) FROM snapshot WHERE time_deleted IS NULL) \
             + (SELECT count(*) FROM image WHERE time_deleted IS NULL)",
        )
    };
    let before = count();
    bench.heartbeat().await;
    let (_, ended) = bench.executor(registry()).run::<S>(params).await;
    let failure = ended.expect_err(what);
    assert!(matches!(failure, SagaFailure::NotFound), "{what}: {failure:?}");
    assert_eq!(count(), before, "{what}");
}

fn disk(kind: NewDiskKind) -> NewDisk {
    NewDisk {
        name: name("forged"),
        description: String::new(),
        size: ByteCount::GIB,
        kind,
    }
}

#[tokio::test]
async fn a_saga_does_not_do_more_than_was_allowed_when_it_was_asked_for() {
    let bench = SagaBench::start(GUEST).await;
    let (silo, theirs, stranger) = another(&bench).await;
    let params = to_create(&bench).await;

    let mut forged = params.clone();
    forged.project_id = theirs;
    forged.joins = Default::default();
    refused::<InstanceCreate>(&bench, &forged, "another project").await;

    forged.granted = forged
        .granted
        .map(|granted| Granted { project: Some(theirs), ..granted });
    refused::<InstanceCreate>(&bench, &forged, "another silo").await;

    let mut forged = params.clone();
    forged.granted = granted(&bench, Action::View);
    refused::<InstanceCreate>(&bench, &forged, "another action").await;

    let mut forged = params.clone();
    let key = NewSshKey {
        name: name("key"),
        description: String::new(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lSxYV4mA0\
                     TQzJm5l9Z3kq1mQyqzqkz3m1v"
            .parse()
            .unwrap(),
    };
    let key = bench.datastore.ssh_key_create(stranger, key).await.unwrap();
    forged.joins.ssh_keys = vec![key.id];
    refused::<InstanceCreate>(&bench, &forged, "another's key").await;

    let new = disk(NewDiskKind::Local);
    let away = bench.datastore.disk_create(theirs, new).await.unwrap();
    let mut forged = params.clone();
    forged.joins.attached.push(away.id);
    refused::<InstanceCreate>(&bench, &forged, "another's disk").await;

    let mut forged = params.clone();
    forged.joins.boot = Some(away.id);
    refused::<InstanceCreate>(&bench, &forged, "another's boot disk").await;

    // Of the own silo, for the other one's project.
    let (id, project) = (DiskId::new_v4(), bench.project);
    let own = |what| blocks_make::Params {
        what,
        size: ByteCount::GIB,
        granted: granted(&bench, Action::Create),
    };
    let what = Made::Disk { id, project, new: disk(BLANK) };
    saga::<BlocksMake>(&bench, &own(what)).await;
    let new = NewSnapshot {
        name: name("own"),
        description: String::new(),
        disk_id: id,
    };
    let snapshot = SnapshotId::new_v4();
    let what = Made::Snapshot { id: snapshot, project, new };
    saga::<BlocksMake>(&bench, &own(what)).await;
    let (user, project, action) = (stranger, Some(theirs), Action::Create);
    let there = |what| blocks_make::Params {
        what,
        size: ByteCount::GIB,
        granted: Some(Granted { user, silo, project, action }),
    };
    let kind = NewDiskKind::Snapshot { id: snapshot, read_only: false };
    let (id, new) = (DiskId::new_v4(), disk(kind));
    let what = Made::Disk { id, project: theirs, new };
    refused::<BlocksMake>(&bench, &there(what), "another's snapshot").await;
    let new = NewImage {
        name: name("forged"),
        description: String::new(),
        os: "debian".to_string(),
        version: "12".to_string(),
        snapshot_id: snapshot,
    };
    let id = db_model::ImageId::new_v4();
    let image = |silo| Made::Image { id, silo, project, new: new.clone() };
    refused::<BlocksMake>(&bench, &there(image(silo)), "its image").await;
    let what = image(bench.silo);
    refused::<BlocksMake>(&bench, &there(what), "an image there").await;
}

#[tokio::test]
async fn a_saga_that_was_begun_before_grants_were_recorded_goes_on() {
    let bench = SagaBench::start(GUEST).await;
    let params = to_create(&bench).await;
    let mut kept = serde_json::to_value(&params).unwrap();
    kept.as_object_mut().unwrap().remove("granted").unwrap();
    let params = serde_json::from_value(kept).unwrap();
    saga::<InstanceCreate>(&bench, &params).await;
}

#[tokio::test]
async fn an_instance_is_not_started_with_another_project_s_disk() {
    let bench = SagaBench::start(GUEST).await;
    let id: InstanceId = created(&bench).await;
    let (_, theirs, _) = another(&bench).await;
    let new = disk(NewDiskKind::Local);
    let away = bench.datastore.disk_create(theirs, new).await.unwrap();
    // What no request and no saga writes.
    let sql = format!(
        "UPDATE disk SET instance_id = '{id}' WHERE id = '{}'",
        away.id,
    );
    bench.database.try_sql(&sql).unwrap();
    let disks = bench.datastore.disks_to_boot(id).await.unwrap();
    assert!(!disks.is_empty());
    assert!(disks.iter().all(|disk| disk.project_id == bench.project));
}
