//! Real guests, in what simulated ones cannot show.

use crate::agent::{Agent, GIB, vmm};
use crate::boot_sector::{READY, blank, brief, obedient, restless, talkative};
use crate::eventually::eventually;
use crate::fleet;
use crate::guests::{self, Kind};
use crate::nexus::Nexus;
use camino::Utf8Path;
use rustix::process::{Signal, kill_process};
use sled_agent_client::nexus_types::SledCpu;
use sled_agent_client::{
    BlocksEnsure, BlocksPlace, BlocksSource, BlocksState, EndReason,
    FailureReason, RequestedState, VmmDisk, VmmNetwork, VmmRegister, VmmReport,
    VmmState,
};
use std::process::Command;
use uuid::Uuid;

/// An agent with real guests; none, if there cannot be.
async fn agent() -> Option<Agent> {
    if !Kind::Qemu.is_possible() {
        return None;
    }
    Some(Agent::of(Kind::Qemu).await)
}

fn message(end: &VmmReport) -> &str {
    assert_eq!(end.end_reason, Some(EndReason::BootFailed));
    assert!(!end.ever_ran);
    &end.failure.as_ref().unwrap().message
}

#[tokio::test]
async fn no_guest_is_started_under_a_lease_that_is_over() {
    if !Kind::Qemu.is_possible() {
        return;
    }
    let nobody = vec!["https://127.0.0.1:1".to_string()];
    let endless = ["--fence-after-secs", "0"];
    let agent = Agent::start_on(Kind::Qemu, nobody, &endless).await;
    // The agent takes it to be without end, and so has a warden started.
    let over = r#"{"boot_id":"of another boot","deadline_ms":1}"#;
    std::fs::write(agent.dir().join("lease.json"), over).unwrap();
    let disk = guests::disk(agent.dir(), &obedient());
    let vmm_id = agent.boot(vec![disk]).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Fenced));
    assert!(!end.ever_ran);
    assert_eq!(agent.told("boot").await, 1);
    assert_eq!(guests::printed(agent.dir(), vmm_id).matches(READY).count(), 0);
    agent.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_guest_prints_and_is_typed_at() {
    let Some(mut agent) = agent().await else { return };
    let vmm_id = agent.run().await;
    agent.type_in(vmm_id, "hello, 1").await;
    agent.until_printed(vmm_id, "READYhello, 1", 1).await;
    // Whoever is the agent.
    agent.restart().await;
    agent.type_in(vmm_id, "hello, 2").await;
    agent.until_printed(vmm_id, "hello, 1hello, 2", 1).await;
}

#[tokio::test]
async fn a_guest_that_resets_itself_runs_on() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &restless());
    let vmm_id = agent.boot(vec![disk]).await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    agent.until_printed(vmm_id, "AGAIN", 3).await;
    assert_eq!(agent.client.vmm_view(vmm_id).await.unwrap(), running);
}

#[tokio::test]
async fn a_guest_that_shuts_down_at_once_has_run() {
    let Some(agent) = agent().await else { return };
    let vmm_id = agent.boot(vec![guests::disk(agent.dir(), &brief())]).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::GuestShutdown));
    assert!(end.ever_ran);
    // What it printed last is kept, also now.
    agent.until_printed(vmm_id, "BRIEF", 1).await;
}

#[tokio::test]
async fn a_disk_with_nothing_to_boot_is_no_failure() {
    let Some(agent) = agent().await else { return };
    let vmm_id = agent.boot(vec![guests::disk(agent.dir(), &blank())]).await;
    agent.until(vmm_id, VmmState::Running).await;
    agent.until_printed(vmm_id, "No bootable device", 1).await;
    let report = agent.client.vmm_view(vmm_id).await.unwrap();
    assert_eq!(report.state, VmmState::Running);
}

#[tokio::test]
async fn disks_are_booted_from_in_their_order() {
    let Some(agent) = agent().await else { return };
    let [first, second] = [obedient(), restless()]
        .map(|sector| guests::disk(agent.dir(), &sector));
    let vmm_id = agent.boot(vec![first.clone(), second.clone()]).await;
    agent.until_printed(vmm_id, READY, 1).await;
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    let vmm_id = agent.boot(vec![second, first]).await;
    agent.until_printed(vmm_id, "AGAIN", 1).await;
}

