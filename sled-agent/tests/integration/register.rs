//! Taking VMMs in, and being rid of them.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::eventually::eventually;
use sled_agent::{Effect, FaultyOperation};
use sled_agent_client::{Error, RefusalCode, RequestedState, VmmState};
use std::sync::Arc;
use uuid::Uuid;

#[tokio::test]
async fn register_is_idempotent_by_vmm_id() {
    let agent = Agent::start_without_nexus().await;
    let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
    let first = agent.client.vmm_register(vmm_id, &spec).await.unwrap();
    assert_eq!((first.state, first.generation), (VmmState::Creating, 1));
    assert_eq!(first.instance_id, spec.instance_id);
    let again = agent.client.vmm_register(vmm_id, &spec).await.unwrap();
    assert_eq!(again, first);

    agent.order(vmm_id, RequestedState::Running).await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    let again = agent.client.vmm_register(vmm_id, &spec).await.unwrap();
    assert_eq!(again, running, "in whatever state it is");
}

#[tokio::test]
async fn the_vmm_id_of_another_instance_is_refused() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.register().await;
    let other = agent.client.vmm_register(vmm_id, &vmm(1, GIB)).await;
    assert_eq!(refusal(other), RefusalCode::VmmIdInUse);
}

#[tokio::test]
async fn of_two_instances_that_want_one_vmm_id_at_once_one_gets_it() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = Uuid::new_v4();
    let (one, two) = (vmm(1, GIB), vmm(1, GIB));
    let (one, two) = tokio::join!(
        agent.client.vmm_register(vmm_id, &one),
        agent.client.vmm_register(vmm_id, &two),
    );
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    let won = won.unwrap();
    assert_eq!(refusal(lost), RefusalCode::VmmIdInUse);
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, [won]);
}

#[tokio::test]
async fn an_unknown_vmm_is_no_such_instance() {
    let agent = Agent::start_without_nexus().await;
    let id = Uuid::new_v4();
    let view = agent.client.vmm_view(id).await;
    assert!(matches!(view, Err(Error::NoSuchVmm)), "{view:?}");
    for state in [
        RequestedState::Running,
        RequestedState::Stopped,
        RequestedState::Reboot,
    ] {
        let order = agent.client.vmm_put_state(id, state).await;
        assert!(matches!(order, Err(Error::NoSuchVmm)), "{order:?}");
    }
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
}

#[tokio::test]
async fn an_unknown_vmm_can_be_unregistered_and_never_registered_again() {
    let mut agent = Agent::start_without_nexus().await;
    let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
    for _ in 0..2 {
        let answer = agent.client.vmm_unregister(vmm_id).await.unwrap();
        assert_eq!(answer.report, None);
    }
    let register = agent.client.vmm_register(vmm_id, &spec).await;
    assert_eq!(refusal(register), RefusalCode::VmmTombstoned);

    agent.restart().await;
    let register = agent.client.vmm_register(vmm_id, &spec).await;
    assert_eq!(refusal(register), RefusalCode::VmmTombstoned);
    let answer = agent.client.vmm_unregister(vmm_id).await.unwrap();
    assert_eq!(answer.report, None);
}

#[tokio::test]
async fn a_register_that_arrives_late_finds_the_tombstone() {
    let agent = Agent::start_without_nexus().await;
    let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
    agent.fault(FaultyOperation::Register, Effect::Hang(true)).await;
    let client = agent.client.clone();
    let late =
        tokio::spawn(async move { client.vmm_register(vmm_id, &spec).await });
    eventually("the register has arrived", async || {
        agent.counts().await.api.contains_key("register").then_some(())
    })
    .await;
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    agent.clear_faults().await;
    let late = late.await.unwrap();
    assert_eq!(refusal(late), RefusalCode::VmmTombstoned);
}

#[tokio::test]
async fn the_host_is_never_overcommitted() {
    let agent = Agent::start_without_nexus().await;
    for (vcpus, memory_bytes) in [(9, GIB), (1, 17 * GIB), (0, GIB)] {
        let register = agent.try_register(vcpus, memory_bytes).await;
        assert_eq!(refusal(register), RefusalCode::HostRejected);
    }
    let agent = Arc::new(agent);
    let at_once = (0..20).map(|_| {
        let agent = Arc::clone(&agent);
        tokio::spawn(async move { agent.try_register(1, GIB).await })
    });
    let mut taken = 0;
    for register in at_once.collect::<Vec<_>>() {
        match register.await.unwrap() {
            Ok(_) => taken += 1,
            refused => {
                assert_eq!(refusal(refused), RefusalCode::HostRejected);
            }
        }
    }
    assert_eq!(taken, 8);
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms.len(), 8);
}

#[tokio::test]
async fn a_vmm_that_has_ended_gives_its_share_back() {
    let mut agent = Agent::start_without_nexus().await;
    let all = vmm(8, 16 * GIB);
    let first = Uuid::new_v4();
    agent.client.vmm_register(first, &all).await.unwrap();
    agent.restart().await;
    let refused = agent.client.vmm_register(Uuid::new_v4(), &all).await;
    assert_eq!(refusal(refused), RefusalCode::HostRejected);
    agent.order(first, RequestedState::Stopped).await;
    agent.client.vmm_register(Uuid::new_v4(), &all).await.unwrap();
}
