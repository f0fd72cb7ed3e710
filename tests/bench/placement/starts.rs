//! Instances that are about to be started, each by a saga of its own.

use super::fill::{KINDS, SEC};
use db_model::{
    ByteCount, Fence, InstanceId, SagaId, SecId, StartAttemptId, VcpuCount,
    VmmId,
};
use db_queries::{DataStore, PoolSettings, Zombie};
use futures::future::join_all;
use harness::{Database, pki};
use nexus::background::Activators;
use nexus::config::Tuning;
use nexus::lease::Lease;
use nexus::saga::instance_start::{Params, place};
use nexus::saga::{NodeError, SagaContext, SagaFailure};
use nexus::sleds::Sleds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// An instance, its attempt, and its saga.
#[derive(Clone)]
struct Start {
    instance: InstanceId,
    attempt: StartAttemptId,
    saga: SagaId,
}

/// See the module.
pub(super) struct Starts {
    context: SagaContext,
    /// By the name of their kind.
    all: BTreeMap<&'static str, Vec<Start>>,
    /// Who has a place.
    placed: Mutex<Vec<(Fence, InstanceId, VmmId)>>,
}

/// How one went.
pub(super) struct Outcome {
    pub(super) placed: bool,
    pub(super) took: Duration,
}

impl Starts {
    /// All that are in the database, over as many connections as a Nexus has.
    pub(super) fn of(database: &Database) -> Starts {
        let all = KINDS
            .iter()
            .map(|kind| (kind.name, starts(database, kind.name)))
            .collect();
        Starts { context: context(database), all, placed: Mutex::default() }
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.all[kind].len()
    }

    /// Starts the first of a kind, one after the other.
    pub(super) async fn in_turn(&self, kind: &str, n: usize) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for start in &self.all[kind][..n] {
            outcomes.push(self.start(start).await);
        }
        outcomes
    }

    /// Starts the first of a kind, all at once.
    pub(super) async fn at_once(
        self: &Arc<Starts>,
        kind: &str,
        n: usize,
    ) -> Vec<Outcome> {
        let begun = self.all[kind][..n].iter().cloned().map(|start| {
            let starts = self.clone();
            tokio::spawn(async move { starts.start(&start).await })
        });
        // All are begun before the first is waited for.
        let begun: Vec<_> = begun.collect();
        join_all(begun).await.into_iter().map(Result::unwrap).collect()
    }

    /// Takes their places from all that have one: they can be started again.
    pub(super) async fn give_back(&self) {
        let placed = std::mem::take(&mut *self.placed.lock().unwrap());
        for (fence, instance, vmm) in placed {
            let datastore = &self.context.datastore;
            datastore.vmm_unlink(fence, instance, vmm).await.unwrap();
        }
    }

    async fn start(&self, start: &Start) -> Outcome {
        let fence = Fence { saga_id: start.saga, ..self.context.fence };
        let context = SagaContext { fence, ..self.context.clone() };
        let vmm = VmmId::new_v4();
        let params = Params {
            instance_id: start.instance,
            attempt_id: start.attempt,
            vmm_id: vmm,
            // For the nodes that come later.
            hostname: "host".parse().unwrap(),
            ncpus: VcpuCount::new(1),
            memory: ByteCount::GIB,
        };
        let began = Instant::now();
        let placed = match place(context, params).await {
            Ok(()) => true,
            Err(NodeError::Failed(SagaFailure::Start(why))) => {
                assert_eq!(why.internal_error, why.failure.message);
                false
            }
            other => other.map(|()| true).unwrap(),
        };
        let took = began.elapsed();
        if placed {
            self.placed.lock().unwrap().push((fence, start.instance, vmm));
        }
        Outcome { placed, took }
    }
}

/// What a Nexus's sagas stand on, but for which saga it is.
fn context(database: &Database) -> SagaContext {
    let datastore = DataStore::new(&database.url, PoolSettings::default());
    let tuning = Tuning::default();
    let sec_id: SecId = SEC.parse().unwrap();
    let lease = Lease::without_end(sec_id);
    let sleds =
        Sleds::new(datastore.clone(), lease.clone(), pki::fleet(), &tuning);
    let saga_id = SagaId(Uuid::nil());
    SagaContext {
        datastore,
        sleds,
        activators: Activators::default(),
        tuning,
        log: nexus::logging::logger("error"),
        fence: Fence { saga_id, sec_id, adopt_generation: 1 },
        lease,
        zombie: Zombie::default(),
    }
}

/// Those of a kind, in order.
fn starts(database: &Database, kind: &str) -> Vec<Start> {
    let ids = database.row(&format!(
        "SELECT json_agg(json_build_array(i.id, a.id, a.saga_id) \
             ORDER BY length(i.name), i.name) AS ids \
         FROM instance i \
         JOIN start_attempt a ON a.id = i.pending_start_attempt_id \
         WHERE i.name LIKE '{kind}-%'"
    ));
    let ids = ids["ids"].as_array().unwrap();
    let id = |id: &Value| -> Uuid { id.as_str().unwrap().parse().unwrap() };
    ids.iter()
        .map(|ids| Start {
            instance: id(&ids[0]).into(),
            attempt: id(&ids[1]).into(),
            saga: id(&ids[2]).into(),
        })
        .collect()
}
