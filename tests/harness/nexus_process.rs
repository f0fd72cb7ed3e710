//! A Nexus, as a process.

use crate::agent::{Agent, AgentSettings};
use crate::process::{Child, program};
use crate::wait::eventually;
use crate::{pki, ports};
use fleet_pki::Peer;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A bearer token.
#[derive(Clone, Debug)]
pub struct Token(pub String);

/// Times and bounds, shortened so that tests need not wait for them. Written
/// to the configuration as they are.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "see nexus::config::Tuning")]
pub struct Tuning {
    pub lease_ms: u32,
    pub drain_ms: u32,
    pub boot_allowance_ms: u32,
    pub sled_timeout_ms: u32,
    pub sled_tries: u32,
    pub sled_retry_ms: u32,
    pub patience: u32,
    pub look_period_ms: u32,
    pub reconcile_poll_ms: u32,
    pub watch_period_ms: u32,
    pub heartbeat_period_ms: u32,
    pub fence_margin_ms: u32,
    pub console_streams: u32,
    pub console_look_ms: u32,
    pub placement_detail: bool,
    pub database_max_connections: u32,
    pub log_level: &'static str,
    /// The lines of `[limits]`.
    pub limits: String,
}

/// Tests ask faster than users do, and some of them read later.
const FAST: &str = "credential_per_second = 100000\n\
     credential_burst = 100000\n\
     source_per_second = 100000\n\
     source_burst = 100000\n\
     stuck_secs = 600";

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            // A Nexus that was killed is found dead after as long.
            lease_ms: 1_000,
            drain_ms: 1_000,
            // Long enough that only tests about it meet it.
            boot_allowance_ms: 60_000,
            sled_timeout_ms: 1_000,
            sled_tries: 3,
            sled_retry_ms: 50,
            patience: 3,
            look_period_ms: 100,
            reconcile_poll_ms: 200,
            watch_period_ms: 200,
            heartbeat_period_ms: 500,
            fence_margin_ms: 1_000,
            console_streams: 16,
            console_look_ms: 500,
            placement_detail: true,
            // Many run at once, at one server.
            database_max_connections: 16,
            log_level: "debug",
            limits: FAST.to_string(),
        }
    }
}

impl Tuning {
    /// As it is where nobody says otherwise, but for how much one client may
    /// ask.
    pub fn production() -> Tuning {
        let it = nexus::config::Tuning::default();
        Tuning {
            lease_ms: it.lease_ms,
            drain_ms: it.drain_ms,
            boot_allowance_ms: it.boot_allowance_ms,
            sled_timeout_ms: it.sled_timeout_ms,
            sled_tries: it.sled_tries,
            sled_retry_ms: it.sled_retry_ms,
            patience: it.patience,
            look_period_ms: it.look_period_ms,
            reconcile_poll_ms: it.reconcile_poll_ms,
            watch_period_ms: it.watch_period_ms,
            heartbeat_period_ms: it.heartbeat_period_ms,
            fence_margin_ms: it.fence_margin_ms,
            console_streams: it.console_streams,
            console_look_ms: it.console_look_ms,
            placement_detail: true,
            database_max_connections: 32,
            log_level: "info",
            limits: FAST.to_string(),
        }
    }

    fn toml(&self) -> String {
        format!(
            "[tuning]\n\
             lease_ms = {}\ndrain_ms = {}\nboot_allowance_ms = {}\n\
             sled_timeout_ms = {}\nsled_tries = {}\n\
             sled_retry_ms = {}\npatience = {}\nlook_period_ms = {}\n\
             reconcile_poll_ms = {}\nwatch_period_ms = {}\n\
             heartbeat_period_ms = {}\nfence_margin_ms = {}\n\
             console_streams = {}\nconsole_look_ms = {}\n\
             [limits]\n{}\n",
            self.lease_ms,
            self.drain_ms,
            self.boot_allowance_ms,
            self.sled_timeout_ms,
            self.sled_tries,
            self.sled_retry_ms,
            self.patience,
            self.look_period_ms,
            self.reconcile_poll_ms,
            self.watch_period_ms,
            self.heartbeat_period_ms,
            self.fence_margin_ms,
            self.console_streams,
            self.console_look_ms,
            self.limits,
        )
    }
}

