//! Sagas without a Nexus: a database, one sled, and executors that a test has
//! in its hands. No reconciler is there to tidy up after a saga, and no sled's
//! report comes in unless the test takes it in.

use crate::{
    Agent, AgentSettings, DEADLINE, Database, NexusProcess, eventually, pki,
    users,
};
use chrono::TimeDelta;
use db_model::lifecycle::reports::Observation;
use db_model::{
    Name, ProjectId, SagaId, SecId, SiloId, SiloUserId, SledId, VmmId,
};
use db_queries::{DataStore, SledFacts, Zombie};
use nexus::background::reaper::{Reaped, Reaper};
use nexus::background::{Activators, Task};
use nexus::config::Tuning;
use nexus::lease::Lease;
use nexus::saga::{NexusSaga, Saga, SagaExecutor, SagaFailure};
use nexus::sleds::Sleds;
use sled_agent_client::{Client, Timeouts};
use std::net::SocketAddr;
use std::sync::Arc;
use steno::ActionRegistry;
use tokio::net::TcpSocket;
use uuid::Uuid;

/// What sagas stand on, with a project for their instances.
pub struct SagaBench {
    // Dropped in this order: processes before what they stand on.
    /// The sled.
    pub agent: Agent,
    /// The way to the sled.
    pub sled: Client,
    /// The way into the database.
    pub datastore: DataStore,
    /// Where instances are made.
    pub project: ProjectId,
    /// Whose that is.
    pub silo: SiloId,
    /// Who asks for them.
    pub user: SiloUserId,
    /// The database.
    pub database: Database,
    settings: AgentSettings,
    incarnation: Uuid,
    log: slog::Logger,
    /// Where the agent looks for a Nexus. Bound, so that it is nobody else's,
    /// and not listening, so that nobody answers.
    _nowhere: TcpSocket,
    dir: tempfile::TempDir,
}

/// What of a Nexus runs sagas: one process's worth.
pub struct Executor {
    /// It.
    pub sagas: Arc<SagaExecutor>,
    /// Told when another has adopted one of its sagas.
    pub zombie: Zombie,
    /// Its id.
    pub sec_id: SecId,
}

impl SagaBench {
    /// A sled like this, alone in the fleet.
    pub async fn start(settings: AgentSettings) -> SagaBench {
        let database = Database::create().await;
        let dir = tempfile::tempdir().unwrap();
        let nowhere = TcpSocket::new_v4().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        nowhere.bind(any).unwrap();
        let closed = nowhere.local_addr().unwrap();
        let agent =
            Agent::start(dir.path(), 0, &[closed], None, &settings).await;
        // Sagas here give up on a sled soon.
        agent.vmms().await;
        let datastore = database.datastore();
        let (user, silo) = user(&datastore, "main").await;
        let project = datastore
            .project_create(silo, name("demo"), String::new())
            .await
            .unwrap()
            .id;
        let sled = agent.client(Timeouts::default());
        let bench = SagaBench {
            agent,
            sled,
            datastore,
            project,
            silo,
            user,
            database,
            settings,
            incarnation: Uuid::new_v4(),
            log: nexus::logging::logger("info"),
            _nowhere: nowhere,
            dir,
        };
        bench.heartbeat().await;
        bench
    }

    /// Another silo, and its user.
    pub async fn another_silo(&self) -> (SiloUserId, SiloId) {
        user(&self.datastore, "another").await
    }

    /// The sled's row, as fresh as after a heartbeat: nothing is placed on a
    /// sled that is silent.
    pub async fn heartbeat(&self) {
        let gib = i64::try_from(crate::GIB).unwrap();
        let facts = SledFacts {
            id: self.sled_id(),
            address: self.agent.address().to_string(),
            serial: "bench".to_string(),
            part: "simulated-sled".to_string(),
            revision: 1,
            vcpus: self.settings.vcpus.into(),
            memory_bytes: i64::from(self.settings.memory_gib) * gib,
            storage_bytes: 100 * gib,
            cpu: self.settings.cpu,
            incarnation: self.incarnation,
            fences_after_ms: None,
        };
        self.datastore.sled_heard_from(facts, true).await.unwrap();
    }

