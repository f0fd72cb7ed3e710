//! A Nexus with sleds whose guests boot at once, and instances to start.

use harness::{
    Agent, AgentSettings, Client, Database, NexusProcess, PROJECT, Tuning,
    eventually,
};
use serde_json::{Value, json};
use sled_agent_client::{RequestedState, Timeouts, VmmNetwork, VmmRegister};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How many sleds there are.
const SLEDS: usize = 4;

/// What is measured.
pub(crate) struct Stage {
    // Dropped in this order: processes before what they stand on.
    sleds: Vec<Agent>,
    _nexus: NexusProcess,
    pub(crate) client: Client,
    /// Stopped, and named by their ids.
    pub(crate) instances: Vec<String>,
    pub(crate) database: Database,
    _dir: tempfile::TempDir,
}

impl Stage {
    /// With so many instances, all of which have room to run at once, and
    /// `others` that rest beside them.
    pub(crate) async fn set(instances: u32, others: u32) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::create().await;
        let nexus = NexusProcess::start(
            dir.path(),
            &database.url,
            &Tuning::production(),
        )
        .await;
        let token = nexus.bootstrap("main", "admin", true).await;
        let client = Client::new(nexus.external(), &token)
            .patient_for(Duration::from_secs(120));
        let room = AgentSettings::sized(2 * instances, 2 * instances);
        let mut sleds = Vec::new();
        for n in 0..SLEDS {
            let internal = [nexus.internal()];
            let sled =
                Agent::start(dir.path(), n, &internal, None, &room).await;
            sled.set(json!({ "boot_ms": 0, "stop_ms": 0 })).await;
            sleds.push(sled);
        }
        eventually("the sleds are registered", async || {
            let path = "/v1/system/hardware/sleds";
            let sleds: Value = client.get(path).await.expect(200);
            (sleds["items"].as_array()?.len() == SLEDS).then_some(())
        })
        .await;
        let project = json!({ "name": PROJECT, "description": "" });
        client.post("/v1/projects", project).await.expect(201);
        let mut ids = Vec::new();
        for n in 0..instances {
            ids.push(client.create(&format!("i{n}"), false).await);
        }
        let stage = Stage {
            sleds,
            _nexus: nexus,
            client,
            instances: ids,
            database,
            _dir: dir,
        };
        stage.fill(others);
        stage
    }

    /// So many copies of the first instance, and of its finished saga, that
    /// rest.
    fn fill(&self, others: u32) {
        let columns = |table: &str, but: &[&str]| -> String {
            let but: Vec<_> = but.iter().map(|c| format!("'{c}'")).collect();
            self.database
                .texts(&format!(
                    "SELECT string_agg(column_name, ', ') \
                     FROM information_schema.columns \
                     WHERE table_name = '{table}' \
                       AND column_name NOT IN ({})",
                    but.join(", ")
                ))
                .remove(0)
        };
        let instance = columns("instance", &["id", "name"]);
        let saga = columns("saga", &["id", "instance_id"]);
        for sql in [
            format!(
                "INSERT INTO instance (id, name, {instance}) \
                 SELECT md5('other' || n)::UUID, 'other-' || n, {instance} \
                 FROM generate_series(1, {others}) n, \
                     (SELECT * FROM instance WHERE name = 'i0') i"
            ),
            format!(
                "INSERT INTO saga (id, instance_id, {saga}) \
                 SELECT md5('saga' || n)::UUID, md5('other' || n)::UUID, {saga} \
                 FROM generate_series(1, {others}) n, \
                     (SELECT * FROM saga WHERE time_ended IS NOT NULL \
                      LIMIT 1) s"
            ),
            "VACUUM ANALYZE".to_string(),
        ] {
            self.database.try_sql(&sql).unwrap();
        }
    }

    /// Adds so much to each commit of the server, from now on.
    pub(crate) fn delay_commits(&self, micros: u32) {
        for sql in [
            format!("ALTER SYSTEM SET commit_delay = {micros}"),
            "ALTER SYSTEM SET commit_siblings = 0".to_string(),
            "SELECT pg_reload_conf()".to_string(),
        ] {
            self.database.try_sql(&sql).unwrap();
        }
    }

    /// How often the server has synced its log.
    pub(crate) fn wal_syncs(&self) -> f64 {
        let syncs = self.database.count("SELECT wal_sync FROM pg_stat_wal");
        f64::from(u32::try_from(syncs).unwrap())
    }

    /// From the request to start an instance until it is seen to run.
    pub(crate) async fn started(&self, id: &str) -> Duration {
        let began = Instant::now();
        let view = self.client.ask(id, "start").await.expect(202);
        self.until(id, view, "running").await;
        began.elapsed()
    }

    async fn until(&self, id: &str, mut view: Value, state: &str) {
        while view["run_state"] != state {
            let seen = &view["view_gen"];
            let path = format!(
                "/v1/instances/{id}?wait_for_change={seen}&wait_seconds=30"
            );
            view = self.client.get(&path).await.expect(200);
        }
    }

    /// Stops what runs.
    pub(crate) async fn all_stopped(&self) {
        for id in &self.instances {
            self.client.ask(id, "stop").await.expect(202);
        }
        for id in &self.instances {
            self.client.wait(id, |i| i["run_state"] == "stopped").await;
        }
    }

    /// What a sled itself takes to take a VMM in and to begin to run it, at the
    /// median of some tries.
    pub(crate) async fn sled_ms(&self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..20 {
            times.push(runs_one(&self.sleds[0]).await);
        }
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    }
}

/// How long a sled takes to take a VMM in, and to begin to run it.
async fn runs_one(sled: &Agent) -> Duration {
    let client = sled.client(Timeouts::default());
    let vmm = VmmRegister {
        instance_id: Uuid::new_v4(),
        hostname: "bench".to_string(),
        vcpus: 1,
        memory_bytes: harness::GIB,
        disks: Vec::new(),
        network: VmmNetwork::None,
        user_data: String::new(),
        ssh_public_keys: Vec::new(),
    };
    client.vmm_list().await.unwrap();
    let id = Uuid::new_v4();
    let began = Instant::now();
    client.vmm_register(id, &vmm).await.unwrap();
    client.vmm_put_state(id, RequestedState::Running).await.unwrap();
    let took = began.elapsed();
    client.vmm_unregister(id).await.unwrap();
    took
}
