//! Who may ask, and whom.

use crate::agent::{Agent, GIB, vmm};
use crate::blocks_tools::{MIB, blank};
use crate::fleet;
use fleet_pki::{
    Credentials, Key, Peer, SLED_LIFE, first_contact_client_config,
};
use sled_agent_client::{
    BlocksPlace, Client, ConsoleQuery, ConsoleStreamQuery, Error,
    RequestedState, SLED_ID_HEADER, Secret, Timeouts, Unreachable,
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
        &fleet::credentials(Peer::Nexus),
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
    let bare = fleet::http(Peer::Nexus, Peer::Sled(addresses.sled_id));
    let url = format!("https://{}/vmms", addresses.address);
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
        fleet::secret(),
        &fleet::credentials(Peer::Nexus),
        Timeouts::default(),
    );
    let answers = [
        client.vmm_view(Uuid::new_v4()).await.map(|_| ()),
        client.vmm_unregister(vmm_id).await.map(|_| ()),
        client.vmm_list().await.map(|_| ()),
    ];
    for answer in answers {
        assert!(
            matches!(answer, Err(Error::Unreachable(Unreachable::Exchange(_)))),
            "{answer:?}"
        );
    }
    agent.client.vmm_view(vmm_id).await.unwrap();

    // Nor at its own address, under another's name.
    let sled_id = agent.addresses.sled_id;
    let http = fleet::http(Peer::Nexus, Peer::Sled(sled_id));
    let answer = http
        .get(format!("https://{}/vmms", agent.addresses.address))
        .bearer_auth(fleet::SECRET)
        .header(SLED_ID_HEADER, Uuid::new_v4().to_string())
        .send();
    assert_eq!(answer.await.unwrap().status(), 421);
}

#[tokio::test]
async fn nobody_but_a_nexus_of_the_fleet_gets_an_answer() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.register().await;
    let other_sled = fleet::credentials(Peer::Sled(Uuid::new_v4()));
    let itself = fleet::credentials(Peer::Sled(agent.addresses.sled_id));
    let operator = fleet::credentials(Peer::Operator);
    let strangers = fleet::strange_authority();
    let key = Key::generate().unwrap();
    let theirs = strangers.issue(Peer::Nexus, &key.public_key(), SLED_LIFE);
    let trust = fleet::authority().trust().clone();
    let stranger = Credentials::new(&theirs.unwrap(), &key, trust).unwrap();
    for own in [&other_sled, &itself, &operator, &stranger] {
        let client = Client::new(
            agent.addresses.sled_id,
            agent.addresses.address,
            fleet::secret(),
            own,
            Timeouts::default(),
        );
        let answer = client.vmm_unregister(vmm_id).await;
        assert!(
            matches!(answer, Err(Error::Unreachable(Unreachable::Exchange(_)))),
            "{answer:?}"
        );
    }

    // Nor who shows nothing, or speaks in the clear.
    let trust = fleet::authority().trust().clone();
    let tls = first_contact_client_config(trust).unwrap();
    let bare = reqwest::Client::builder().no_proxy();
    let bare = bare.tls_backend_preconfigured(tls).build().unwrap();
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://{}/vmms", agent.addresses.address);
        let request = bare.get(url).bearer_auth(fleet::SECRET);
        assert!(request.send().await.is_err(), "{scheme}");
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
