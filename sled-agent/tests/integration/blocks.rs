//! Blocks: made, imported, copied and deleted.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::blocks_tools::{
    Holder, KIB, MIB, NOTHING, blank, contents, disk_of, files, image, making,
    snapshot_of, store, write_sector,
};
use crate::eventually::eventually;
use sled_agent::{Effect, FaultyOperation};
use sled_agent_client::{
    BlocksPlace, BlocksState, Error, RefusalCode, RequestedState, VmmDisk,
    VmmRegister,
};
use uuid::Uuid;

#[tokio::test]
async fn blank_blocks_are_zeroes_and_are_made_once() {
    let agent = Agent::start_without_nexus().await;
    let id = agent.make(&blank(MIB)).await;
    assert_eq!(contents(&store(&agent), id), vec![0; 1 << 20]);
    write_sector(&store(&agent), id, 3, 7);
    agent.ready(id, &blank(MIB)).await;
    assert_eq!(contents(&store(&agent), id)[3 * 512], 7);
    assert_eq!(files(&store(&agent), id), ["qcow2"]);
    assert_eq!(making(&store(&agent)), NOTHING);
}

#[tokio::test]
async fn blocks_are_a_number_of_sectors() {
    let agent = Agent::start_without_nexus().await;
    for size_bytes in [0, 1, 513] {
        let answer = agent
            .client
            .blocks_ensure(Uuid::new_v4(), &blank(size_bytes))
            .await;
        assert_eq!(refusal(answer), RefusalCode::BlocksMisfit);
    }
}

#[tokio::test]
async fn an_import_takes_chunks_in_any_order_and_any_number_of_times() {
    let mut agent = Agent::start_without_nexus().await;
    let (id, wanted) = (Uuid::new_v4(), image(3 * MIB));
    for _ in 0..2 {
        let report = agent.client.blocks_ensure(id, &wanted).await.unwrap();
        assert_eq!(report.state, BlocksState::Importing);
    }
    // The file of a user that says that it is another format, based on a file
    // of the host.
    let mut first = b"QFI\xfb\x00\x00\x00\x03 /etc/shadow".to_vec();
    first.resize(1 << 20, 0x11);
    let last = vec![0x33; 1 << 20];
    agent.client.blocks_write(id, 2 * MIB, last.clone()).await.unwrap();
    agent.client.blocks_write(id, 0, vec![0x22; 4096]).await.unwrap();
    agent.restart().await;
    agent.client.blocks_write(id, 0, first.clone()).await.unwrap();
    agent.client.blocks_write(id, 2 * MIB, last.clone()).await.unwrap();
    let report = agent.client.blocks_ensure(id, &wanted).await.unwrap();
    assert_eq!(report.state, BlocksState::Importing);

    agent.finished(id).await;
    let whole = [first, vec![0; 1 << 20], last].concat();
    assert_eq!(contents(&store(&agent), id), whole);
    assert_eq!(files(&store(&agent), id), ["qcow2"]);
}

#[tokio::test]
async fn a_finished_import_stays_so_whatever_comes_late() {
    let agent = Agent::start_without_nexus().await;
    let bytes = vec![5; 4096];
    let id = agent.import(&bytes).await;
    let late = agent.client.blocks_write(id, 0, vec![6; 512]).await;
    assert_eq!(refusal(late), RefusalCode::BlocksMisfit);
    agent.ready(id, &image(4 * KIB)).await;
    agent.finished(id).await;
    assert_eq!(contents(&store(&agent), id), bytes);
    assert_eq!(files(&store(&agent), id), ["qcow2"]);
}

#[tokio::test]
async fn chunks_are_written_within_what_is_being_imported() {
    let agent = Agent::start_without_nexus().await;
    let id = Uuid::new_v4();
    agent.client.blocks_ensure(id, &image(4 * KIB)).await.unwrap();
    for offset in [3585, 4096, u64::MAX] {
        let chunk = agent.client.blocks_write(id, offset, vec![1; 512]).await;
        assert_eq!(refusal(chunk), RefusalCode::BlocksMisfit);
    }
    agent.client.blocks_write(id, 3584, vec![1; 512]).await.unwrap();
    let unknown = agent.client.blocks_write(Uuid::new_v4(), 0, vec![1]).await;
    assert!(matches!(unknown, Err(Error::NoSuchBlocks)), "{unknown:?}");
    let unknown = agent.client.blocks_finish(Uuid::new_v4()).await;
    assert!(matches!(unknown, Err(Error::NoSuchBlocks)), "{unknown:?}");
}

