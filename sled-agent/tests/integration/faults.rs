//! The ways in which a test can break an agent.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::nexus::Nexus;
use sled_agent::{Effect, FaultyOperation, GuestStep};
use sled_agent_client::{Error, RefusalCode, RequestedState, VmmState};
use uuid::Uuid;

#[tokio::test]
async fn an_error_has_no_effect_and_ends_after_its_count() {
    let agent = Agent::start_without_nexus().await;
    let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
    agent.fault(FaultyOperation::Any, Effect::Error(500)).await;
    let register = agent.client.vmm_register(vmm_id, &spec).await;
    assert!(matches!(register, Err(Error::Unreachable(_))), "{register:?}");
    let view = agent.client.vmm_view(vmm_id).await;
    assert!(matches!(view, Err(Error::NoSuchVmm)), "{view:?}");
    agent.client.vmm_register(vmm_id, &spec).await.unwrap();
}

#[tokio::test]
async fn a_rejection_says_what_the_test_says() {
    let agent = Agent::start_without_nexus().await;
    let effect = Effect::Reject("no more slots".to_string());
    agent.fault(FaultyOperation::Register, effect).await;
    let register = agent.try_register(1, GIB).await;
    assert!(
        register.as_ref().is_err_and(|error| {
            error.to_string().contains("no more slots")
        })
    );
    assert_eq!(refusal(register), RefusalCode::HostRejected);
}

#[tokio::test]
async fn a_dropped_answer_is_one_to_a_request_that_took_effect() {
    let agent = Agent::start_without_nexus().await;
    let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
    let lost = Effect::DropAnswerAfterEffect(true);
    agent.fault(FaultyOperation::Register, lost.clone()).await;
    let register = agent.client.vmm_register(vmm_id, &spec).await;
    assert!(matches!(register, Err(Error::Unreachable(_))), "{register:?}");
    let there = agent.client.vmm_view(vmm_id).await.unwrap();
    assert_eq!(there.state, VmmState::Creating);

    agent.fault(FaultyOperation::Unregister, lost).await;
    let gone = agent.client.vmm_unregister(vmm_id).await;
    assert!(matches!(gone, Err(Error::Unreachable(_))), "{gone:?}");
    let again = agent.client.vmm_unregister(vmm_id).await.unwrap();
    assert_eq!(again.report.unwrap().state, VmmState::Destroyed);
}

#[tokio::test]
async fn a_forgotten_vmm_is_gone_without_a_word() {
    let nexus = Nexus::start();
    let mut agent = Agent::start(&nexus).await;
    let vmm_id = agent.run().await;
    agent.step(vmm_id, GuestStep::Forget).await;
    let order =
        agent.client.vmm_put_state(vmm_id, RequestedState::Reboot).await;
    assert!(matches!(order, Err(Error::NoSuchVmm)), "{order:?}");
    agent.restart().await;
    let view = agent.client.vmm_view(vmm_id).await;
    assert!(matches!(view, Err(Error::NoSuchVmm)), "{view:?}");
    let ended = |report: &sled_agent_client::VmmReport| {
        report.vmm_id == vmm_id && report.state.is_ended()
    };
    assert!(!nexus.state().taken.iter().any(ended));
}

#[tokio::test]
async fn calls_are_counted() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    let counts = agent.counts().await;
    assert_eq!(counts.api.get("register"), Some(&1));
    assert_eq!(counts.api.get("state"), Some(&1));
    assert_eq!(counts.api.get("unregister"), Some(&1));
    assert_eq!(counts.hypervisor.get("boot"), Some(&1));
}
