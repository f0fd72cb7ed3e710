//! Making blocks, when that takes its time, fails, or dies half-way. The agent
//! runs a `qemu-img` that the test holds up or breaks.

use crate::agent::{Agent, refusal};
use crate::blocks_tools::{
    MIB, NOTHING, blank, contents, disk_of, files, image, making, snapshot_of,
    store, write_sector,
};
use crate::eventually::eventually;
use sled_agent_client::{BlocksPlace, BlocksState, RefusalCode};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use uuid::Uuid;

/// Notes who it is, writes a bit, and goes on once `hold` is not there; says
/// what is in `broken` and fails if that is there.
const HELD_UP: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
if [ -e broken ]; then cat broken >&2; exit 1; fi
if [ "$1" = convert ]; then
    for target; do :; done
    echo half > "$target"
    echo $$ >> running
    while [ -e hold ]; do sleep 0.01; done
fi
exec REAL "$@"
"#;

async fn agent() -> Agent {
    agent_with(&[]).await
}

async fn agent_with(arguments: &[&str]) -> Agent {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let real = std::env::split_paths(&path)
        .map(|dir| dir.join("qemu-img"))
        .find(|file| file.exists())
        .expect("qemu-utils is installed");
    let script = HELD_UP.replace("REAL", real.to_str().unwrap());
    std::fs::write(bin.join("qemu-img"), script).unwrap();
    let executable = Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("qemu-img"), executable).unwrap();
    let nobody = vec!["https://127.0.0.1:1".to_string()];
    Agent::start_in(dir, nobody, arguments).await
}

/// Two sleds on one store; the first is one that can be held up.
async fn two() -> (TempDir, Agent, Agent) {
    let store = tempfile::tempdir().unwrap();
    let arguments = ["--disk-store", store.path().to_str().unwrap()];
    let nobody = vec!["https://127.0.0.1:1".to_string()];
    let held_up = agent_with(&arguments).await;
    let other = Agent::start_with(nobody, &arguments).await;
    (store, held_up, other)
}

fn bin(agent: &Agent, name: &str) -> PathBuf {
    agent.dir().as_std_path().join("bin").join(name)
}

fn hold(agent: &Agent) {
    File::create(bin(agent, "hold")).unwrap();
}

fn let_go(agent: &Agent) {
    std::fs::remove_file(bin(agent, "hold")).unwrap();
}

/// The conversions that were begun, by process.
fn begun(agent: &Agent) -> Vec<String> {
    let text = std::fs::read_to_string(bin(agent, "running"));
    text.unwrap_or_default().lines().map(str::to_string).collect()
}

async fn until_begun(agent: &Agent, count: usize) {
    let enough = async || (begun(agent).len() >= count).then_some(());
    eventually("conversions are under way", enough).await;
}

async fn state(
    agent: &Agent,
    id: Uuid,
    wanted: &sled_agent_client::BlocksEnsure,
) -> BlocksState {
    agent.client.blocks_ensure(id, wanted).await.unwrap().state
}

/// A disk with something on it.
async fn written_disk(agent: &Agent) -> Uuid {
    let disk = agent.make(&blank(MIB)).await;
    write_sector(&store(agent), disk, 1, 0xab);
    disk
}

#[tokio::test]
async fn a_copy_under_way_is_joined_and_not_begun_again() {
    let agent = agent().await;
    let disk = written_disk(&agent).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    hold(&agent);
    for _ in 0..3 {
        assert_eq!(state(&agent, id, &wanted).await, BlocksState::Making);
    }
    let_go(&agent);
    agent.ready(id, &wanted).await;
    assert_eq!(begun(&agent).len(), 1);
    assert_eq!(contents(&store(&agent), id)[512], 0xab);
}

#[tokio::test]
async fn few_copies_are_under_way_at_once() {
    let agent = agent().await;
    let disk = written_disk(&agent).await;
    hold(&agent);
    let wanted = snapshot_of(disk, MIB);
    let ids = [(); 4].map(|()| Uuid::new_v4());
    for id in ids {
        assert_eq!(state(&agent, id, &wanted).await, BlocksState::Making);
    }
    until_begun(&agent, 2).await;
    assert_eq!(begun(&agent).len(), 2);
    // What copies nothing does not wait for them.
    agent.make(&blank(MIB)).await;
    let_go(&agent);
    for id in ids {
        agent.ready(id, &wanted).await;
    }
    assert_eq!(begun(&agent).len(), 4);
}

