//! Several sleds on one disk store.

use crate::agent::{Agent, refusal};
use crate::blocks_tools::{
    MIB, NOTHING, blank, contents, disk_of, files, image, making,
};
use crate::nexus::Nexus;
use sled_agent_client::{BlocksPlace, BlocksState, Error, RefusalCode};
use std::path::Path;
use tempfile::TempDir;
use uuid::Uuid;

const NOBODY: &str = "https://127.0.0.1:1";

async fn sled_on(store: &Path) -> Agent {
    let arguments = ["--disk-store", store.to_str().unwrap()];
    Agent::start_with(vec![NOBODY.to_string()], &arguments).await
}

async fn two() -> (TempDir, Agent, Agent) {
    let store = tempfile::tempdir().unwrap();
    let (one, two) = tokio::join!(sled_on(store.path()), sled_on(store.path()));
    (store, one, two)
}

#[tokio::test]
async fn two_sleds_that_are_asked_at_once_make_the_same_blocks_once() {
    let (store, one, two) = two().await;
    let dir = store.path();
    for wanted in [blank(MIB), disk_of(one.import(&[7; 4096]).await, MIB)] {
        for _ in 0..5 {
            let id = Uuid::new_v4();
            tokio::join!(one.ready(id, &wanted), two.ready(id, &wanted));
            contents(dir, id);
        }
    }
    assert_eq!(making(dir), NOTHING);
}

#[tokio::test]
async fn an_import_may_go_through_several_sleds_at_once() {
    let (store, one, two) = two().await;
    let (id, wanted) = (Uuid::new_v4(), image(2 * MIB));
    let (first, second) = tokio::join!(
        one.client.blocks_ensure(id, &wanted),
        two.client.blocks_ensure(id, &wanted),
    );
    for report in [first, second] {
        assert_eq!(report.unwrap().state, BlocksState::Importing);
    }
    let (low, high) = (vec![1; 1 << 20], vec![2; 1 << 20]);
    let (first, second) = tokio::join!(
        one.client.blocks_write(id, 0, low.clone()),
        two.client.blocks_write(id, MIB, high.clone()),
    );
    first.unwrap();
    second.unwrap();
    tokio::join!(one.finished(id), two.finished(id));
    assert_eq!(contents(store.path(), id), [low, high].concat());
    assert_eq!(files(store.path(), id), ["qcow2"]);
}

#[tokio::test]
async fn every_chunk_that_was_answered_is_in_what_another_sled_finishes() {
    let (store, one, two) = two().await;
    for _ in 0..10 {
        let id = Uuid::new_v4();
        one.client.blocks_ensure(id, &image(MIB)).await.unwrap();
        let chunk = vec![1; 1 << 20];
        let (written, ()) = tokio::join!(
            one.client.blocks_write(id, 0, chunk.clone()),
            two.finished(id),
        );
        match written {
            Ok(()) => assert_eq!(contents(store.path(), id), chunk),
            late => assert_eq!(refusal(late), RefusalCode::BlocksMisfit),
        }
    }
}

#[tokio::test]
async fn what_one_sled_deletes_no_other_makes() {
    let (store, one, two) = two().await;
    for _ in 0..10 {
        let (id, wanted) = (Uuid::new_v4(), blank(MIB));
        let (made, deleted) = tokio::join!(
            one.client.blocks_ensure(id, &wanted),
            two.client.blocks_delete(id, BlocksPlace::Store),
        );
        deleted.unwrap();
        match made {
            Ok(_) => {}
            refused => {
                assert_eq!(refusal(refused), RefusalCode::BlocksTombstoned);
            }
        }
        assert_eq!(files(store.path(), id), ["gone"]);
        let again = one.client.blocks_ensure(id, &wanted).await;
        assert_eq!(refusal(again), RefusalCode::BlocksTombstoned);
    }
    assert_eq!(making(store.path()), NOTHING);
}

#[tokio::test]
async fn local_blocks_are_those_of_one_sled() {
    let (_store, one, two) = two().await;
    let wanted = sled_agent_client::BlocksEnsure {
        place: BlocksPlace::Local,
        ..blank(MIB)
    };
    let id = one.make(&wanted).await;
    assert_eq!(
        contents(&one.dir().as_std_path().join("local"), id).len(),
        1 << 20
    );
    let copy = sled_agent_client::BlocksEnsure {
        place: BlocksPlace::Local,
        ..disk_of(id, MIB)
    };
    let elsewhere = two.client.blocks_ensure(Uuid::new_v4(), &copy).await;
    assert!(matches!(elsewhere, Err(Error::NoSuchBlocks)), "{elsewhere:?}");
    one.make(&copy).await;
}

#[tokio::test]
async fn sleds_say_which_store_they_have() {
    let nexus = Nexus::start();
    let store = tempfile::tempdir().unwrap();
    let arguments = ["--disk-store", store.path().to_str().unwrap()];
    let (_one, _two, _alone) = tokio::join!(
        Agent::start_with(vec![nexus.url()], &arguments),
        Agent::start_with(vec![nexus.url()], &arguments),
        Agent::start(&nexus),
    );
    let state =
        nexus.until("all", |state| state.registrations.len() == 3).await;
    let said = state.registrations.iter().map(|sled| sled.disk_store.unwrap());
    let mut said: Vec<_> = said.collect();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), 2, "two have the same one: {said:?}");
}

#[tokio::test]
async fn a_sled_whose_store_is_not_mounted_does_not_start() {
    let store = tempfile::tempdir().unwrap();
    let mut agent = sled_on(store.path()).await;
    agent.kill();
    // What is below a mount point.
    let bare = tempfile::tempdir().unwrap();
    let missing = bare.path().join("missing");
    for dir in [bare.path(), &missing] {
        let status =
            agent.run_to_its_end(&["--disk-store", dir.to_str().unwrap()]);
        assert!(!status.success());
    }
    let arguments = ["--disk-store", store.path().to_str().unwrap()];
    agent.start_again(&arguments).await;
    agent.recovered().await;
}