/// The fleet's secret, of a test.
pub const SLED_SECRET: &str = "the-sleds-of-a-test";

/// A running Nexus, and what it takes to start it again.
#[derive(Debug)]
pub struct NexusProcess {
    /// The process.
    pub child: Child,
    places: Places,
    dir: PathBuf,
    database_url: String,
    tuning: Tuning,
}

/// Where its APIs are, and how they are served.
#[derive(Clone, Debug)]
struct Places {
    external: SocketAddr,
    internal: SocketAddr,
    join: SocketAddr,
    /// Lines of its configuration that say more.
    more: String,
}

impl Places {
    /// Places that are this one's for as long as it lives.
    fn lasting() -> Places {
        Places {
            external: ports::lasting(),
            internal: ports::lasting(),
            join: ports::lasting(),
            more: String::new(),
        }
    }

    /// Any that are free.
    fn any() -> Places {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        Places { external: any, internal: any, join: any, more: String::new() }
    }
}

impl NexusProcess {
    /// Starts one in `dir`, on ports of its own, and waits until it answers.
    pub async fn start(
        dir: &Path,
        database_url: &str,
        tuning: &Tuning,
    ) -> NexusProcess {
        NexusProcess::start_as(dir, database_url, tuning, "").await
    }

    /// The same, whose configuration says this, too.
    pub async fn start_as(
        dir: &Path,
        database_url: &str,
        tuning: &Tuning,
        more: &str,
    ) -> NexusProcess {
        pki::give_to_nexus(dir);
        let places = Places { more: more.to_string(), ..Places::lasting() };
        let child = launch(dir, database_url, tuning, &places).await;
        NexusProcess {
            child,
            places,
            dir: dir.to_path_buf(),
            database_url: database_url.to_string(),
            tuning: tuning.clone(),
        }
    }

    /// Starts one and does not wait for it, for tests that end it before it
    /// serves.
    pub fn begin(dir: &Path, database_url: &str) -> Child {
        pki::give_to_nexus(dir);
        spawn(dir, database_url, &Tuning::default(), &Places::any()).0
    }

    /// Starts one that is not to serve: how it exits (`None`: by a signal), and
    /// all that it says to operators.
    pub async fn refused(
        dir: &Path,
        database_url: &str,
    ) -> (Option<i32>, String) {
        let any = Places::any().external;
        NexusProcess::refused_at(dir, database_url, any, "").await
    }

    /// The same, that is to serve users there, and whose configuration says
    /// this, too.
    pub async fn refused_at(
        dir: &Path,
        database_url: &str,
        external: SocketAddr,
        more: &str,
    ) -> (Option<i32>, String) {
        pki::give_to_nexus(dir);
        let more = more.to_string();
        let places = Places { external, more, ..Places::any() };
        let tuning = Tuning::default();
        let (mut child, addresses) = spawn(dir, database_url, &tuning, &places);
        let code = tokio::time::timeout(crate::DEADLINE, child.exited())
            .await
            .expect("it neither serves nor exits");
        assert!(!addresses.exists(), "it served");
        (code, child.log())
    }

    /// Starts a new one where the old one was, which is not to serve: what it
    /// says to operators.
    pub async fn cannot_run(&self) -> String {
        let (mut child, _) =
            spawn(&self.dir, &self.database_url, &self.tuning, &self.places);
        let code = tokio::time::timeout(crate::DEADLINE, child.exited())
            .await
            .expect("it neither serves nor exits");
        assert_eq!(code, Some(1), "{}", child.log());
        child.log()
    }

    /// Starts a new one where the old one was, which must be dead.
    pub async fn restart(&mut self) {
        let child =
            launch(&self.dir, &self.database_url, &self.tuning, &self.places)
                .await;
        self.child = child;
    }

    /// Where users find it.
    pub fn external(&self) -> SocketAddr {
        self.places.external
    }

