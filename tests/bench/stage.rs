//! A Nexus with sleds whose guests boot at once, and instances to start.

use harness::{
    Agent, AgentSettings, Client, Database, NexusProcess, PROJECT, Tuning,
    eventually,
};
use serde_json::{Value, json};
use sled_agent_client::{
    RequestedState, Timeouts, VmmNetwork, VmmRegister, VmmState,
};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// How the instances at rest are called, before their numbers.
pub(crate) const OTHER: &str = "other-";

/// What is measured.
pub(crate) struct Stage {
    // Dropped in this order: processes before what they stand on.
    pub(crate) sleds: Vec<Agent>,
    pub(crate) nexus: NexusProcess,
    pub(crate) client: Client,
    /// Stopped, and named by their ids.
    pub(crate) instances: Vec<String>,
    /// How many others there are, which rest.
    others: u32,
    pub(crate) database: Database,
    pub(crate) dir: TempDir,
}

/// A place for the files of a run. ext4 without a journal passes over inodes that were
/// removed in the last minutes, one by one, for each new file that is to be near them:
/// so a run would pay for what the one before it has removed. What is directly in a
/// directory with this attribute is put elsewhere on the disk. Where that cannot be,
/// this is a place like others.
fn apart() -> TempDir {
    let dir = std::env::temp_dir().join("nexus-bench");
    _ = std::fs::create_dir_all(&dir);
    let mut chattr = Command::new("chattr");
    _ = chattr.arg("+T").arg(&dir).stderr(Stdio::null()).status();
    // That one may be another user's.
    tempfile::tempdir_in(dir).or_else(|_| tempfile::tempdir()).unwrap()
}

impl Stage {
    /// With so many instances, all of which have room to run at once, if there
    /// are any sleds.
    pub(crate) async fn set(instances: u32, sleds: usize) -> Stage {
        // What a build just now has left to write is not to be written meanwhile.
        _ = Command::new("sync").status();
        let dir = apart();
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
        let count = sleds;
        let mut sleds = Vec::new();
        for n in 0..count {
            let internal = [nexus.internal()];
            let sled =
                Agent::start(dir.path(), n, &internal, None, &room).await;
            sled.set(json!({ "boot_ms": 0, "stop_ms": 0 })).await;
            sleds.push(sled);
        }
        eventually("the sleds are registered", async || {
            let path = "/v1/system/hardware/sleds";
            let sleds: Value = client.get(path).await.expect(200);
            (sleds["items"].as_array()?.len() == count).then_some(())
        })
        .await;
        let project = json!({ "name": PROJECT, "description": "" });
        client.post("/v1/projects", project).await.expect(201);
        let mut ids = Vec::new();
        for n in 0..instances {
            ids.push(client.create(&format!("i{n}"), false).await);
        }
        Stage { sleds, nexus, client, instances: ids, others: 0, database, dir }
    }

    /// So many copies of the first instance, and of its finished saga with its
    /// log, that rest.
    pub(crate) async fn fill_up_to(&mut self, others: u32) {
        self.settled().await;
        let numbers =
            format!("generate_series({}, {others}) n", self.others + 1);
        self.others = self.others.max(others);
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
        let event = columns("saga_node_event", &["saga_id"]);
        let finished = "SELECT * FROM saga WHERE time_ended IS NOT NULL \
             ORDER BY time_ended LIMIT 1";
        // No reference is checked for these, which takes most of the time.
        let fast = "SET session_replication_role = replica";
        for sql in [
            format!(
                "{fast}; \
                 INSERT INTO instance (id, name, {instance}) \
                 SELECT md5('other' || n)::UUID, '{OTHER}' || n, {instance} \
                 FROM {numbers}, (SELECT * FROM instance WHERE name = 'i0') i"
            ),
            format!(
                "{fast}; \
                 INSERT INTO saga_node_event (saga_id, {event}) \
                 SELECT md5('saga' || n)::UUID, {event} \
                 FROM {numbers}, saga_node_event e \
                 WHERE e.saga_id = (SELECT id FROM ({finished}) s)"
            ),
            format!(
                "{fast}; \
                 INSERT INTO saga (id, instance_id, {saga}) \
                 SELECT md5('saga' || n)::UUID, md5('other' || n)::UUID, {saga} \
                 FROM {numbers}, ({finished}) s"
            ),
            "VACUUM ANALYZE".to_string(),
        ] {
            self.database.try_sql(&sql).unwrap();
        }
    }

    /// Waits until no saga is under way, and nothing is to be looked at.
    pub(crate) async fn settled(&self) {
        eventually("all is settled", async || {
            let left = self.database.count(
                "SELECT (SELECT count(*) FROM saga WHERE time_ended IS NULL) \
                 + (SELECT count(*) FROM instance \
                    WHERE reconcile_at IS NOT NULL)",
            );
            (left == 0).then_some(())
        })
        .await;
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
        float(self.database.count("SELECT wal_sync FROM pg_stat_wal"))
    }

    /// How many transactions have been committed, those that only read too.
    pub(crate) fn transactions(&self) -> f64 {
        float(self.database.count(
            "SELECT xact_commit FROM pg_stat_database \
             WHERE datname = current_database()",
        ))
    }

    /// Where the server's log ends now.
    pub(crate) fn wal_end(&self) -> String {
        let end = "SELECT pg_current_wal_flush_lsn()::TEXT";
        self.database.texts(end).remove(0)
    }

    /// What stands in the log for each transaction since then that had written
    /// something, in order: `of` are columns of `pg_walinspect`.
    pub(crate) fn commits(&self, since: &str, of: &str) -> Vec<String> {
        let extension = "CREATE EXTENSION IF NOT EXISTS pg_walinspect";
        self.database.try_sql(extension).unwrap();
        self.database.texts(&format!(
            "SELECT {of} FROM pg_get_wal_records_info('{since}', \
                 pg_current_wal_flush_lsn()) \
             WHERE resource_manager = 'Transaction' \
               AND record_type = 'COMMIT' ORDER BY start_lsn"
        ))
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
        self.stopped(&self.instances).await;
    }

    /// Stops these.
    pub(crate) async fn stopped(&self, instances: &[String]) {
        for id in instances {
            self.client.ask(id, "stop").await.expect(202);
        }
        for id in instances {
            self.client.wait(id, |i| i["run_state"] == "stopped").await;
        }
    }

    /// What a sled itself takes to take a VMM in and to run it, at the median of
    /// some tries.
    pub(crate) async fn sled_ms(&self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..20 {
            times.push(runs_one(&self.sleds[0]).await);
        }
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    }
}

/// A count that is not large.
fn float(count: i64) -> f64 {
    u32::try_from(count).unwrap().into()
}

/// How long a sled takes to take a VMM in, and to run it.
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
    while client.vmm_view(id).await.unwrap().state != VmmState::Running {}
    let took = began.elapsed();
    client.vmm_unregister(id).await.unwrap();
    took
}
