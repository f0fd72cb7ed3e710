//! What tests start with: a database, a Nexus and sleds of their own, each a
//! real process, reached through their front doors.
//!
//! ```text
//! let nexus = TestNexus::start().await;          // one Nexus, two sleds
//! let id = nexus.create("db", true).await;       // an instance, to run
//! nexus.wait(&id, is("running")).await;          // by long poll: no sleeping
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a harness has nobody to report to but the test"
)]

mod admin;
mod agent;
mod barrier;
mod client;
mod console;
mod database;
mod database_proxy;
mod dying;
mod fleet;
pub mod guests;
mod invariants;
mod link;
mod metrics;
mod nexus_process;
pub mod pki;
mod ports;
mod process;
mod saga_bench;
mod store;
mod users;
mod wait;

pub use admin::{Said, nexus_admin};
pub use agent::{Agent, AgentSettings};
pub use barrier::{Barrier, Gate};
pub use client::{Answer, Client};
pub use console::Console;
pub use database::Database;
pub use database_proxy::DatabaseProxy;
pub use dying::Died;
pub use invariants::what_is_wrong;
pub use link::{Link, Weather};
pub use metrics::Metrics;
pub use nexus_process::{NexusProcess, SLED_SECRET, Token, Tuning};
pub use process::Child;
pub use saga_bench::{Executor, SagaBench, name};
pub use store::blocks_in_store;
pub use users::PASSWORD;
pub use wait::{DEADLINE, eventually};

use serde_json::{Value, json};
use std::ops::Deref;

/// A gibibyte.
pub const GIB: u64 = 1 << 30;

/// The project that every [`TestNexus`] begins with.
pub const PROJECT: &str = "demo";

/// How a [`TestNexus`] is to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many sleds.
    pub sleds: usize,
    /// How each of them is.
    pub agent: AgentSettings,
    /// What to change of Nexus's times and bounds.
    pub tuning: Tuning,
    /// Put a [`Link`] between the Nexuses and the database.
    pub database_link: bool,
    /// How many Nexuses there are besides the one that the test speaks to.
    pub other_nexuses: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            sleds: 2,
            agent: AgentSettings::default(),
            tuning: Tuning::default(),
            database_link: false,
            other_nexuses: 0,
        }
    }
}

impl Setup {
    /// One sled, so that a test knows where everything goes.
    pub fn one_sled() -> Setup {
        Setup { sleds: 1, ..Setup::default() }
    }

    /// No sled, for what needs none.
    pub fn no_sled() -> Setup {
        Setup { sleds: 0, ..Setup::default() }
    }
}

/// A whole product of a test's own. Derefs to the [`Client`] of its admin.
#[derive(Debug)]
pub struct TestNexus {
    // Dropped in this order: processes before what they stand on.
    /// The Nexus.
    pub process: NexusProcess,
    /// Those that were asked for besides it.
    pub others: Vec<NexusProcess>,
    /// The sleds.
    pub agents: Vec<Agent>,
    /// The fleet admin, of the silo "main".
    pub admin: Client,
    /// The way to the database, if it was asked for.
    pub database_link: Option<Link>,
    /// The database.
    pub database: Database,
    /// Where all of it keeps its files.
    pub dir: tempfile::TempDir,
}

impl Deref for TestNexus {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.admin
    }
}

/// A test that fails leaves the logs behind, and says where.
impl Drop for TestNexus {
    #[expect(clippy::print_stderr, reason = "the test's output shows it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("its logs are kept in {}", self.dir.path().display());
        }
    }
}

impl TestNexus {
    /// One Nexus and two sleds of 8 vCPUs and 16 GiB, with a project "demo".
    pub async fn start() -> TestNexus {
        TestNexus::with(Setup::default()).await
    }

    /// As `setup` says, with a project "demo", and every sled registered.
    pub async fn with(setup: Setup) -> TestNexus {
        let database = Database::create().await;
        let dir = tempfile::tempdir().unwrap();
        let mut url = database.url.clone();
        let mut database_link = None;
        if setup.database_link {
            let link = Link::to(database.address().parse().unwrap()).await;
            url = database.url_by_way_of(link.address());
            database_link = Some(link);
        }
        let process =
            NexusProcess::start(dir.path(), &url, &setup.tuning).await;
        let mut others = Vec::new();
        for n in 0..setup.other_nexuses {
            let dir = dir.path().join(format!("other-nexus-{n}"));
            std::fs::create_dir(&dir).unwrap();
            others.push(NexusProcess::start(&dir, &url, &setup.tuning).await);
        }
        let token = process.bootstrap("main", "admin", true).await;
        let admin = Client::new(process.external(), &token);
        let all = std::iter::once(&process).chain(&others);
        let nexuses: Vec<_> = all.map(NexusProcess::internal).collect();
        let mut agents = Vec::new();
        for n in 0..setup.sleds {
            let (dir, settings) = (dir.path(), &setup.agent);
            agents.push(Agent::start(dir, n, &nexuses, None, settings).await);
        }
        let nexus = TestNexus {
            process,
            others,
            agents,
            admin,
            database_link,
            database,
            dir,
        };
        nexus.sleds_registered(setup.sleds).await;
        nexus
            .post("/v1/projects", json!({ "name": PROJECT, "description": "" }))
            .await
            .expect(201);
        nexus
    }