#[tokio::test]
async fn a_disk_that_is_missing_is_named_to_the_user() {
    let Some(agent) = agent().await else { return };
    let [boot, other] = [(); 2].map(|()| guests::disk(agent.dir(), &brief()));
    let vmm_id = agent.registered(vec![boot.clone()]).await;
    std::fs::remove_file(guests::image(agent.dir(), &boot)).unwrap();
    agent.order(vmm_id, RequestedState::Running).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(message(&end), "The boot disk is not there.");

    let boot = guests::disk(agent.dir(), &obedient());
    let vmm_id = agent.registered(vec![boot, other.clone()]).await;
    std::fs::remove_file(guests::image(agent.dir(), &other)).unwrap();
    agent.order(vmm_id, RequestedState::Running).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(message(&end), "Disk 2 of the instance is not there.");
    agent.until_nothing_is_left().await;
}

#[tokio::test]
async fn a_disk_is_not_written_by_two_guests() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &obedient());
    let one = agent.boot(vec![disk.clone()]).await;
    agent.until(one, VmmState::Running).await;
    // The agent would refuse it, were it not another name.
    let again = VmmDisk { blocks_id: Uuid::new_v4(), ..disk.clone() };
    std::fs::hard_link(
        guests::image(agent.dir(), &disk),
        guests::image(agent.dir(), &again),
    )
    .unwrap();
    let two = agent.boot(vec![again]).await;
    let end = agent.until(two, VmmState::Failed).await;
    assert!(message(&end).contains("in use"), "{end:?}");
    agent.client.vmm_unregister(one).await.unwrap();
    let three = agent.boot(vec![disk]).await;
    agent.until(three, VmmState::Running).await;
}

#[tokio::test]
async fn a_disk_to_read_is_read_by_two_guests() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &obedient());
    let disk = VmmDisk { read_only: true, ..disk };
    for _ in 0..2 {
        let vmm_id = agent.boot(vec![disk.clone()]).await;
        agent.until_printed(vmm_id, READY, 1).await;
    }
}

#[tokio::test]
async fn a_disk_that_is_damaged_is_said_to_be() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &obedient());
    let image = guests::image(agent.dir(), &disk);
    std::fs::write(image, "nonsense".repeat(10_000)).unwrap();
    let vmm_id = agent.boot(vec![disk]).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert!(message(&end).contains("damaged"), "{end:?}");
}

/// What an image says of a file behind it is its user's word, and would be a
/// way to read what the host has.
#[tokio::test]
async fn an_image_opens_no_other_file() {
    let Some(agent) = agent().await else { return };
    let behind = guests::disk(agent.dir(), &obedient());
    let disk = guests::disk_on(agent.dir(), &behind);
    let vmm_id = agent.boot(vec![disk.clone()]).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(message(&end), "The boot disk is not there.");

    // What is behind it is what has the name for that.
    let blank = guests::disk(agent.dir(), &blank());
    let base = guests::image(agent.dir(), &disk);
    std::fs::hard_link(
        guests::image(agent.dir(), &blank),
        base.with_extension("base.qcow2"),
    )
    .unwrap();
    let vmm_id = agent.boot(vec![disk]).await;
    agent.until_printed(vmm_id, "No bootable device", 1).await;
}

#[tokio::test]
async fn a_copy_of_an_image_boots_as_the_image_does() {
    let Some(agent) = agent().await else { return };
    let image = guests::disk(agent.dir(), &obedient());
    let file = guests::image(agent.dir(), &image);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o440);
    std::fs::set_permissions(file, mode).unwrap();
    let copy = Uuid::new_v4();
    let ensure = BlocksEnsure {
        place: BlocksPlace::Store,
        size_bytes: 1 << 30,
        read_only: false,
        source: BlocksSource::Copy { blocks_id: image.blocks_id },
    };
    eventually("it is copied", async || {
        let made = agent.client.blocks_ensure(copy, &ensure).await.unwrap();
        (made.state == BlocksState::Ready).then_some(())
    })
    .await;
    let delete =
        agent.client.blocks_delete(image.blocks_id, BlocksPlace::Store);
    delete.await.unwrap();
    let disk =
        VmmDisk { blocks_id: copy, size_bytes: 1 << 30, ..image.clone() };
    let vmm_id = agent.boot(vec![disk]).await;
    agent.until_printed(vmm_id, READY, 1).await;
}

#[tokio::test]
async fn local_disks_lie_on_the_sled() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &obedient());
    let local = VmmDisk { place: BlocksPlace::Local, ..disk.clone() };
    std::fs::rename(
        guests::image(agent.dir(), &disk),
        guests::image(agent.dir(), &local),
    )
    .unwrap();
    let vmm_id = agent.boot(vec![local]).await;
    agent.until_printed(vmm_id, READY, 1).await;
}

