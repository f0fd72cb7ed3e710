//! instance_delete, of an instance that its user has deleted.

use super::fixture::{created, disks_deleted, view};
use super::{Proved, slate};
use db_model::InstanceState;
use harness::SagaBench;
use nexus::saga::Fault;
use nexus::saga::instance_delete::{InstanceDelete, Params};

impl Proved for InstanceDelete {
    async fn set_up(bench: &SagaBench) -> Params {
        let instance_id = created(bench).await;
        bench.datastore.instance_delete(instance_id).await.unwrap();
        Params { instance_id }
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        slate::is_clean(bench).await;
        let instance = view(bench, params.instance_id).await.instance;
        assert_eq!(instance.state, InstanceState::Destroyed);
        assert_eq!(instance.reconcile_at, None, "somebody would look again");
    }

    /// It has no undo: there is no way back.
    async fn check_failure(
        bench: &SagaBench,
        params: &Params,
        _node: &str,
        fault: Fault,
    ) {
        let instance = view(bench, params.instance_id).await.instance;
        let destroyed = instance.state == InstanceState::Destroyed;
        assert_eq!(destroyed, fault == Fault::After);
        assert!(instance.time_deleted.is_some());
    }

    async fn again(_bench: &SagaBench, failed: &Params) -> Params {
        failed.clone()
    }

    /// What was on its disks is not the instance's.
    async fn tear_down(bench: &SagaBench, _params: &Params) {
        disks_deleted(bench).await;
    }
}
