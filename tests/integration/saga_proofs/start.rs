//! instance_start, of an instance that fills the sled, with disks, in a group.

use super::fixture::{
    GUEST, booted, created, deleted, disks, group, to_start, view,
};
use super::{Proved, slate};
use db_model::{
    DiskBackend, InstanceState, InstanceView, IntendedState, RunState,
    StartAttemptId, StartFailureKind, StartOutcome,
};
use db_queries::{StartSaga, Started};
use harness::SagaBench;
use nexus::saga::instance_start::{InstanceStart, Params};
use nexus::saga::{Fault, registry};
use serde_json::json;

impl Proved for InstanceStart {
    async fn set_up(bench: &SagaBench) -> Params {
        // Lest a guest be up before its start is undone.
        bench.agent.hold(json!({ "boot": true })).await;
        let id = created(bench).await;
        let group = group(bench).await;
        let joined = bench.datastore.affinity_group_member_add(&group, id);
        joined.await.unwrap();
        to_start(bench, id).await
    }

    async fn check_success(bench: &SagaBench, params: &Params) {
        let begun = view(bench, params.instance_id).await;
        assert_eq!(begun.instance.active_vmm_id, Some(params.vmm_id));
        let vmm = begun.vmm.unwrap();
        assert!(vmm.may_run && !vmm.ended(), "{vmm:?}");
        assert!(vmm.boot_deadline.is_some(), "the sled took the order");
        assert_eq!(vmm.start_attempt_id, params.attempt_id);
        let attempt = begun.latest_attempt.unwrap();
        assert_eq!(attempt.vmm_id, Some(params.vmm_id));

        let sled = bench.datastore.sled_view(bench.sled_id()).await.unwrap();
        assert_eq!(sled.reserved_vcpus, params.ncpus.to_i64());
        assert_eq!(sled.reserved_memory_bytes, params.memory);
        let disks = disks(bench).await;
        assert_eq!(disks.len(), 2);
        let local = |d: &&db_model::Disk| d.backend == DiskBackend::Local;
        let local: Vec<_> = disks.iter().filter(local).collect();
        assert_eq!(local.len(), 1);
        assert_eq!(local[0].sled_id, Some(sled.id));

        let there = bench.agent.vmms().await;
        assert_eq!(there.len(), 1, "{there:?}");
        assert_eq!(there[0]["vmm_id"], params.vmm_id.to_string());

        booted(bench, params.vmm_id).await;
        let up = view(bench, params.instance_id).await;
        assert_eq!(up.run_state(), RunState::Running);
        assert_eq!(up.latest_attempt.unwrap().outcome, StartOutcome::Started);
    }

    async fn check_failure(
        bench: &SagaBench,
        params: &Params,
        node: &str,
        _fault: Fault,
    ) {
        let view = view(bench, params.instance_id).await;
        let attempt = view.latest_attempt.unwrap();
        assert_eq!(attempt.id, params.attempt_id);
        if node == "claim" {
            // There is nothing to undo, so the attempt goes on.
            assert_eq!(attempt.outcome, StartOutcome::Pending);
            assert!(attempt.saga_id.is_some(), "it was taken before that");
            assert_eq!(view.instance.state, InstanceState::NoVmm);
            return;
        }
        slate::is_clean(bench).await;
        assert_eq!(view.instance.state, InstanceState::Failed);
        assert_eq!(view.instance.intended_state, IntendedState::Running);
        assert_eq!(attempt.outcome, StartOutcome::Failed);
        assert_eq!(attempt.failure_kind, Some(StartFailureKind::Internal));
        assert_eq!(attempt.internal_error.as_deref(), Some("injected"));
        let there = bench.agent.vmms().await;
        assert!(there.is_empty(), "not unregistered: {there:?}");
    }

    /// The same attempt, if it still waits; else the user tries again.
    async fn again(bench: &SagaBench, failed: &Params) -> Params {
        let id = failed.instance_id;
        let attempt = StartAttemptId::new_v4();
        let asked = bench
            .datastore
            .instance_start(id, attempt, bench.user, None, None, None);
        asked.await.unwrap();
        to_start(bench, id).await
    }

    async fn tear_down(bench: &SagaBench, params: &Params) {
        deleted(bench, params.instance_id).await;
    }
}

#[tokio::test]
async fn a_start_is_answered_with_what_a_look_at_that_moment_would_see() {
    let bench = SagaBench::start(GUEST).await;
    let id = created(&bench).await;
    bench.datastore.instance_stop(id).await.unwrap();
    let seen = view(&bench, id).await;
    let attempt = StartAttemptId::new_v4();
    let executor = bench.executor(registry());
    let params = Params::new(&seen.instance, attempt);
    let prepared = executor.sagas.prepare::<InstanceStart>(&params).unwrap();
    let new = StartSaga { saga: prepared.new_saga().clone(), seen };
    let asked = bench.datastore.instance_start(
        id,
        attempt,
        bench.user,
        None,
        None,
        Some(new),
    );
    let Started::Saga(answered) = asked.await.unwrap() else {
        panic!("its saga did not begin");
    };
    let read = view(&bench, id).await;
    let read = InstanceView { now: answered.now, ..read };
    assert_eq!(format!("{answered:#?}"), format!("{read:#?}"));
    assert_eq!(read.latest_attempt.unwrap().id, attempt);
}
