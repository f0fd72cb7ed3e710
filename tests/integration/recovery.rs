//! Sagas whose process died, or was taken for dead, or never heard that it had
//! begun them.

use crate::saga_proofs::fixture::{
    GUEST, booted, created, disks, saga, to_create, to_start, view,
};
use db_model::{
    InstanceId, InstanceState, Joins, RunState, SagaId, SagaState,
    StartFailureKind, StartOutcome,
};
use db_queries::{DataStore, Error, PoolSettings};
use harness::{
    Client, DEADLINE, Executor, SagaBench, Setup, TestNexus, Tuning,
    eventually, is, name,
};
use nexus::saga::instance_create::{self, InstanceCreate};
use nexus::saga::instance_start::{InstanceStart, Params};
use nexus::saga::{
    ExecError, Node, Recovered, Saga, SagaHandle, Wrap, registry,
};
use serde_json::{Value, json};
use std::future::pending;
use std::sync::Arc;

/// More than two pages of what is adopted at once.
const MANY: usize = 120;

/// A sled's answer is waited for as long as a test may hold it back.
fn patient() -> Tuning {
    Tuning { sled_timeout_ms: 30_000, ..Tuning::default() }
}

/// instance_create, in a process that dies as soon as it has begun.
struct Dying;

impl Saga for Dying {
    const NAME: &'static str = InstanceCreate::NAME;
    type Params = instance_create::Params;

    fn instance_id(params: &instance_create::Params) -> InstanceId {
        InstanceCreate::instance_id(params)
    }

    fn nodes() -> Vec<Node<instance_create::Params>> {
        let nodes = InstanceCreate::nodes().into_iter();
        let die = |node| Node { action: |_, _| Box::pin(pending()), ..node };
        nodes.map(die).collect()
    }
}

#[tokio::test]
async fn all_that_a_dead_process_had_begun_is_finished_by_the_next() {
    let bench = SagaBench::start(GUEST).await;
    let dead = bench.executor(Wrap::default().registry::<Dying>());
    for n in 0..MANY {
        let mut params = to_create(&bench).await;
        params.new.name = name(&format!("many-{n}"));
        // They cannot have the same disks.
        (params.new.disks, params.joins) = (Vec::new(), Joins::default());
        dead.sagas.start::<Dying>(&params).await.unwrap();
    }
    let next = bench.executor(registry());
    next.takes_over(MANY).await;
    assert!(next.sagas.close(DEADLINE).await);
    let many = i64::try_from(MANY).unwrap();
    let done = "SELECT COUNT(*) FROM saga WHERE state = 'done'";
    let made = "SELECT COUNT(*) FROM instance WHERE state = 'no_vmm'";
    assert_eq!(bench.database.count(done), many);
    assert_eq!(bench.database.count(made), many);
}

#[tokio::test]
async fn what_runs_here_is_not_recovered_twice() {
    let bench = SagaBench::start(GUEST).await;
    let (executor, saga, params) = at_the_sled(&bench).await;
    let found = executor.sagas.recover().await.unwrap();
    assert_eq!(found, Recovered::default());
    bench.agent.clear_faults().await;
    let id = saga.id;
    let ended = tokio::time::timeout(DEADLINE, saga.wait()).await;
    ended.unwrap().unwrap();
    let row = bench.datastore.saga_view(id).await.unwrap();
    assert_eq!(row.adopt_generation, 1);
    assert_eq!(calls(&bench.agent, "register").await, 1);
    booted(&bench, params.vmm_id).await;
}

#[tokio::test]
async fn recoveries_at_once_resume_a_saga_once() {
    let bench = SagaBench::start(GUEST).await;
    let (_dead, saga, params) = at_the_sled(&bench).await;
    let other = bench.executor(registry());
    // It is this one's, and has not been resumed.
    let adopted = bench.datastore.saga_adopt(other.sec_id, 1).await.unwrap();
    assert_eq!(adopted, 1);
    let row = format!("SELECT 1 FROM saga WHERE id = '{}' FOR UPDATE", saga.id);
    let mut barrier = bench.database.hold(&row);
    let recover = || {
        let sagas = Arc::clone(&other.sagas);
        tokio::spawn(async move { sagas.recover().await.unwrap() })
    };
    let first = recover();
    barrier.reached_by(1).await;
    let second = recover();
    // Time enough for the second to get as far, if it were let.
    for _ in 0..50 {
        bench.datastore.rack_id().await.unwrap();
    }
    barrier.lift();
    let once = Recovered { resumed: 1, failed: 0 };
    assert_eq!(first.await.unwrap(), once);
    assert_eq!(second.await.unwrap(), Recovered::default());
    assert!(other.sagas.close(DEADLINE).await);
    booted(&bench, params.vmm_id).await;
}

