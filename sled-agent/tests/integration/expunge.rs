//! A sled that is no longer of the fleet.

use crate::agent::{Agent, GIB, refusal};
use crate::nexus::Nexus;
use sled_agent_client::{EndReason, RefusalCode, VmmState};

#[tokio::test]
async fn an_expunged_sled_stops_its_guests_and_takes_no_more() {
    let nexus = Nexus::start();
    let mut agent = Agent::start(&nexus).await;
    // They would take their time, if they were asked.
    agent.hold(false, true).await;
    let guests = [agent.run().await, agent.run().await];
    let never_ran = agent.register().await;
    nexus.set(|state| state.expunged = true);
    for vmm_id in guests.into_iter().chain([never_ran]) {
        let end = agent.until(vmm_id, VmmState::Destroyed).await;
        assert_eq!(end.end_reason, Some(EndReason::Fenced));
        nexus.until("the end", |state| state.last(vmm_id) == Some(&end)).await;
    }
    let register = agent.try_register(1, GIB).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);

    nexus.set(|state| state.heartbeats = 0);
    nexus.until("heartbeats", |state| state.heartbeats > 2).await;

    // It stays so, even if Nexus says nothing.
    nexus.set(|state| state.expunged = false);
    agent.restart().await;
    let register = agent.try_register(1, GIB).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);
}