    /// The sled's id.
    pub fn sled_id(&self) -> SledId {
        self.agent.id.parse().unwrap()
    }

    /// A new executor, whose nodes run as `registry` says.
    pub fn executor(&self, registry: ActionRegistry<NexusSaga>) -> Executor {
        self.executor_over(&self.datastore, registry)
    }

    /// The same, with a way of its own into the database.
    pub fn executor_over(
        &self,
        datastore: &DataStore,
        registry: ActionRegistry<NexusSaga>,
    ) -> Executor {
        let sec_id = SecId::new_v4();
        let zombie = Zombie::default();
        let tuning = tuning();
        let lease = Lease::without_end(sec_id);
        let sagas = SagaExecutor::new(
            lease.clone(),
            datastore.clone(),
            Sleds::new(datastore.clone(), lease, pki::fleet(), &tuning),
            Activators::default(),
            tuning,
            zombie.clone(),
            registry,
            self.log.clone(),
        );
        Executor { sagas, zombie, sec_id }
    }

    /// A Nexus after all. The sled does not register with it.
    pub async fn nexus(&self, tuning: &crate::Tuning) -> NexusProcess {
        NexusProcess::start(self.dir.path(), &self.database.url, tuning).await
    }

    /// Where all of it keeps its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Has the sled be rid of all blocks that it is to be rid of now.
    ///
    /// # Panics
    ///
    /// It does not do it.
    pub async fn reap(&self) {
        let sec_id = SecId::new_v4();
        let lease = Lease::without_end(sec_id);
        let store = self.datastore.clone();
        let sleds = Sleds::new(store, lease.clone(), pki::fleet(), &tuning());
        let reaper = Reaper {
            datastore: self.datastore.clone(),
            sleds,
            lease,
            activators: Activators::default(),
            log: self.log.clone(),
        };
        while reaper.activate().await != Reaped::default() {}
        let left = self.database.count("SELECT count(*) FROM blocks_gone");
        assert_eq!(left, 0, "blocks that the sled is not rid of");
    }

    /// Takes in what the sled says of a VMM, as a Nexus does that hears it.
    pub async fn observe(&self, vmm: VmmId, said: Observation) {
        self.datastore
            .vmm_observe(self.sled_id(), vmm, said, TimeDelta::minutes(1))
            .await
            .unwrap();
    }
}

impl Executor {
    /// Takes over the sagas of dead processes, of which there are `sagas`. One
    /// whose row is locked at that moment, by the last statement of whoever
    /// ran it, is passed over: the next recovery finds it.
    ///
    /// # Panics
    ///
    /// It does not get them all, or one cannot be resumed.
    pub async fn takes_over(&self, sagas: usize) {
        let mut resumed = 0;
        eventually("all sagas are taken over", async || {
            let found = self.sagas.recover().await.unwrap();
            assert_eq!(found.failed, 0);
            resumed += found.resumed;
            (resumed >= sagas).then_some(())
        })
        .await;
        assert_eq!(resumed, sagas);
    }

    /// Runs a saga to its end; which, and how it ended.
    ///
    /// # Panics
    ///
    /// It is not started, or does not end.
    pub async fn run<S: Saga>(
        &self,
        params: &S::Params,
    ) -> (SagaId, Result<(), SagaFailure>) {
        let saga = self.sagas.start::<S>(params).await.unwrap();
        let id = saga.id;
        let ended = tokio::time::timeout(DEADLINE, saga.wait()).await;
        let name = S::NAME;
        (id, ended.unwrap_or_else(|_| panic!("{name} {id} does not end")))
    }
}

/// A name, known to be one.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A sled's answer is waited for as long as a test may hold it back.
fn tuning() -> Tuning {
    Tuning { sled_timeout_ms: 30_000, sled_retry_ms: 20, ..Tuning::default() }
}

async fn user(datastore: &DataStore, silo: &str) -> (SiloUserId, SiloId) {
    let silo = users::the_silo(datastore, name(silo)).await;
    let admin = "admin".parse().unwrap();
    (users::the_user(datastore, &silo, admin).await.id, silo.id)
}
