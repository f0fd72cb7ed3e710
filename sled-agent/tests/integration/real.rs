//! Real guests, in what simulated ones cannot show.

use crate::agent::{Agent, GIB, vmm};
use crate::boot_sector::{blank, brief, obedient, restless, talkative};
use crate::eventually::eventually;
use crate::guests::{self, Kind};
use sled_agent_client::{
    EndReason, FailureReason, RequestedState, VmmNetwork, VmmRegister,
    VmmState,
};
use uuid::Uuid;

#[tokio::test]
async fn a_guest_boots_prints_and_echoes_what_is_typed() {
    if !Kind::Qemu.is_possible() {
        return;
    }
    let agent = Agent::of(Kind::Qemu).await;
    let vmm_id = agent.run().await;
    agent.type_in(vmm_id, "hello, 1").await;
    agent.until_printed(vmm_id, "READYhello, 1", 1).await;
}