#[tokio::test]
async fn copies_of_copies_outlive_what_they_were_copied_from() {
    let agent = Agent::start_without_nexus().await;
    let dir = store(&agent);
    let image = agent.import(&[vec![1; 4096], vec![0; 4096]].concat()).await;
    let disk = agent.make(&disk_of(image, 8 * KIB)).await;
    write_sector(&dir, disk, 1, 2);
    let snapshot = agent.make(&snapshot_of(disk, 8 * KIB)).await;
    // What is written later is not in it.
    write_sector(&dir, disk, 2, 9);
    let same = agent.make(&snapshot_of(snapshot, 8 * KIB)).await;
    let larger = agent.make(&disk_of(same, 16 * KIB)).await;
    write_sector(&dir, larger, 31, 3);
    let copy = agent.make(&disk_of(larger, 32 * KIB)).await;
    let kept = agent.make(&snapshot_of(same, 16 * KIB)).await;
    for id in [image, disk, snapshot, same, larger] {
        agent.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
        assert_eq!(files(&dir, id), ["gone"]);
    }
    let mut bytes = vec![1; 512];
    bytes.extend([2; 512]);
    bytes.extend([1; 3072]);
    bytes.resize(16 << 10, 0);
    assert_eq!(contents(&dir, kept), bytes);
    bytes[31 * 512..].fill(3);
    bytes.resize(32 << 10, 0);
    assert_eq!(contents(&dir, copy), bytes);
}

#[tokio::test]
async fn a_disk_of_an_image_takes_no_room_until_it_is_written() {
    use std::os::unix::fs::MetadataExt;
    let agent = Agent::start_without_nexus().await;
    let image = agent.import(&vec![1; 1 << 20]).await;
    let disk = agent.make(&disk_of(image, MIB)).await;
    let same = agent.make(&snapshot_of(image, MIB)).await;
    let dir = store(&agent);
    let file = |name: &str| dir.join(name).metadata().unwrap();
    assert_eq!(files(&dir, disk), ["base.qcow2", "qcow2"]);
    let original = file(&format!("{image}.qcow2")).ino();
    assert_eq!(file(&format!("{disk}.base.qcow2")).ino(), original);
    assert_eq!(file(&format!("{same}.qcow2")).ino(), original);
    assert_eq!(file(&format!("{same}.qcow2")).mode() & 0o777, 0o440);
    assert_eq!(file(&format!("{disk}.qcow2")).mode() & 0o777, 0o660);
}

#[tokio::test]
async fn what_is_larger_or_not_there_is_not_copied() {
    let agent = Agent::start_without_nexus().await;
    let large = agent.make(&blank(MIB)).await;
    let make = async |wanted| {
        let answer = agent.client.blocks_ensure(Uuid::new_v4(), &wanted).await;
        answer.map(|report| report.state)
    };
    let larger = make(disk_of(large, MIB - 512)).await;
    assert_eq!(refusal(larger), RefusalCode::BlocksMisfit);
    let unknown = make(disk_of(Uuid::new_v4(), MIB)).await;
    assert!(matches!(unknown, Err(Error::NoSuchBlocks)), "{unknown:?}");

    let importing = Uuid::new_v4();
    agent.client.blocks_ensure(importing, &image(MIB)).await.unwrap();
    let copy = make(disk_of(importing, MIB)).await;
    assert_eq!(refusal(copy), RefusalCode::BlocksMisfit);

    agent.client.blocks_delete(large, BlocksPlace::Store).await.unwrap();
    let deleted = make(disk_of(large, MIB)).await;
    assert!(matches!(deleted, Err(Error::NoSuchBlocks)), "{deleted:?}");
}

#[tokio::test]
async fn what_something_else_writes_is_not_copied() {
    let agent = Agent::start_without_nexus().await;
    let disk = agent.make(&blank(MIB)).await;
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    let holder = Holder::of(&store(&agent), disk);
    let held = agent.settled(id, &wanted).await;
    assert_eq!(refusal(held), RefusalCode::BlocksMisfit);
    drop(holder);
    agent.ready(id, &wanted).await;
}