#[tokio::test]
async fn a_zombie_writes_nothing_and_says_that_it_is_one() {
    let bench = SagaBench::start(GUEST).await;
    bench.agent.hold(json!({ "boot": true })).await;
    let (zombie, _saga, params) = at_the_sled(&bench).await;

    let other = bench.executor(registry());
    other.takes_over(1).await;
    assert!(other.sagas.close(DEADLINE).await);
    // The sled has more to say than is known here, were a zombie to pass it on.
    bench.agent.guest(&params.vmm_id.to_string(), "booted").await;
    let before = everything(&bench);

    bench.agent.clear_faults().await;
    let declared = zombie.zombie.declared();
    tokio::time::timeout(DEADLINE, declared).await.unwrap();
    assert_eq!(everything(&bench), before);
    assert_eq!(zombie.sagas.running(), 1, "it goes no further, ever");

    booted(&bench, params.vmm_id).await;
    let view = view(&bench, params.instance_id).await;
    assert_eq!(view.run_state(), RunState::Running);
}

#[tokio::test]
async fn a_start_that_an_operator_gives_up_is_parked_and_looked_after() {
    let setup = Setup { sleds: 1, tuning: patient(), ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    nexus.agents[0].fault("register", 1, json!({ "hang": true })).await;
    let mut body = Client::instance("given-up", true);
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    eventually("it is at the sled", async || {
        (calls(&nexus.agents[0], "register").await == 1).then_some(())
    })
    .await;
    let datastore = nexus.database.datastore();
    let instance = id.parse().unwrap();
    let (_, saga) = datastore.reconcile_facts(instance).await.unwrap();
    let saga = saga.unwrap().id;
    datastore.saga_abandon(saga).await.unwrap();

    let view = nexus.wait(&id, is("failed")).await;
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "internal", "{view:#}");
    assert_eq!(failure["details"]["incident_id"], saga.to_string());

    // Its order to register comes late, and its saga hears of it.
    nexus.agents[0].clear_faults().await;
    eventually("the saga is parked", async || {
        nexus
            .process
            .child
            .log()
            .contains("gave the saga up: parked")
            .then_some(())
    })
    .await;
    eventually("nothing is held of the sled", async || {
        let held = "SELECT COUNT(*) FROM sled_reservation";
        (nexus.database.count(held) == 0).then_some(())
    })
    .await;
    assert!(nexus.agents[0].vmms().await.is_empty());
    let row = datastore.saga_view(saga).await.unwrap();
    assert_eq!(row.state, SagaState::Abandoned);
    let log = datastore.saga_log(saga).await.unwrap();
    assert!(log.iter().all(|e| e.event_type != "failed"), "{log:?}");

    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
}

#[tokio::test]
async fn of_a_creation_that_an_operator_gives_up_nothing_is_left() {
    let bench = SagaBench::start(GUEST).await;
    let (saga, params) = half_created(&bench).await;
    bench.datastore.saga_abandon(saga).await.unwrap();

    let mut nexus = bench.nexus(&Tuning::default()).await;
    let given_up = eventually("it is destroyed", async || {
        let view = view(&bench, params.instance_id).await;
        (view.instance.state == InstanceState::Destroyed).then_some(view)
    })
    .await;
    let attempt = given_up.latest_attempt.unwrap();
    let failure = attempt.failure().unwrap();
    assert_eq!(attempt.outcome, StartOutcome::Failed);
    assert_eq!(failure.kind, StartFailureKind::Internal);
    assert!(failure.message.contains(&saga.to_string()), "{failure:?}");
    let left = disks(&bench).await;
    let names: Vec<_> = left.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["there"], "what was made with it is gone");
    // It would adopt what the bench runs, which has no lease.
    nexus.child.kill().await;
    created(&bench).await;
}

#[tokio::test]
async fn a_saga_that_was_begun_though_its_starter_heard_otherwise_is_found() {
    let bench = SagaBench::start(GUEST).await;
    let proxy = bench.database.proxy().await;
    let datastore = DataStore::new(&proxy.url, PoolSettings::default());
    let executor = bench.executor_over(&datastore, registry());
    let params = to_create(&bench).await;
    // It stands in the saga's row.
    proxy.lose_next_answer_to(InstanceCreate::NAME);
    let begun = executor.sagas.start::<InstanceCreate>(&params).await;
    assert!(matches!(begun, Err(ExecError::Unavailable(_))), "{begun:?}");

    let found = executor.sagas.recover().await.unwrap();
    assert_eq!(found, Recovered { resumed: 1, failed: 0 });
    assert!(executor.sagas.close(DEADLINE).await);
    let view = view(&bench, params.instance_id).await;
    assert_eq!(view.instance.state, InstanceState::NoVmm);
}

