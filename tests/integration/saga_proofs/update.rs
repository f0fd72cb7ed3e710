//! instance_update, of an instance whose guest has crashed.

use super::fixture::{deleted, heard, running, view};
use super::{Proved, slate};
use db_model::{InstanceState, IntendedState, VmmEndReason};
use harness::SagaBench;
use nexus::saga::Fault;
use nexus::saga::instance_update::{InstanceUpdate, Params};
use sled_agent_client::VmmState;

impl Proved for InstanceUpdate {
    async fn set_up(bench: &SagaBench) -> Params {
        let (instance_id, vmm_id) = running(bench).await;
        bench.agent.guest(&vmm_id.to_string(), "panic").await;
        heard(bench, vmm_id, VmmState::is_ended).await;
        Params { instance_id, vmm_id, sled_id: bench.sled_id() }
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        is_parted(bench, params).await;
        let there = bench.agent.vmms().await;
        assert!(there.is_empty(), "not unregistered: {there:?}");
    }

    /// It has no undo: an end is an end. What it did stays, and what it did
    /// not do is done by the next.
    async fn check_failure(
        bench: &SagaBench,
        params: &Params,
        node: &str,
        fault: Fault,
    ) {
        if (node, fault) != ("unlink", Fault::Before) {
            return is_parted(bench, params).await;
        }
        let view = view(bench, params.instance_id).await;
        assert_eq!(view.instance.active_vmm_id, Some(params.vmm_id));
    }

    async fn again(_bench: &SagaBench, failed: &Params) -> Params {
        failed.clone()
    }

    async fn tear_down(bench: &SagaBench, params: &Params) {
        deleted(bench, params.instance_id).await;
    }
}

/// The instance failed as its guest did, and nothing is held of the sled.
async fn is_parted(bench: &SagaBench, params: &Params) {
    slate::is_clean(bench).await;
    let instance = view(bench, params.instance_id).await.instance;
    assert_eq!(instance.state, InstanceState::Failed);
    assert_eq!(instance.intended_state, IntendedState::Running);
    assert_eq!(instance.last_failure_kind, Some(VmmEndReason::Panic));
}
