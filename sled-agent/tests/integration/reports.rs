//! What Nexus is told, and how often.

use crate::agent::Agent;
use crate::nexus::Nexus;
use sled_agent_client::nexus_types::SledCpu;
use sled_agent_client::{EndReason, VmmState};

#[tokio::test]
async fn a_report_is_repeated_until_nexus_takes_it() {
    let nexus = Nexus::start();
    nexus.set(|state| state.is_broken = true);
    let agent = Agent::start(&nexus).await;
    let vmm_id = agent.run().await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    // The newest replaces those before it, and is told more than once.
    nexus
        .until("running, twice", |state| {
            let times =
                state.refused.iter().filter(|report| **report == running);
            times.count() >= 2
        })
        .await;
    nexus.set(|state| state.is_broken = false);
    let state =
        nexus.until("running", |state| state.last(vmm_id).is_some()).await;
    assert_eq!(state.taken, [running], "none that is older");
}

#[tokio::test]
async fn a_report_that_was_taken_is_not_repeated() {
    let nexus = Nexus::start();
    let agent = Agent::start(&nexus).await;
    let first = agent.run().await;
    let is_running = |report: &sled_agent_client::VmmReport| {
        report.state == VmmState::Running
    };
    nexus
        .until("the first runs", |state| {
            state.last(first).is_some_and(is_running)
        })
        .await;
    let second = agent.run().await;
    let state = nexus
        .until("the second runs", |state| {
            state.last(second).is_some_and(is_running)
        })
        .await;
    assert!(state.generations(first).is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn a_report_on_a_vmm_that_nexus_does_not_know_is_not_repeated() {
    let nexus = Nexus::start();
    nexus.set(|state| state.knows_no_vmm = true);
    let agent = Agent::start(&nexus).await;
    let unknown = agent.register().await;
    nexus.until("it", |state| state.refused.len() == 1).await;
    nexus.set(|state| state.knows_no_vmm = false);
    // By the time that Nexus has this, it would have had the other again.
    for _ in 0..2 {
        let known = agent.run().await;
        nexus
            .until("another", |state| {
                state
                    .last(known)
                    .is_some_and(|last| last.state == VmmState::Running)
            })
            .await;
    }
    let state = nexus.state();
    assert_eq!(state.last(unknown), None);
    assert_eq!(state.refused.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_vmm_outlives_the_vmm_and_the_agent() {
    let nexus = Nexus::start();
    nexus.set(|state| state.is_broken = true);
    let mut agent = Agent::start(&nexus).await;
    let vmm_id = agent.run().await;
    let answer = agent.client.vmm_unregister(vmm_id).await.unwrap();
    agent.restart().await;
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
    nexus.set(|state| state.is_broken = false);
    let state =
        nexus.until("the end", |state| state.last(vmm_id).is_some()).await;
    let last = state.last(vmm_id);
    assert_eq!(last, answer.report.as_ref());
    assert_eq!(last.unwrap().end_reason, Some(EndReason::Requested));
}

#[tokio::test]
async fn the_next_nexus_is_told_when_one_is_dead() {
    let nexus = Nexus::start();
    let dead = "https://127.0.0.1:1".to_string();
    let agent = Agent::start_with(vec![dead, nexus.url()], &[]).await;
    let vmm_id = agent.register().await;
    nexus.until("it", |state| state.last(vmm_id).is_some()).await;
    nexus.until("heartbeats", |state| state.heartbeats > 1).await;
}

#[tokio::test]
async fn a_sled_registers_and_does_so_again_when_nexus_has_forgotten_it() {
    let nexus = Nexus::start();
    let agent = Agent::start(&nexus).await;
    let state = nexus.until("heartbeats", |state| state.heartbeats > 2).await;
    let [sled] = state.registrations.as_slice() else {
        panic!("registered more than once: {:?}", state.registrations)
    };
    assert_eq!(sled.address, agent.addresses.address);
    assert_eq!((sled.vcpus, sled.memory_bytes), (8, 16 << 30));
    nexus.set(|state| state.knows_no_sled = true);
    let state =
        nexus.until("it again", |state| state.registrations.len() == 2).await;
    assert_eq!(state.registrations.first(), state.registrations.last());
}

#[tokio::test]
async fn a_sled_says_that_it_has_the_cpu_that_it_is_told_to_have() {
    for (cpu, said) in [
        ("amd_milan", SledCpu::AmdMilan),
        ("amd_turin", SledCpu::AmdTurin),
        ("unknown", SledCpu::Unknown),
    ] {
        let nexus = Nexus::start();
        let arguments = ["--cpu", cpu];
        let _agent = Agent::start_with(vec![nexus.url()], &arguments).await;
        let state =
            nexus.until("it", |state| !state.registrations.is_empty()).await;
        assert_eq!(state.registrations.first().unwrap().cpu, said);
    }
}
