//! The fleet: its processes, and the links between any two of them.

use harness::{
    Agent, AgentSettings, Client, Database, Link, NexusProcess, PROJECT,
    Tuning, eventually,
};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a user waits for an answer: less than a process is paused at most,
/// so that there are requests of which nobody knows what became.
const USERS_PATIENCE: Duration = Duration::from_secs(4);

/// Room for about as many instances as there are users, of which not all want
/// theirs to run: mostly there is enough, and at times there is not.
/// A sled that has stopped its guests counts as silent: with the margin it is
/// more than the 10 s that this takes, so that they are started elsewhere.
const SLED: AgentSettings = AgentSettings::sized(8, 16).fenced_after(7);

/// What of a run takes minutes in production takes seconds here.
pub(crate) fn tuning() -> Tuning {
    Tuning {
        placement_detail: true,
        lease_ms: 2_000,
        drain_ms: 2_000,
        boot_allowance_ms: 6_000,
        sled_timeout_ms: 1_000,
        sled_tries: 3,
        sled_retry_ms: 200,
        patience: 5,
        look_period_ms: 500,
        reconcile_poll_ms: 500,
        watch_period_ms: 1_000,
        heartbeat_period_ms: 500,
        fence_margin_ms: 3_000,
        console_streams: 16,
        console_look_ms: 500,
        ..Tuning::default()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    // Dropped in this order: processes before what they stand on.
    pub(crate) nexuses: Vec<NexusProcess>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) links: Vec<(String, Arc<Link>)>,
    /// The ways to the sleds, in their order.
    pub(crate) sled_links: Vec<Arc<Link>>,
    /// The same user, at each of the Nexuses, by way of a link.
    pub(crate) clients: Vec<Client>,
    pub(crate) database: Database,
    dir: PathBuf,
}

impl World {
    pub(crate) async fn start(
        nexuses: usize,
        sleds: usize,
        dir: PathBuf,
    ) -> World {
        let database = Database::create().await;
        let mut world = World {
            nexuses: Vec::new(),
            agents: Vec::new(),
            links: Vec::new(),
            sled_links: Vec::new(),
            clients: Vec::new(),
            database,
            dir,
        };
        for n in 0..nexuses {
            world.add_nexus(n).await;
        }
        for n in 0..sleds {
            world.add_sled(n).await;
        }
        let token = world.nexuses[0].bootstrap("main", "admin", true).await;
        for n in 0..nexuses {
            let address = world.nexuses[n].external();
            let link = world.link(format!("user-nexus-{n}"), address).await;
            let client = Client::new(link, &token);
            world.clients.push(client.patient_for(USERS_PATIENCE));
        }
        world.await_sleds(sleds).await;
        let body = json!({ "name": PROJECT, "description": "" });
        world.clients[0].post("/v1/projects", body).await.expect(201);
        world
    }

    async fn add_nexus(&mut self, n: usize) {
        let dir = self.dir.join(format!("nexus-{n}"));
        std::fs::create_dir(&dir).unwrap();
        let server = self.database.address().parse().unwrap();
        let way = self.link(format!("nexus-{n}-postgres"), server).await;
        let url = self.database.url_by_way_of(way);
        let nexus = NexusProcess::start(&dir, &url, &tuning()).await;
        self.nexuses.push(nexus);
    }

    async fn add_sled(&mut self, n: usize) {
        let here = Link::open().await;
        let mut ways = Vec::new();
        for m in 0..self.nexuses.len() {
            let name = format!("sled-{n}-nexus-{m}");
            let way = Link::to_nexus(self.nexuses[m].internal()).await;
            ways.push(self.keep(name, way));
        }
        let agent =
            Agent::start(&self.dir, n, &ways, Some(here.address()), &SLED)
                .await;
        here.lead_to(&agent);
        self.sled_links.push(Arc::new(here));
        self.agents.push(agent);
    }

    async fn link(&mut self, name: String, target: SocketAddr) -> SocketAddr {
        let link = Link::to(target).await;
        self.keep(name, link)
    }

    fn keep(&mut self, name: String, link: Link) -> SocketAddr {
        let address = link.address();
        self.links.push((name, Arc::new(link)));
        address
    }

    async fn await_sleds(&self, sleds: usize) {
        let path = "/v1/system/hardware/sleds";
        eventually("all sleds are registered", async || {
            let listed = self.clients[0].get(path).await.expect(200);
            (listed["items"].as_array()?.len() >= sleds).then_some(())
        })
        .await;
    }
}
