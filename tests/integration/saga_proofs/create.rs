//! instance_create, of an instance that is to run and joins a group.

use super::fixture::{deleted, disks, group, to_create, view};
use super::{Proved, slate};
use db_model::{
    InstanceId, InstanceState, IntendedState, StartFailureKind, StartOutcome,
};
use db_queries::Error;
use harness::SagaBench;
use nexus::saga::Fault;
use nexus::saga::instance_create::{InstanceCreate, Params};

impl Proved for InstanceCreate {
    async fn set_up(bench: &SagaBench) -> Params {
        let mut params = to_create(bench).await;
        params.joins.groups = vec![group(bench).await.id];
        params
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        let view = view(bench, params.instance_id).await;
        let (attempt, _) = params.attempt.unwrap();
        assert_eq!(view.instance.state, InstanceState::NoVmm);
        assert_eq!(view.instance.intended_state, IntendedState::Running);
        assert_eq!(view.instance.pending_start_attempt_id, Some(attempt));
        assert!(view.instance.reconcile_at.is_some(), "nobody would look");
        assert_eq!(key(bench, params).await, Some(params.instance_id));
        let pending = view.latest_attempt.unwrap();
        assert_eq!(pending.outcome, StartOutcome::Pending);
        assert_eq!(pending.requested_by, Some(bench.user));
        let (group, id) = (params.joins.groups[0], params.instance_id);
        bench.datastore.affinity_group_member_view(group, id).await.unwrap();
        let disks = disks(bench).await;
        let names: Vec<_> = disks.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["made", "there"]);
        for disk in disks {
            assert_eq!(disk.instance_id, Some(params.instance_id));
        }
    }

    async fn check_failure(
        bench: &SagaBench,
        params: &Params,
        node: &str,
        fault: Fault,
    ) {
        slate::is_clean(bench).await;
        slate::no_disk_was_made_or_is_attached(bench).await;
        assert_eq!(key(bench, params).await, None, "it may be asked for again");
        let inserted = match node {
            "will_insert" => false,
            "insert" => fault == Fault::After,
            _ => true,
        };
        let found = bench.datastore.instance_view(params.instance_id).await;
        if !inserted {
            assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
            return;
        }
        let view = found.unwrap();
        assert_eq!(view.instance.state, InstanceState::Destroyed);
        let attempt = view.latest_attempt.unwrap();
        assert_eq!(attempt.outcome, StartOutcome::Failed);
        assert_eq!(attempt.failure_kind, Some(StartFailureKind::Internal));
    }

    /// Another instance of the same name, which must be free.
    async fn again(bench: &SagaBench, failed: &Params) -> Params {
        let mut params = to_create(bench).await;
        params.joins.groups = failed.joins.groups.clone();
        params
    }

    async fn tear_down(bench: &SagaBench, params: &Params) {
        deleted(bench, params.instance_id).await;
    }
}

/// What the request's key stands for.
async fn key(bench: &SagaBench, params: &Params) -> Option<InstanceId> {
    let request = params.request.clone().unwrap();
    let found = bench.datastore.idempotency_key(request).await.unwrap();
    found.map(|key| key.instance_id)
}