#[tokio::test]
async fn a_saga_goes_on_though_its_starter_hangs_up() {
    let bench = SagaBench::start(GUEST).await;
    let executor = bench.executor(registry());
    let params = to_create(&bench).await;
    let mut starter = Box::pin(executor.sagas.start::<InstanceCreate>(&params));
    assert!(futures::poll!(&mut starter).is_pending());
    drop(starter);
    eventually("it is created", async || {
        let found = bench.datastore.instance_view(params.instance_id).await;
        let state = match found {
            Err(Error::NotFound) => return None,
            found => found.unwrap().instance.state,
        };
        (state == InstanceState::NoVmm).then_some(())
    })
    .await;
    assert!(executor.sagas.close(DEADLINE).await);
}

/// instance_create, as a version knows it that is told other things.
struct OtherVersion;

impl Saga for OtherVersion {
    const NAME: &'static str = InstanceCreate::NAME;
    type Params = u8;

    fn instance_id(_params: &u8) -> InstanceId {
        unimplemented!("nobody starts it")
    }

    fn nodes() -> Vec<Node<u8>> {
        let nodes = InstanceCreate::nodes().into_iter();
        let step = |node: Node<_>| Node {
            name: node.name,
            action: |_, _| Box::pin(async { Ok(()) }),
            undo: None,
        };
        nodes.map(step).collect()
    }
}

#[tokio::test]
async fn a_saga_of_another_version_is_left_to_it() {
    let bench = SagaBench::start(GUEST).await;
    let (id, params) = half_created(&bench).await;
    let other = bench.executor(Wrap::default().registry::<OtherVersion>());
    other.takes_over(1).await;
    assert_eq!(bench.datastore.saga_log(id).await.unwrap().len(), 0);

    let ours = bench.executor(registry());
    ours.takes_over(1).await;
    assert!(ours.sagas.close(DEADLINE).await);
    let view = view(&bench, params.instance_id).await;
    assert_eq!(view.instance.state, InstanceState::NoVmm);
}

/// A start whose order to register is at the sled, which holds it back; and
/// who runs it.
async fn at_the_sled(bench: &SagaBench) -> (Executor, SagaHandle, Params) {
    let id = created(bench).await;
    let params = to_start(bench, id).await;
    bench.agent.fault("register", 1, json!({ "hang": true })).await;
    let executor = bench.executor(registry());
    let saga = executor.sagas.start::<InstanceStart>(&params).await.unwrap();
    eventually("it is at the sled", async || {
        (calls(&bench.agent, "register").await == 1).then_some(())
    })
    .await;
    (executor, saga, params)
}

/// A create saga that has inserted its instance, and whose process died before
/// anything else was written; and its params.
async fn half_created(bench: &SagaBench) -> (SagaId, instance_create::Params) {
    let params = to_create(bench).await;
    saga::<InstanceCreate>(bench, &params).await;
    let id =
        bench.database.texts("SELECT id::TEXT FROM saga")[0].parse().unwrap();
    let undo = format!(
        "DELETE FROM saga_node_event WHERE saga_id = '{id}'; \
         UPDATE saga SET state = 'running', time_ended = NULL \
             WHERE id = '{id}'; \
         UPDATE instance SET state = 'creating'"
    );
    bench.database.try_sql(&undo).unwrap();
    (id, params)
}

/// How often a sled was asked for something.
async fn calls(agent: &harness::Agent, what: &str) -> u32 {
    let calls = &agent.counters().await["api"][what];
    u32::try_from(calls.as_u64().unwrap_or(0)).unwrap()
}

/// All rows that a saga may change.
fn everything(bench: &SagaBench) -> Value {
    bench.database.row(
        "SELECT (SELECT jsonb_agg(x) FROM instance x) AS instances, \
             (SELECT jsonb_agg(x) FROM vmm x) AS vmms, \
             (SELECT jsonb_agg(x) FROM start_attempt x) AS attempts, \
             (SELECT jsonb_agg(x) FROM sled_reservation x) AS held, \
             (SELECT jsonb_agg(x) FROM disk x) AS disks, \
             (SELECT jsonb_agg(x) FROM sled x) AS sleds, \
             (SELECT jsonb_agg(x) FROM saga x) AS sagas, \
             (SELECT jsonb_agg(x) FROM saga_node_event x) AS records",
    )
}