#[tokio::test]
async fn what_a_guest_has_is_neither_copied_nor_deleted() {
    let mut agent = Agent::start_without_nexus().await;
    let disk = agent.make(&blank(MIB)).await;
    let vmm_id = Uuid::new_v4();
    let disks = vec![VmmDisk {
        blocks_id: disk,
        place: BlocksPlace::Store,
        size_bytes: MIB,
        read_only: false,
        allocate: false,
    }];
    let spec = VmmRegister { disks, ..vmm(1, GIB) };
    agent.client.vmm_register(vmm_id, &spec).await.unwrap();
    let (id, wanted) = (Uuid::new_v4(), snapshot_of(disk, MIB));
    for _ in 0..2 {
        let copy = agent.settled(id, &wanted).await;
        assert_eq!(refusal(copy), RefusalCode::BlocksMisfit);
        let delete = agent.client.blocks_delete(disk, BlocksPlace::Store).await;
        assert_eq!(refusal(delete), RefusalCode::BlocksMisfit);
        agent.restart().await;
    }
    agent.order(vmm_id, RequestedState::Stopped).await;
    agent.ready(id, &wanted).await;
    agent.client.blocks_delete(disk, BlocksPlace::Store).await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_is_never_made_again() {
    let mut agent = Agent::start_without_nexus().await;
    let made = agent.make(&blank(MIB)).await;
    let (importing, unknown) = (Uuid::new_v4(), Uuid::new_v4());
    agent.client.blocks_ensure(importing, &image(MIB)).await.unwrap();
    for id in [made, importing, unknown, made] {
        agent.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
    }
    agent.restart().await;
    for id in [made, importing, unknown] {
        assert_eq!(files(&store(&agent), id), ["gone"]);
        for wanted in [blank(MIB), image(MIB)] {
            let again = agent.client.blocks_ensure(id, &wanted).await;
            assert_eq!(refusal(again), RefusalCode::BlocksTombstoned);
        }
        let chunk = agent.client.blocks_write(id, 0, vec![1]).await;
        assert!(matches!(chunk, Err(Error::NoSuchBlocks)), "{chunk:?}");
        let finish = agent.client.blocks_finish(id).await;
        assert!(matches!(finish, Err(Error::NoSuchBlocks)), "{finish:?}");
    }
}

#[tokio::test]
async fn an_order_to_make_that_comes_late_finds_the_tombstone() {
    let agent = Agent::start_without_nexus().await;
    let id = Uuid::new_v4();
    agent.fault(FaultyOperation::BlocksEnsure, Effect::Hang(true)).await;
    let client = agent.client.clone();
    let late =
        tokio::spawn(
            async move { client.blocks_ensure(id, &blank(MIB)).await },
        );
    eventually("the order has arrived", async || {
        agent.counts().await.api.contains_key("blocks_ensure").then_some(())
    })
    .await;
    agent.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
    agent.clear_faults().await;
    assert_eq!(refusal(late.await.unwrap()), RefusalCode::BlocksTombstoned);
    assert_eq!(files(&store(&agent), id), ["gone"]);
}

#[tokio::test]
async fn calls_about_blocks_are_counted_and_can_go_wrong() {
    let agent = Agent::start_without_nexus().await;
    let id = agent.import(&[1; 512]).await;
    agent.client.blocks_delete(id, BlocksPlace::Store).await.unwrap();
    let counts = agent.counts().await.api;
    for operation in
        ["blocks_ensure", "blocks_write", "blocks_finish", "blocks_delete"]
    {
        assert_eq!(counts.get(operation), Some(&1), "{operation}");
    }
    let broken = Effect::Error(500);
    for operation in [
        FaultyOperation::BlocksEnsure,
        FaultyOperation::BlocksWrite,
        FaultyOperation::BlocksFinish,
        FaultyOperation::BlocksDelete,
    ] {
        agent.fault(operation, broken.clone()).await;
    }
    let client = &agent.client;
    let answers = [
        client.blocks_ensure(id, &blank(MIB)).await.map(|_| ()),
        client.blocks_write(id, 0, vec![1]).await,
        client.blocks_finish(id).await.map(|_| ()),
        client.blocks_delete(id, BlocksPlace::Store).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Error::Unreachable(_))), "{answer:?}");
    }
}
