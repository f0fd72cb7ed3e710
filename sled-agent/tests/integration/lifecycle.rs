//! What becomes of a VMM, by orders and by itself.

use crate::agent::{Agent, refusal};
use crate::nexus::Nexus;
use sled_agent::{GuestStep, Settings};
use sled_agent_client::{EndReason, RefusalCode, RequestedState, VmmState};

#[tokio::test]
async fn a_vmm_walks_from_creating_to_destroyed() {
    let nexus = Nexus::start();
    let agent = Agent::start(&nexus).await;
    agent.hold(true, true).await;
    let vmm_id = agent.register().await;

    let starting = agent.order(vmm_id, RequestedState::Running).await;
    assert_eq!(starting.state, VmmState::Starting);
    assert!(!starting.ever_ran);
    let again = agent.order(vmm_id, RequestedState::Running).await;
    assert_eq!(again, starting);
    agent.step(vmm_id, GuestStep::Booted).await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    assert!(running.ever_ran);
    let again = agent.order(vmm_id, RequestedState::Running).await;
    assert_eq!(again, running);

    let rebooting = agent.order(vmm_id, RequestedState::Reboot).await;
    assert_eq!(rebooting.state, VmmState::Rebooting);
    agent.step(vmm_id, GuestStep::Booted).await;
    agent.until(vmm_id, VmmState::Running).await;

    let stopping = agent.order(vmm_id, RequestedState::Stopped).await;
    assert_eq!(stopping.state, VmmState::Stopping);
    assert_eq!(stopping.end_reason, None);
    let again = agent.order(vmm_id, RequestedState::Stopped).await;
    assert_eq!(again, stopping);
    agent.step(vmm_id, GuestStep::Halted).await;
    let destroyed = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(destroyed.end_reason, Some(EndReason::Requested));
    let again = agent.order(vmm_id, RequestedState::Stopped).await;
    assert_eq!(again, destroyed);

    assert_eq!(destroyed.generation, 8, "each state once");
    let state = nexus
        .until("the end", |state| {
            state.last(vmm_id).is_some_and(|last| last.state.is_ended())
        })
        .await;
    assert!(state.generations(vmm_id).is_sorted_by(|a, b| a < b));
    assert_eq!(state.last(vmm_id), Some(&destroyed));
}

#[tokio::test]
async fn no_order_revives_a_vmm_that_was_told_to_stop() {
    let agent = Agent::start_without_nexus().await;
    agent.hold(false, true).await;
    let vmm_id = agent.run().await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    for _ in 0..2 {
        let client = &agent.client;
        let run = client.vmm_put_state(vmm_id, RequestedState::Running).await;
        assert_eq!(refusal(run), RefusalCode::VmmStopping);
        let reboot = client.vmm_put_state(vmm_id, RequestedState::Reboot).await;
        assert_eq!(refusal(reboot), RefusalCode::NotRunning);
        // And once more when it has ended.
        agent.hold(false, false).await;
        agent.until(vmm_id, VmmState::Destroyed).await;
    }
}

#[tokio::test]
async fn only_a_running_vmm_can_be_rebooted() {
    let agent = Agent::start_without_nexus().await;
    agent.hold(true, false).await;
    let vmm_id = agent.register().await;
    for state in [VmmState::Creating, VmmState::Starting] {
        agent.until(vmm_id, state).await;
        let reboot =
            agent.client.vmm_put_state(vmm_id, RequestedState::Reboot).await;
        assert_eq!(refusal(reboot), RefusalCode::NotRunning);
        agent.order(vmm_id, RequestedState::Running).await;
    }
}

#[tokio::test]
async fn a_vmm_can_be_stopped_while_it_starts() {
    let agent = Agent::start_without_nexus().await;
    agent.hold(true, false).await;
    let vmm_id = agent.register().await;
    agent.order(vmm_id, RequestedState::Running).await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert!(!end.ever_ran);
}

#[tokio::test]
async fn a_boot_that_fails_says_why() {
    let agent = Agent::start_without_nexus().await;
    agent.hold(true, false).await;
    let vmm_id = agent.register().await;
    agent.order(vmm_id, RequestedState::Running).await;
    let message = "The boot disk is empty.".to_string();
    let step = GuestStep::BootFailed { message: message.clone() };
    agent.step(vmm_id, step).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(end.end_reason, Some(EndReason::BootFailed));
    assert_eq!(end.failure.unwrap().message, message);
    assert!(!end.ever_ran);
}

#[tokio::test]
async fn a_share_of_the_boots_fails_if_a_test_wants_it() {
    let agent = Agent::start_without_nexus().await;
    let all = Settings { failure_share: Some(1.0), ..Settings::default() };
    agent.set(&all).await;
    let vmm_id = agent.register().await;
    agent.order(vmm_id, RequestedState::Running).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(end.end_reason, Some(EndReason::BootFailed));
}