#[tokio::test]
async fn blocks_that_are_deleted_while_they_are_made_are_gone() {
    let agent = agent().await;
    let disk = written_disk(&agent).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    hold(&agent);
    assert_eq!(state(&agent, id, &wanted).await, BlocksState::Making);
    until_begun(&agent, 1).await;
    agent.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
    assert_eq!(files(&store(&agent), id), ["gone"]);
    assert_eq!(making(&store(&agent)), NOTHING);
    until_dead(&begun(&agent)).await;
    let again = agent.client.blocks_ensure(id, &wanted).await;
    assert_eq!(refusal(again), RefusalCode::BlocksTombstoned);
    // It holds up nobody else.
    let_go(&agent);
    agent.make(&wanted).await;
}

#[tokio::test]
async fn a_copy_that_was_cut_off_leaves_nothing_and_is_made_again() {
    let mut agent = agent().await;
    let disk = written_disk(&agent).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    hold(&agent);
    assert_eq!(state(&agent, id, &wanted).await, BlocksState::Making);
    until_begun(&agent, 1).await;
    agent.kill();
    // What worked for it does not live on, with its locks.
    until_dead(&begun(&agent)).await;
    assert_eq!(files(&store(&agent), id), NOTHING);
    assert_eq!(making(&store(&agent)).len(), 1);
    let_go(&agent);
    agent.start_again(&[]).await;
    agent.recovered().await;
    assert_eq!(making(&store(&agent)), NOTHING);
    agent.ready(id, &wanted).await;
    assert_eq!(contents(&store(&agent), id)[512], 0xab);
}

#[tokio::test]
async fn an_import_that_was_cut_off_while_it_was_finished_is_finished() {
    let mut agent = agent().await;
    let id = Uuid::new_v4();
    let wanted = image(MIB);
    agent.client.blocks_ensure(id, &wanted).await.unwrap();
    agent.client.blocks_write(id, 0, vec![0xcd; 512]).await.unwrap();
    hold(&agent);
    let report = agent.client.blocks_finish(id).await.unwrap();
    assert_eq!(report.state, BlocksState::Making);
    let late = agent.client.blocks_write(id, 0, vec![1; 512]).await;
    assert_eq!(refusal(late), RefusalCode::BlocksMisfit);
    agent.kill();
    let_go(&agent);
    agent.start_again(&[]).await;
    agent.recovered().await;
    agent.finished(id).await;
    agent.ready(id, &wanted).await;
    assert_eq!(contents(&store(&agent), id)[..512], [0xcd; 512]);
    assert_eq!(files(&store(&agent), id), ["qcow2"]);
}

#[tokio::test]
async fn a_failure_is_told_once_without_details_and_tried_again() {
    let agent = agent().await;
    let disk = written_disk(&agent).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    let failed =
        |message: &str| BlocksState::Failed { message: message.to_string() };
    for (said, told) in [
        (
            "qemu-img: error while writing: No space left on device\n",
            "The disk store is full.",
        ),
        ("qemu-img: /some/where: some trouble\n", "An internal error."),
    ] {
        std::fs::write(bin(&agent, "broken"), said).unwrap();
        let state = agent.settled(id, &wanted).await.unwrap();
        assert_eq!(state, failed(told));
        assert_eq!(making(&store(&agent)), NOTHING);
    }
    std::fs::remove_file(bin(&agent, "broken")).unwrap();
    agent.ready(id, &wanted).await;
}

#[tokio::test]
async fn what_was_made_from_what_is_gone_by_then_is_whole_all_the_same() {
    let agent = agent().await;
    let image = agent.import(&[7; 4096]).await;
    let disk = agent.make(&disk_of(image, MIB)).await;
    agent.client.blocks_delete(image, BlocksPlace::Store).await.unwrap();
    let copy = agent.make(&disk_of(disk, MIB)).await;
    agent.client.blocks_delete(disk, BlocksPlace::Store).await.unwrap();
    assert_eq!(contents(&store(&agent), copy)[..4096], [7; 4096]);
}