#[tokio::test]
async fn a_guest_has_the_network_that_it_is_given() {
    let Some(agent) = agent().await else { return };
    for (network, has_it) in
        [(VmmNetwork::User, true), (VmmNetwork::None, false)]
    {
        let disks = vec![guests::disk(agent.dir(), &obedient())];
        let spec = VmmRegister { disks, network, ..vmm(2, GIB) };
        let vmm_id = Uuid::new_v4();
        agent.client.vmm_register(vmm_id, &spec).await.unwrap();
        agent.order(vmm_id, RequestedState::Running).await;
        agent.until_printed(vmm_id, READY, 1).await;
        let args = guests::arguments(guests::qemus(vmm_id)[0]);
        let has = args.iter().any(|arg| arg.starts_with("virtio-net-pci"));
        assert_eq!(has, has_it, "{args:?}");
    }
}

#[tokio::test]
async fn a_guest_is_held_by_an_account_a_sandbox_and_its_size() {
    let Some(agent) = agent().await else { return };
    let vmm_id = agent.run().await;
    let qemu = guests::qemus(vmm_id)[0];
    assert!(guests::status(qemu, "Seccomp").starts_with('2'));
    assert_eq!(guests::status(qemu, "NoNewPrivs"), "1");
    if rustix::process::geteuid().is_root() {
        assert_eq!(guests::status(qemu, "Uid"), "65534\t65534\t65534\t65534");
        assert_eq!(guests::status(qemu, "CapEff"), "0000000000000000");
    }
    for group in guests::cgroups(vmm_id) {
        let processes = std::fs::read_to_string(group.join("cgroup.procs"));
        assert_eq!(
            processes.unwrap().trim(),
            qemu.as_raw_pid().to_string(),
            "{group}"
        );
    }
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    assert!(guests::cgroups(vmm_id).is_empty());
}

#[tokio::test]
async fn a_guest_that_prints_without_an_end_holds_nobody_up() {
    let Some(agent) = agent().await else { return };
    let disk = guests::disk(agent.dir(), &talkative());
    let loud = agent.boot(vec![disk]).await;
    agent.until_printed(loud, "BLAH", 1000).await;
    let other = agent.run().await;
    for vmm_id in [loud, other] {
        agent.order(vmm_id, RequestedState::Stopped).await;
        let end = agent.until(vmm_id, VmmState::Destroyed).await;
        assert_eq!(end.end_reason, Some(EndReason::Requested));
    }
    assert_eq!(agent.told("kill").await, 0);
}

#[tokio::test]
async fn what_befell_guests_while_no_agent_lived_is_told_by_the_next() {
    let Some(mut agent) = agent().await else { return };
    let [shut_down, panicked, died, warden_died, stopped, alive] = [
        agent.run().await,
        agent.run().await,
        agent.run().await,
        agent.run().await,
        agent.run().await,
        agent.run().await,
    ];
    // Killed with the order given, and with the guest on its way down, or not.
    agent.order(stopped, RequestedState::Stopped).await;
    agent.kill();
    guests::type_in(agent.dir(), shut_down, "s");
    guests::type_in(agent.dir(), panicked, "p");
    guests::kill(&guests::qemus(died));
    guests::kill(&guests::warden(agent.dir(), warden_died));
    for vmm_id in [died, warden_died] {
        eventually("the processes are gone", async || {
            guests::qemus(vmm_id).is_empty().then_some(())
        })
        .await;
    }
    agent.start_again(&[]).await;
    agent.recovered().await;
    for (vmm_id, reason) in
        [(shut_down, EndReason::GuestShutdown), (stopped, EndReason::Requested)]
    {
        let end = agent.until(vmm_id, VmmState::Destroyed).await;
        assert_eq!(end.end_reason, Some(reason));
    }
    for (vmm_id, reason) in [
        (panicked, FailureReason::Panic),
        (died, FailureReason::HypervisorDied),
        (warden_died, FailureReason::HypervisorDied),
    ] {
        let end = agent.until(vmm_id, VmmState::Failed).await;
        assert_eq!(end.failure.unwrap().reason, reason);
    }
    agent.until(alive, VmmState::Running).await;
    agent.until_ready(alive, 1).await;
}

#[tokio::test]
async fn a_boot_that_was_cut_off_is_done_again() {
    let Some(mut agent) = agent().await else { return };
    let vmm_id = agent.register().await;
    agent.kill();
    // As it is when the agent dies before it has started the warden.
    let guest = agent.guests().join(vmm_id.to_string());
    std::fs::create_dir_all(&guest).unwrap();
    std::fs::write(guest.join("lock"), "").unwrap();
    std::fs::write(guest.join("plan.tmp"), "{").unwrap();
    agent.start_again(&[]).await;
    agent.recovered().await;
    agent.order(vmm_id, RequestedState::Running).await;
    agent.until(vmm_id, VmmState::Running).await;
    agent.until_ready(vmm_id, 1).await;
}