    /// Where sleds and operators find it.
    pub fn internal(&self) -> SocketAddr {
        self.places.internal
    }

    /// Where sleds join.
    pub fn join(&self) -> SocketAddr {
        self.places.join
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A client for the internal API, who is an operator, and who shows each
    /// sled's secret with what is about that sled.
    pub fn internal_client(&self) -> crate::Client {
        self.member(Peer::Operator, SLED_SECRET).for_any_sled()
    }

    /// A client for the internal API who shows these.
    pub fn member(&self, own: Peer, token: &str) -> crate::Client {
        let own = pki::credentials(own);
        crate::Client::member(self.internal(), &own, Peer::Nexus, token)
    }

    /// Whom `token` speaks for, at its front door.
    pub fn client(&self, token: &Token) -> crate::Client {
        crate::Client::new(self.external(), token)
    }

    /// Has the first admin made, with this password or, if it is empty, with one
    /// that is made up: what is printed.
    ///
    /// # Errors
    ///
    /// What it says if it refuses.
    pub async fn init(&self, password: &str) -> Result<Value, String> {
        let mut command = tokio::process::Command::new(program("nexus"));
        command.args(["init", "--config"]).arg(config_path(&self.dir));
        command.stdin(std::process::Stdio::null());
        if !password.is_empty() {
            let file = self.dir.join("password");
            std::fs::write(&file, password).unwrap();
            command.arg("--password-stdin");
            command.stdin(std::fs::File::open(file).unwrap());
        }
        let output = command.output().await.unwrap();
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }

    /// Makes a silo and a user, an admin of it, if they are not there; and a
    /// token.
    pub async fn bootstrap(
        &self,
        silo: &str,
        user: &str,
        fleet_admin: bool,
    ) -> Token {
        crate::users::token(&self.database_url, silo, user, fleet_admin).await
    }

    /// Where its configuration is.
    pub fn config_path(&self) -> PathBuf {
        config_path(&self.dir)
    }

    /// Starts the `n`th sled of this Nexus.
    pub async fn agent(&self, n: usize, settings: &AgentSettings) -> Agent {
        Agent::start(&self.dir, n, &[self.internal()], None, settings).await
    }
}

fn config_path(dir: &Path) -> PathBuf {
    dir.join("nexus.toml")
}

async fn launch(
    dir: &Path,
    database_url: &str,
    tuning: &Tuning,
    places: &Places,
) -> Child {
    let (child, addresses) = spawn(dir, database_url, tuning, places);
    eventually("Nexus serves", async || {
        let text = std::fs::read_to_string(&addresses).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    })
    .await;
    child
}

/// The process, and the file in which it says where it serves.
fn spawn(
    dir: &Path,
    database_url: &str,
    tuning: &Tuning,
    places: &Places,
) -> (Child, PathBuf) {
    let addresses = dir.join("nexus-addresses.json");
    let _ = std::fs::remove_file(&addresses);
    let mut config = format!(
        "database_url = {database_url:?}\n\
         database_max_connections = {}\n\
         external_address = \"{}\"\n\
         internal_address = \"{}\"\n\
         join_address = \"{}\"\n\
         sled_secret_file = {:?}\n\
         pki_dir = {:?}\n\
         address_file = {addresses:?}\n\
         log_level = {:?}\n\
         placement_detail = {}\n\
         {}\n{}",
        tuning.database_max_connections,
        places.external,
        places.internal,
        places.join,
        dir.join("sled-secret"),
        dir.join("pki"),
        tuning.log_level,
        tuning.placement_detail,
        places.more,
        tuning.toml(),
    );
    // A test that wants a console puts it there and starts Nexus again.
    let console = dir.join("console");
    if console.exists() {
        config.push_str(&format!("[console]\nstatic_dir = {console:?}\n"));
    }
    std::fs::write(config_path(dir), config).unwrap();
    let args = [
        "run".to_string(),
        "--config".to_string(),
        config_path(dir).to_str().unwrap().to_string(),
    ];
    (Child::start("nexus", &args, &dir.join("nexus.log")), addresses)
}
