//! The disks of VMMs.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::blocks_tools::{
    MIB, NOTHING, blank, contents, files, making, store, write_sector,
};
use sled_agent::GuestStep;
use sled_agent_client::{
    BlocksEnsure, BlocksPlace, BlocksSource, BlocksState, Error, RefusalCode,
    RequestedState, VmmDisk, VmmRegister, VmmReport, VmmState,
};
use std::path::PathBuf;
use uuid::Uuid;

fn stored(blocks_id: Uuid) -> VmmDisk {
    VmmDisk {
        blocks_id,
        place: BlocksPlace::Store,
        size_bytes: MIB,
        read_only: false,
        allocate: false,
    }
}

fn allocated(blocks_id: Uuid) -> VmmDisk {
    let place = BlocksPlace::Local;
    VmmDisk { place, allocate: true, ..stored(blocks_id) }
}

fn spec(disks: &[VmmDisk]) -> VmmRegister {
    VmmRegister { disks: disks.to_vec(), ..vmm(1, GIB) }
}

fn local(agent: &Agent) -> PathBuf {
    agent.dir().as_std_path().join("local")
}

impl Agent {
    async fn register_with(
        &self,
        disks: &[VmmDisk],
    ) -> Result<VmmReport, Error> {
        self.client.vmm_register(Uuid::new_v4(), &spec(disks)).await
    }

    async fn run_with(&self, disks: &[VmmDisk]) -> Uuid {
        let vmm_id = self.register_with(disks).await.unwrap().vmm_id;
        self.order(vmm_id, RequestedState::Running).await;
        self.until(vmm_id, VmmState::Running).await;
        vmm_id
    }

    async fn end(&self, vmm_id: Uuid) {
        self.order(vmm_id, RequestedState::Stopped).await;
        self.until(vmm_id, VmmState::Destroyed).await;
    }
}

#[tokio::test]
async fn a_vmm_whose_disk_is_not_there_is_not_registered() {
    let agent = Agent::start_without_nexus().await;
    let there = agent.make(&blank(MIB)).await;
    let gone = agent.make(&blank(MIB)).await;
    agent.client.blocks_delete(gone, BlocksPlace::Store).await.unwrap();
    let elsewhere = VmmDisk { place: BlocksPlace::Local, ..stored(there) };
    for missing in [stored(Uuid::new_v4()), stored(gone), elsewhere] {
        let new = Uuid::new_v4();
        let disks = [allocated(new), missing];
        let register = agent.register_with(&disks).await;
        assert!(matches!(register, Err(Error::NoSuchBlocks)), "{register:?}");
        assert_eq!(files(&local(&agent), new), NOTHING);
    }
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
    // Nothing is held by what was not registered.
    agent.register_with(&[stored(there)]).await.unwrap();
}

#[tokio::test]
async fn disks_that_came_about_with_a_vmm_go_with_it_if_it_never_ran() {
    let mut agent = Agent::start_without_nexus().await;
    let (id, vmm_id) = (Uuid::new_v4(), Uuid::new_v4());
    let spec = spec(&[allocated(id)]);
    for _ in 0..2 {
        agent.client.vmm_register(vmm_id, &spec).await.unwrap();
        assert_eq!(contents(&local(&agent), id), vec![0; 1 << 20]);
        agent.restart().await;
    }
    assert_eq!(files(&local(&agent), id), ["allocated", "qcow2"]);
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    assert_eq!(files(&local(&agent), id), NOTHING);

    // Another VMM of the same instance comes here.
    let second = agent.register_with(&[allocated(id)]).await.unwrap().vmm_id;
    agent.end(second).await;
    assert_eq!(files(&local(&agent), id), NOTHING);
    agent.hold(true, false).await;
    let third = agent.register_with(&[allocated(id)]).await.unwrap().vmm_id;
    agent.order(third, RequestedState::Running).await;
    let failed = GuestStep::BootFailed { message: "no".to_string() };
    agent.step(third, failed).await;
    agent.until(third, VmmState::Failed).await;
    assert_eq!(files(&local(&agent), id), NOTHING);
}

#[tokio::test]
async fn disks_that_came_about_with_a_vmm_stay_once_it_has_run() {
    let mut agent = Agent::start_without_nexus().await;
    let id = Uuid::new_v4();
    let first = agent.run_with(&[allocated(id)]).await;
    assert_eq!(files(&local(&agent), id), ["qcow2"]);
    write_sector(&local(&agent), id, 1, 5);
    agent.end(first).await;
    agent.client.vmm_unregister(first).await.unwrap();

    // It never runs, but the disk is not its own.
    let second = agent.register_with(&[allocated(id)]).await.unwrap().vmm_id;
    agent.restart().await;
    agent.client.vmm_unregister(second).await.unwrap();
    let disk = VmmDisk { allocate: false, ..allocated(id) };
    agent.register_with(&[disk]).await.unwrap();
    assert_eq!(contents(&local(&agent), id)[512], 5);
}