#[tokio::test]
async fn a_stop_that_comes_while_a_guest_boots_is_heard_once_it_listens() {
    let Some(agent) = agent().await else { return };
    let grace = Some(600_000);
    let grace = sled_agent::Settings { grace_ms: grace, ..Default::default() };
    agent.set(&grace).await;
    let vmm_id = agent.register().await;
    agent.order(vmm_id, RequestedState::Running).await;
    agent.until(vmm_id, VmmState::Running).await;
    // The firmware is at work still.
    agent.order(vmm_id, RequestedState::Stopped).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert_eq!(agent.told("kill").await, 0);
}

#[tokio::test]
async fn a_hypervisor_that_hangs_is_killed_and_blocks_no_other() {
    let Some(agent) = agent().await else { return };
    let [hung, other] = [agent.run().await, agent.run().await];
    kill_process(guests::qemus(hung)[0], Signal::STOP).unwrap();
    agent
        .set(&sled_agent::Settings { grace_ms: Some(50), ..Default::default() })
        .await;
    agent.order(hung, RequestedState::Stopped).await;
    agent.order(other, RequestedState::Reboot).await;
    agent.until(other, VmmState::Running).await;
    agent.until_ready(other, 2).await;
    let end = agent.until(hung, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert!(agent.has_no_process(hung));
}

#[tokio::test]
async fn a_host_that_is_told_to_end_its_guests_says_so() {
    let Some(agent) = agent().await else { return };
    let vmm_id = agent.run().await;
    let warden = guests::warden(agent.dir(), vmm_id)[0];
    kill_process(warden, Signal::TERM).unwrap();
    let end = agent.until(vmm_id, VmmState::Failed).await;
    let failure = end.failure.unwrap();
    assert_eq!(failure.reason, FailureReason::HypervisorDied);
    assert_eq!(failure.message, "The host stopped the instance.");
}

#[tokio::test]
async fn a_sled_says_what_its_guests_run_on() {
    if !Kind::Qemu.is_possible() {
        return;
    }
    let nexus = Nexus::start();
    let _agent = Agent::start_on(Kind::Qemu, vec![nexus.url()], &[]).await;
    let state =
        nexus.until("it", |state| !state.registrations.is_empty()).await;
    let sled = state.registrations.first().unwrap();
    match sled.part.as_str() {
        "qemu-kvm" => assert!(std::path::Path::new("/dev/kvm").exists()),
        "qemu-tcg" => assert_eq!(sled.cpu, SledCpu::Unknown),
        other => panic!("{other}"),
    }
}

/// What an agent says that does not start.
fn refused(dir: &Utf8Path, arguments: &[&str]) -> String {
    fleet::join(dir.as_std_path());
    let output = Command::new(env!("CARGO_BIN_EXE_sled-agent"))
        .args(["--data-dir", dir.as_str()])
        .args(["--listen", "127.0.0.1:0", "--nexus", "https://127.0.0.1:1"])
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn limits_above_what_the_host_has_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let qemu = ["--hypervisor", "qemu"];
    for (size, said) in [
        (["--vcpus", "60000", "--memory-gib", "1"], "--vcpus 60000: the host"),
        (["--vcpus", "1", "--memory-gib", "60000"], "--memory-gib: "),
    ] {
        let refused = refused(dir, &[&qemu[..], &size[..]].concat());
        assert!(refused.contains(said), "{refused}");
        assert!(refused.contains("--overcommit"), "{refused}");
    }
}

#[test]
fn a_qemu_that_is_not_there_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let arguments = "--hypervisor qemu --vcpus 1 --memory-gib 1 --qemu /none";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let refused = refused(dir, &arguments);
    assert!(refused.contains("install QEMU"), "{refused}");
}

#[tokio::test]
async fn guests_of_one_hypervisor_are_not_left_to_the_other() {
    let Some(mut agent) = agent().await else { return };
    agent.run().await;
    agent.kill();
    let arguments = ["--vcpus", "1", "--memory-gib", "1"];
    let said = refused(agent.dir(), &arguments);
    assert!(said.contains("another --hypervisor"), "{said}");

    let mut agent = Agent::start_without_nexus().await;
    agent.run().await;
    agent.kill();
    let qemu = ["--hypervisor", "qemu", "--overcommit"];
    let said = refused(agent.dir(), &[&qemu[..], &arguments[..]].concat());
    assert!(said.contains("another --hypervisor"), "{said}");
}