#[tokio::test]
async fn what_the_dead_have_left_is_cleared_up() {
    let mut agent = agent().await;
    let made = agent.make(&blank(MIB)).await;
    let buried = agent.make(&blank(MIB)).await;
    agent.kill();
    let dir = store(&agent);
    // Of those who died between making and looking for the tombstone.
    File::create(dir.join(format!("{buried}.gone"))).unwrap();
    std::fs::write(dir.join(format!("{made}.imported")), [0; 512]).unwrap();
    let leftover = |sled_id: Uuid, age: Duration| {
        let once = Uuid::new_v4();
        let path = dir.join("making").join(format!("{made}.{sled_id}.{once}"));
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        path
    };
    let hour = Duration::from_secs(60 * 60);
    let own = leftover(agent.addresses.sled_id, Duration::ZERO);
    let of_the_dead = leftover(Uuid::new_v4(), hour * 25);
    let of_the_living = leftover(Uuid::new_v4(), hour * 23);
    agent.start_again(&[]).await;
    agent.recovered().await;
    let gone = |path: &Path| !path.exists();
    eventually("it is cleared up", async || {
        let only =
            files(&dir, buried) == ["gone"] && files(&dir, made) == ["qcow2"];
        (only && gone(&own) && gone(&of_the_dead)).then_some(())
    })
    .await;
    assert!(of_the_living.exists());
}

#[tokio::test]
async fn blocks_that_another_sled_deletes_while_they_are_made_are_gone() {
    let (dir, slow, other) = two().await;
    let dir = dir.path();
    let disk = other.make(&blank(MIB)).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    hold(&slow);
    assert_eq!(state(&slow, id, &wanted).await, BlocksState::Making);
    until_begun(&slow, 1).await;
    other.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
    assert_eq!(making(dir), NOTHING);
    // It makes them to their end, and finds the tombstone.
    let_go(&slow);
    let made = slow.settled(id, &wanted).await;
    assert_eq!(refusal(made), RefusalCode::BlocksTombstoned);
    assert_eq!(files(dir, id), ["gone"]);
    assert_eq!(making(dir), NOTHING);
}

#[tokio::test]
async fn an_import_that_another_sled_has_finished_is_finished() {
    let (dir, slow, other) = two().await;
    let dir = dir.path();
    let (id, wanted) = (Uuid::new_v4(), image(MIB));
    slow.client.blocks_ensure(id, &wanted).await.unwrap();
    slow.client.blocks_write(id, 0, vec![0xcd; 512]).await.unwrap();
    hold(&slow);
    let report = slow.client.blocks_finish(id).await.unwrap();
    assert_eq!(report.state, BlocksState::Making);
    other.finished(id).await;
    // What it was to be made of is gone.
    let_go(&slow);
    slow.finished(id).await;
    assert_eq!(contents(dir, id)[..512], [0xcd; 512]);
    assert_eq!(files(dir, id), ["qcow2"]);
    assert_eq!(making(dir), NOTHING);
}

#[tokio::test]
async fn a_disk_of_an_image_that_was_cut_off_is_made_to_its_end() {
    let agent = agent().await;
    let dir = store(&agent);
    let (image, id) = (agent.import(&[7; 4096]).await, Uuid::new_v4());
    let name = |id, rest| dir.join(format!("{id}.{rest}"));
    std::fs::hard_link(name(image, "qcow2"), name(id, "base.qcow2")).unwrap();
    agent.ready(id, &disk_of(image, MIB)).await;
    assert_eq!(contents(&dir, id)[..4096], [7; 4096]);
}

async fn until_dead(processes: &[String]) {
    assert!(!processes.is_empty());
    eventually("they are dead", async || {
        let lives = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            // What nobody has waited for yet is dead, too.
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        (!processes.iter().any(lives)).then_some(())
    })
    .await;
}