#[tokio::test]
async fn a_disk_made_for_a_vmm_that_was_never_recorded_is_swept() {
    let mut agent = Agent::start_without_nexus().await;
    let (orphan, cut_off) = (Uuid::new_v4(), Uuid::new_v4());
    let vmm_id =
        agent.register_with(&[allocated(orphan)]).await.unwrap().vmm_id;
    agent.kill();
    let dir = local(&agent);
    // Cut off between the disk and the VMM, and before the disk.
    let vmm = [vmm_id.to_string()];
    let sql = "DELETE FROM vmm WHERE id = ?1";
    assert_eq!(agent.vmms().execute(sql, vmm).unwrap(), 1);
    let note = std::fs::read(dir.join(format!("{orphan}.allocated"))).unwrap();
    std::fs::write(dir.join(format!("{cut_off}.allocated")), note).unwrap();
    agent.start_again(&[]).await;
    agent.recovered().await;
    for id in [orphan, cut_off] {
        assert_eq!(files(&dir, id), NOTHING);
    }
    let all = VmmDisk { size_bytes: GIB, ..allocated(Uuid::new_v4()) };
    agent.register_with(&[all]).await.unwrap();
}

#[tokio::test]
async fn a_vmm_that_ended_just_before_the_agent_died_leaves_no_disk() {
    let mut agent = Agent::start_without_nexus().await;
    let id = Uuid::new_v4();
    let vmm_id = agent.register_with(&[allocated(id)]).await.unwrap().vmm_id;
    let dir = local(&agent);
    let names = ["allocated", "qcow2"].map(|rest| format!("{id}.{rest}"));
    let kept = names.map(|name| {
        let bytes = std::fs::read(dir.join(&name)).unwrap();
        (dir.join(name), bytes)
    });
    agent.end(vmm_id).await;
    agent.kill();
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
    agent.start_again(&[]).await;
    agent.recovered().await;
    assert_eq!(files(&dir, id), NOTHING);
}

#[tokio::test]
async fn local_storage_is_never_overcommitted() {
    let mut agent = Agent::start_without_nexus().await;
    let part =
        |bytes| VmmDisk { size_bytes: bytes, ..allocated(Uuid::new_v4()) };
    let half = agent.run_with(&[part(GIB / 2)]).await;
    agent.end(half).await;
    agent.restart().await;
    let disks = [part(GIB / 4), part(GIB / 2)];
    let register = agent.register_with(&disks).await;
    let said = register.as_ref().unwrap_err().to_string();
    assert!(said.contains("268435456 bytes of local storage left"), "{said}");
    assert_eq!(refusal(register), RefusalCode::HostRejected);
    assert_eq!(files(&local(&agent), disks[0].blocks_id), NOTHING);
    let disks = [part(GIB / 4), part(GIB / 4)];
    let rest = agent.register_with(&disks).await.unwrap().vmm_id;
    let register = agent.register_with(&[part(512)]).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);
    // What is given back may be had by others.
    agent.end(rest).await;
    let next = agent.run_with(&disks).await;
    agent.end(next).await;
    for disk in disks {
        let place = BlocksPlace::Local;
        agent.client.blocks_delete(disk.blocks_id, place).await.unwrap();
    }
    agent.register_with(&[part(GIB / 2)]).await.unwrap();
}

#[tokio::test]
async fn local_blocks_that_find_no_room_fail() {
    let agent = Agent::start_without_nexus().await;
    for source in [BlocksSource::Blank, BlocksSource::Import] {
        let place = BlocksPlace::Local;
        let wanted = BlocksEnsure { place, source, ..blank(GIB) };
        let id = Uuid::new_v4();
        let large = BlocksEnsure { size_bytes: GIB + 512, ..wanted.clone() };
        let message = "The host's local storage is full.".to_string();
        let state = agent.settled(id, &large).await.unwrap();
        assert_eq!(state, BlocksState::Failed { message });
        let state = agent.settled(id, &wanted).await.unwrap();
        assert!(!matches!(state, BlocksState::Failed { .. }), "{state:?}");
        agent.client.blocks_delete(id, place).await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_may_be_written_has_one_guest() {
    let mut agent = Agent::start_without_nexus().await;
    let disk = stored(agent.make(&blank(MIB)).await);
    let read = VmmDisk { read_only: true, ..disk.clone() };
    let twice = agent.register_with(&[disk.clone(), read.clone()]).await;
    assert_eq!(refusal(twice), RefusalCode::HostRejected);

    let first = agent.run_with(std::slice::from_ref(&disk)).await;
    agent.restart().await;
    for other in [&disk, &read] {
        let register = agent.register_with(std::slice::from_ref(other)).await;
        assert_eq!(refusal(register), RefusalCode::HostRejected);
    }
    agent.end(first).await;
    for _ in 0..2 {
        agent.register_with(std::slice::from_ref(&read)).await.unwrap();
    }
    let register = agent.register_with(&[disk]).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);
}

#[tokio::test]
async fn what_may_only_be_read_is_not_given_to_be_written() {
    let agent = Agent::start_without_nexus().await;
    let image = stored(agent.import(&[1; 512]).await);
    let register = agent.register_with(std::slice::from_ref(&image)).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);
    let image = VmmDisk { read_only: true, ..image };
    agent.register_with(&[image]).await.unwrap();
    assert_eq!(making(&store(&agent)), NOTHING);
}
