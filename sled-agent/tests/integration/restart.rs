//! Agents that die, and those that come after them.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::eventually::eventually;
use crate::nexus::Nexus;
use sled_agent::{GuestStep, Settings};
use sled_agent_client::{EndReason, RefusalCode, RequestedState, VmmState};

/// Guests of the agent that comes after take so long that a test would not
/// live to see it: what comes about was under way before.
const SLOW: [&str; 6] =
    ["--boot-ms", "600000", "--stop-ms", "600000", "--grace-ms", "600000"];

#[tokio::test]
async fn a_boot_ends_while_the_agent_is_dead() {
    let mut agent = Agent::start_without_nexus().await;
    let boot = Settings { boot_ms: Some(300), ..Settings::default() };
    agent.set(&boot).await;
    let vmm_id = agent.register().await;
    agent.order(vmm_id, RequestedState::Running).await;
    let guests = agent.simulated();
    let is_written = || {
        let sql = "SELECT EXISTS (SELECT 1 FROM guest WHERE id = ?1)";
        let id = [vmm_id.to_string()];
        guests.query_one(sql, id, |row| row.get::<_, bool>(0)).unwrap()
    };
    eventually("it boots", async || is_written().then_some(())).await;
    agent.kill();
    agent.start_again(&SLOW).await;
    agent.recovered().await;
    agent.until(vmm_id, VmmState::Running).await;
}

#[tokio::test]
async fn what_was_ordered_is_done_by_the_next_agent() {
    let mut agent = Agent::start_without_nexus().await;
    agent.hold(true, true).await;
    let [started, rebooted, stopped] = [
        agent.register().await,
        agent.register().await,
        agent.register().await,
    ];
    for vmm_id in [rebooted, stopped] {
        agent.order(vmm_id, RequestedState::Running).await;
        agent.step(vmm_id, GuestStep::Booted).await;
        agent.until(vmm_id, VmmState::Running).await;
    }
    agent.order(started, RequestedState::Running).await;
    agent.order(rebooted, RequestedState::Reboot).await;
    agent.order(stopped, RequestedState::Stopped).await;
    // It may have been killed before it told its hypervisor, or after.
    agent.restart().await;
    agent.hold(false, false).await;
    agent.until(started, VmmState::Running).await;
    agent.until(rebooted, VmmState::Running).await;
    let end = agent.until(stopped, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
}

#[tokio::test]
async fn a_guest_that_shut_itself_down_unseen_has_not_failed() {
    let mut agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    agent.kill();
    let changed = agent.simulated().execute(
        r#"UPDATE guest SET json =
               replace(json, '"running"', '{"ended": "shut_down"}')
           WHERE id = ?1"#,
        [vmm_id.to_string()],
    );
    assert_eq!(changed.unwrap(), 1);
    agent.start_again(&[]).await;
    agent.recovered().await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::GuestShutdown));
}

#[tokio::test]
async fn a_sled_keeps_its_id_and_changes_its_incarnation() {
    let nexus = Nexus::start();
    let mut agent = Agent::start(&nexus).await;
    let sled_id = agent.addresses.sled_id;
    nexus.until("it", |state| state.registrations.len() == 1).await;
    agent.restart().await;
    assert_eq!(agent.addresses.sled_id, sled_id);
    let state = nexus.until("it", |state| state.registrations.len() == 2).await;
    let incarnations = state.registrations.iter().map(|it| it.incarnation);
    let [first, second] = incarnations.collect::<Vec<_>>()[..] else {
        panic!("registered more than twice")
    };
    assert_ne!(first, second);
}

#[tokio::test]
async fn what_an_agent_kept_in_files_is_found_by_the_next_which_has_tables() {
    let mut agent = Agent::start_without_nexus().await;
    let [runs, buried] = [agent.run().await, agent.register().await];
    agent.client.vmm_unregister(buried).await.unwrap();
    agent.kill();
    let dir = agent.dir().to_path_buf();
    for (file, table, part) in [
        (agent.vmms(), "vmm", "vmms"),
        (agent.vmms(), "tombstone", "tombstones"),
        (agent.simulated(), "guest", "guests"),
    ] {
        let sql = format!("DELETE FROM {table} RETURNING id, json");
        let mut rows = file.prepare(&sql).unwrap();
        let mut rows = rows.query([]).unwrap();
        std::fs::create_dir_all(dir.join(part)).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let [id, json] = [0, 1].map(|n| row.get::<_, String>(n).unwrap());
            let path = dir.join(part).join(format!("{id}.json"));
            std::fs::write(path, json).unwrap();
        }
    }
    agent.start_again(&[]).await;
    agent.recovered().await;
    let found = agent.client.vmm_list().await.unwrap().vmms;
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.vmm_id, found.state), (runs, VmmState::Running));
    let again = agent.client.vmm_register(buried, &vmm(1, GIB)).await;
    assert_eq!(refusal(again), RefusalCode::VmmTombstoned);
}
