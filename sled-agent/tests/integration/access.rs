//! Who may ask, and whom.

use crate::agent::{Agent, GIB, vmm};
use crate::blocks_tools::{MIB, blank};
use crate::nexus::SECRET;
use sled_agent_client::{
    BlocksPlace, Client, ConsoleQuery, ConsoleStreamQuery, Error,
    RequestedState, Secret, Timeouts, Unreachable,
};
use uuid::Uuid;

#[tokio::test]
async fn nothing_is_answered_without_the_secret() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.register().await;
    let secret = Secret::new("a-secret-of-others").unwrap();
    let Agent { addresses, .. } = &agent;
    let client = Client::new(
        addresses.sled_id,
        addresses.address,
        secret,
        Timeouts::default(),
    );
    let answers = [
        client.vmm_register(vmm_id, &vmm(1, GIB)).await.map(|_| ()),
        client.vmm_unregister(vmm_id).await.map(|_| ()),
        client.vmm_put_state(vmm_id, RequestedState::Running).await.map(|_| ()),
        client.vmm_view(vmm_id).await.map(|_| ()),
        client.vmm_list().await.map(|_| ()),
        client.blocks_ensure(vmm_id, &blank(MIB)).await.map(|_| ()),
        client.blocks_delete(vmm_id, BlocksPlace::Store).await,
        client.blocks_write(vmm_id, 0, vec![1]).await,
        client.blocks_finish(vmm_id).await.map(|_| ()),
        client.vmm_console(vmm_id, &ConsoleQuery::default()).await.map(|_| ()),
        client
            .vmm_console_stream(vmm_id, &ConsoleStreamQuery::default())
            .await
            .map(|_| ()),
    ];
    for answer in answers {
        assert!(
            matches!(answer, Err(Error::Bug { status: 401, .. })),
            "{answer:?}"
        );
    }
    let bare = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/vmms", addresses.address);
    let answer = bare.get(url).send().await.unwrap();
    assert_eq!(answer.status(), reqwest::StatusCode::UNAUTHORIZED);
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms.len(), 1);
}

#[tokio::test]
async fn a_sled_does_not_answer_for_another() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.register().await;
    let client = Client::new(
        Uuid::new_v4(),
        agent.addresses.address,
        Secret::new(SECRET).unwrap(),
        Timeouts::default(),
    );
    let answers = [
        client.vmm_view(Uuid::new_v4()).await.map(|_| ()),
        client.vmm_unregister(vmm_id).await.map(|_| ()),
        client.vmm_list().await.map(|_| ()),
    ];
    for answer in answers {
        assert!(
            matches!(
                answer,
                Err(Error::Unreachable(Unreachable::WrongSled(_)))
            ),
            "{answer:?}"
        );
    }
    agent.client.vmm_view(vmm_id).await.unwrap();
}

#[tokio::test]
async fn a_dead_sled_is_unreachable_and_its_vmms_are_not_gone() {
    let mut agent = Agent::start_without_nexus().await;
    let vmm_id = agent.register().await;
    agent.kill();
    let view = agent.client.vmm_view(vmm_id).await;
    assert!(matches!(view, Err(Error::Unreachable(_))), "{view:?}");
}