    /// Starts one more sled and waits until it is registered.
    pub async fn add_sled(&mut self, settings: &AgentSettings) -> &Agent {
        let n = self.agents.len();
        let agent = self.process.agent(n, settings).await;
        self.agents.push(agent);
        self.sleds_registered(n + 1).await;
        &self.agents[n]
    }

    async fn sleds_registered(&self, n: usize) {
        eventually("all sleds are registered", async || {
            let sleds = self.get("/v1/system/hardware/sleds").await.expect(200);
            (sleds["items"].as_array()?.len() >= n).then_some(())
        })
        .await;
    }

    /// The admin, at the `n`th of the other Nexuses.
    pub fn at_other(&self, n: usize) -> Client {
        self.admin.at(self.others[n].external())
    }

    /// Kill -9 of the Nexus.
    pub async fn kill_nexus(&mut self) {
        self.process.child.kill().await;
    }

    /// A new Nexus process, where the old one was.
    pub async fn restart_nexus(&mut self) {
        self.process.restart().await;
    }

    /// A client of another silo, which may not see what is the fleet's.
    pub async fn other_silo(&self, silo: &str) -> Client {
        let token = self.process.bootstrap(silo, "user", false).await;
        Client::new(self.process.external(), &token)
    }

    /// Makes an instance as [`Client::instance`] has it, changed by `change`,
    /// and waits until it runs; its id, and its VMM's.
    pub async fn running(&self, name: &str, change: Value) -> (String, String) {
        let mut body = Client::instance(name, true);
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let id = self.create_as(body).await;
        self.wait(&id, is("running")).await;
        let vmm = self.vmm_of(&id).await;
        (id, vmm)
    }

    /// Waits until what the system had to do about the instance is done: nobody
    /// means to look at it soon. (What has failed for good is looked at every
    /// few minutes all the same.)
    pub async fn settled(&self, instance: &str) {
        let settled = format!(
            "SELECT count(*) FROM instance \
             WHERE id = '{instance}' AND (reconcile_at IS NULL \
                 OR reconcile_at > now() + INTERVAL '2 minutes')"
        );
        eventually("the instance is settled", async || {
            (self.database.count(&settled) == 1).then_some(())
        })
        .await;
    }

    /// What the system means to do about the instance later is due now.
    pub fn make_due(&self, instance: &str) {
        self.sql(&format!(
            "UPDATE instance SET reconcile_at = now(), next_retry_at = \
             CASE WHEN next_retry_at IS NULL THEN NULL ELSE now() END \
             WHERE id = '{instance}'"
        ));
    }

    /// Changes what the database holds, behind the product's back.
    pub fn sql(&self, sql: &str) {
        self.database.try_sql(sql).unwrap();
    }

    /// The sled that runs this VMM.
    pub async fn agent_of(&self, vmm: &str) -> &Agent {
        for agent in &self.agents {
            if agent.vmms().await.iter().any(|v| v["vmm_id"] == vmm) {
                return agent;
            }
        }
        panic!("no sled has VMM {vmm}");
    }

    /// The VMMs of an instance that sleds know and that have not ended, each
    /// as its sled reports it.
    pub async fn live_vmms(&self, instance: &str) -> Vec<Value> {
        let mut live = Vec::new();
        for agent in self.agents.iter().filter(|a| a.is_up()) {
            live.extend(agent.vmms().await.into_iter().filter(|v| {
                v["instance_id"] == instance
                    && v["state"] != "failed"
                    && v["state"] != "destroyed"
            }));
        }
        live
    }

    /// The instance's one VMM that has not ended, once a sled has it.
    pub async fn wait_for_vmm(&self, instance: &str) -> String {
        eventually("a sled has a VMM of the instance", async || {
            let live = self.live_vmms(instance).await;
            Some(live.first()?["vmm_id"].as_str()?.to_string())
        })
        .await;
        self.vmm_of(instance).await
    }

    /// Waits until the sled that has this VMM says that it is in `state`.
    pub async fn vmm_is(&self, vmm: &str, state: &str) {
        eventually("the VMM is in the state", async || {
            for agent in self.agents.iter().filter(|a| a.is_up()) {
                let vmms = agent.vmms().await;
                let it = vmms.iter().find(|v| v["vmm_id"] == vmm);
                if it.is_some_and(|v| v["state"] == state) {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    /// The VMM that runs the instance; there must be exactly one.
    pub async fn vmm_of(&self, instance: &str) -> String {
        let live = self.live_vmms(instance).await;
        assert_eq!(live.len(), 1, "VMMs of {instance}: {live:?}");
        live[0]["vmm_id"].as_str().unwrap().to_string()
    }
}

/// Is an instance's view in this `run_state`?
pub fn is(run_state: &'static str) -> impl Fn(&Value) -> bool {
    move |view| view["run_state"] == run_state
}
