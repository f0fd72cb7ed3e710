//! A sled, as a process: the real agent, over simulated guests that the test
//! can hold, step and break.

use crate::client::{Client, http};
use crate::nexus_process::NexusProcess;
use crate::process::Child;
use crate::wait::eventually;
use crate::{pki, ports};
use db_model::SledCpu;
use fleet_pki::{Credentials, Peer};
use serde_json::{Value, json};
use sled_agent_client::Timeouts;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a sled has.
#[derive(Clone, Copy, Debug)]
pub struct AgentSettings {
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
    /// What CPU it says it has, whatever the test runs on.
    pub cpu: SledCpu,
    /// Whether its guests are real ones.
    pub real: bool,
    /// After how many seconds without Nexus it stops its guests (0: never), if
    /// not after as many as in production, which no test waits for.
    pub fence_after_secs: Option<u32>,
}

impl AgentSettings {
    /// So many vCPUs and so much memory, of a CPU that is not known.
    pub const fn sized(vcpus: u32, memory_gib: u32) -> AgentSettings {
        AgentSettings {
            vcpus,
            memory_gib,
            cpu: SledCpu::Unknown,
            real: false,
            fence_after_secs: None,
        }
    }

    /// The same, and it stops its guests after so long without Nexus.
    pub const fn fenced_after(self, secs: u32) -> AgentSettings {
        AgentSettings { fence_after_secs: Some(secs), ..self }
    }
}

impl Default for AgentSettings {
    fn default() -> AgentSettings {
        AgentSettings::sized(8, 16)
    }
}

/// A sled.
#[derive(Debug)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// The process.
    pub child: Child,
    args: Vec<String>,
    place: Place,
    dir: PathBuf,
    address: SocketAddr,
    control: String,
    http: reqwest::Client,
    /// Its API.
    nexus: Client,
}

/// A host's place in the fleet.
#[derive(Clone, Debug)]
struct Place {
    dir: PathBuf,
    nexus: Vec<SocketAddr>,
    advertise: Option<SocketAddr>,
    settings: AgentSettings,
}

impl Agent {
    /// The `n`th sled in `dir`, a member of the fleet already. It tells these
    /// Nexuses of itself: that it is found at `advertise`, or else where it
    /// listens.
    pub async fn start(
        dir: &Path,
        n: usize,
        nexus: &[SocketAddr],
        advertise: Option<SocketAddr>,
        settings: &AgentSettings,
    ) -> Agent {
        pki::give_to_sled(&dir.join(format!("sled-{n}")));
        Agent::start_as(dir, n, nexus, advertise, settings, &[]).await
    }

    /// The `n`th sled of this Nexus, which is no member of the fleet, and joins
    /// it by this token.
    pub async fn join(nexus: &NexusProcess, n: usize, token: &str) -> Agent {
        let (dir, settings) = (nexus.dir(), AgentSettings::default());
        let more = pki::joining(dir, nexus.join(), token);
        let nexuses = [nexus.internal()];
        Agent::start_as(dir, n, &nexuses, None, &settings, &more).await
    }

    async fn start_as(
        dir: &Path,
        n: usize,
        nexus: &[SocketAddr],
        advertise: Option<SocketAddr>,
        settings: &AgentSettings,
        more: &[String],
    ) -> Agent {
        let data = dir.join(format!("sled-{n}"));
        let path = |p: &Path| p.to_str().unwrap().to_string();
        let store = dir.join("disk-store");
        std::fs::create_dir_all(&store).unwrap();
        let mut args: Vec<String> = [
            "--data-dir".to_string(),
            path(&data),
            "--disk-store".to_string(),
            path(&store),
            "--vcpus".to_string(),
            settings.vcpus.to_string(),
            "--memory-gib".to_string(),
            settings.memory_gib.to_string(),
            "--storage-gib".to_string(),
            "100".to_string(),
            "--cpu".to_string(),
            settings.cpu.to_string(),
            "--serial".to_string(),
            format!("test-{n}"),
            "--boot-ms".to_string(),
            "5".to_string(),
            "--stop-ms".to_string(),
            "5".to_string(),
        ]
        .into();
        if settings.real {
            // More than one test has the host to itself.
            let real = ["--hypervisor", "qemu", "--overcommit"];
            args.extend(real.map(str::to_string));
        }
        if let Some(secs) = settings.fence_after_secs {
            args.extend(["--fence-after-secs".to_string(), secs.to_string()]);
        }
        for nexus in nexus {
            args.extend(["--nexus".to_string(), format!("https://{nexus}")]);
        }
        if let Some(address) = advertise {
            args.extend(["--advertise".to_string(), address.to_string()]);
        }
        args.extend_from_slice(more);
        let (address, control) = (ports::lasting(), ports::lasting());
        let control = control.to_string();
        let (child, said) =
            launch(&data, &args, &address.to_string(), &control).await;
        let text = |key: &str| said[key].as_str().unwrap().to_string();
        let place = Place {
            dir: dir.to_path_buf(),
            nexus: nexus.to_vec(),
            advertise,
            settings: *settings,
        };
        let id = text("sled_id");
        let nexus = Client::member(
            address,
            &pki::credentials(Peer::Nexus),
            Peer::Sled(id.parse().unwrap()),
            &pki::sled_secret(&id),
        );
        Agent {
            id,
            child,
            args,
            place,
            address,
            control,
            dir: data,
            http: http(),
            nexus,
        }
    }

    /// Where it keeps what must outlive it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kill -9. Its guests go on.
    pub async fn kill(&mut self) {
        self.child.kill().await;
    }

    /// Starts it again, where it was, and waits until it has found its VMMs:
    /// who lets go of a guest that it has not found lets go of nothing.
    pub async fn restart(&mut self) {
        pki::give_to_sled(&self.dir);
        let address = self.address.to_string();
        let (child, _) =
            launch(&self.dir, &self.args, &address, &self.control).await;
        self.child = child;
        self.vmms().await;
    }

    /// The host keeps what a VMM's guest printed no more, as one that has run
    /// many since.
    pub fn lose_console(&self, vmm: &str) {
        let consoles = self.dir.join("consoles");
        std::fs::remove_file(consoles.join(format!("{vmm}.ring"))).unwrap();
    }

    /// The host loses the tombstone of a VMM, as one with a broken disk may.
    pub fn lose_tombstone(&self, vmm: &str) {
        let vmms =
            rusqlite::Connection::open(self.dir.join("vmms.db")).unwrap();
        vmms.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let sql = "DELETE FROM tombstone WHERE id = ?1";
        assert_eq!(vmms.execute(sql, [vmm]).unwrap(), 1);
    }

    /// The host is lost, with its guests and all that it kept.
    pub async fn lose_host(&mut self) {
        self.kill().await;
        std::fs::remove_dir_all(&self.dir).unwrap();
    }

    /// The `n`th sled, of another id, takes its place.
    pub async fn replace(&mut self, n: usize) {
        let Place { dir, nexus, advertise, settings } = self.place.clone();
        *self = Agent::start(&dir, n, &nexus, advertise, &settings).await;
    }

    /// Its host is given another CPU: it says so from its next start on.
    pub fn change_cpu(&mut self, cpu: SledCpu) {
        let option = self.args.iter().position(|arg| arg == "--cpu").unwrap();
        self.args[option + 1] = cpu.to_string();
        self.place.settings.cpu = cpu;
    }

    /// After how long without Nexus it stops its guests, from its next start
    /// on. It must have been told before.
    pub fn fence_after(&mut self, secs: u32) {
        let is_it = |arg: &String| arg == "--fence-after-secs";
        let option = self.args.iter().position(is_it).unwrap();
        self.args[option + 1] = secs.to_string();
        self.place.settings.fence_after_secs = Some(secs);
    }

    /// Starts it again, where it was, and keeps it from finding its VMMs: it
    /// answers 503 to everything until `hold({"recovery": false})`.
    pub async fn restart_recovering(&mut self) {
        let address = self.address.to_string();
        let mut args = self.args.clone();
        args.push("--hold-recovery".to_string());
        let (child, _) =
            launch(&self.dir, &args, &address, &self.control).await;
        self.child = child;
    }

    /// Its API, for tests that ask what else Nexus asks.
    pub fn api(&self) -> Client {
        self.asked_by(&pki::credentials(Peer::Nexus))
    }

    /// Its API, for who shows these, and its secret.
    pub fn asked_by(&self, own: &Credentials) -> Client {
        let secret = pki::sled_secret(&self.id);
        Client::member(self.address, own, self.peer(), &secret)
    }

    /// Its API, as Nexus's own programs ask.
    pub fn client(&self, timeouts: Timeouts) -> sled_agent_client::Client {
        let id = self.id.parse().unwrap();
        sled_agent_client::Client::new(
            id,
            self.address,
            pki::fleet_secret().of_sled(id),
            &pki::credentials(Peer::Nexus),
            timeouts,
        )
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::Sled(self.id.parse().unwrap())
    }

    /// How often this operation was called since the agent started, calls with
    /// a fault too.
    pub async fn calls(&self, operation: &str) -> u64 {
        self.counters().await["api"][operation].as_u64().unwrap_or(0)
    }

    /// Waits until this operation was called `times` more often than now.
    pub async fn called(&self, operation: &str, times: u64) {
        let enough = self.calls(operation).await + times;
        eventually("the agent is called", async || {
            (self.calls(operation).await >= enough).then_some(())
        })
        .await;
    }

    /// How guests behave that begin something from now on: `boot_ms`,
    /// `stop_ms`, `grace_ms`, `failure_share`.
    pub async fn set(&self, settings: Value) {
        self.control(reqwest::Method::PUT, "/settings", Some(settings)).await;
    }

    /// Where Nexus finds it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Is its process there?
    pub fn is_up(&self) -> bool {
        self.child.is_up()
    }

    /// All its VMMs, as it reports them.
    pub async fn vmms(&self) -> Vec<Value> {
        let list = eventually("the agent lists its VMMs", async || {
            let asked =
                self.nexus.try_request(reqwest::Method::GET, "/vmms", None);
            let answer = asked.await.ok()?;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        list["vmms"].as_array().unwrap().clone()
    }

    /// A VMM that is registered there, as the agent keeps it on disk.
    pub fn kept(&self, vmm: &str) -> Value {
        let vmms = crate::guests::kept(&self.dir.join("vmms.db"), "vmm");
        vmms.into_iter().find(|(id, _)| id == vmm).unwrap().1
    }

    /// While held, guests neither boot nor stop by themselves.
    pub async fn hold(&self, what: Value) {
        self.control(reqwest::Method::PUT, "/hold", Some(what)).await;
    }

    /// The next `count` calls of `operation` (`register`, `unregister`,
    /// `state`, `get`, `list`, `console`, `console_stream`, `any`) end in `effect`.
    pub async fn fault(&self, operation: &str, count: u32, effect: Value) {
        let fault = json!({
            "operation": operation,
            "count": count,
            "effect": effect,
        });
        self.control(reqwest::Method::POST, "/faults", Some(fault)).await;
    }

    /// No more faults.
    pub async fn clear_faults(&self) {
        self.control(reqwest::Method::DELETE, "/faults", None).await;
    }

    /// Something happens to a guest: `booted`, `halted`, `shutdown`, `panic`,
    /// `hypervisor_died`, `forget`, or `{"boot_failed": {"message": …}}`.
    pub async fn guest(&self, vmm: &str, event: impl Into<Value>) {
        let path = format!("/vmms/{vmm}/guest");
        let event = json!({ "event": event.into() });
        self.control(reqwest::Method::POST, &path, Some(event)).await;
    }

    /// As [`Agent::guest`], of a guest that may be in no state to: says whether
    /// it did so.
    pub async fn try_guest(&self, vmm: &str, event: impl Into<Value>) -> bool {
        let url = format!("http://{}/vmms/{vmm}/guest", self.control);
        let event = json!({ "event": event.into() });
        let answer = self.http.post(url).json(&event).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// How often each operation was called, and what its hypervisor did.
    pub async fn counters(&self) -> Value {
        self.control(reqwest::Method::GET, "/counters", None).await
    }

    async fn control(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let mut request =
            self.http.request(method, format!("http://{}{path}", self.control));
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path} {body:?}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

async fn launch(
    data: &Path,
    args: &[String],
    listen: &str,
    control: &str,
) -> (Child, Value) {
    let addresses = data.join("address.json");
    let _ = std::fs::remove_file(&addresses);
    let mut args = args.to_vec();
    args.extend(["--listen".to_string(), listen.to_string()]);
    args.extend(["--test-control".to_string(), control.to_string()]);
    let child = Child::start("sled-agent", &args, &data.with_extension("log"));
    let said = eventually("the agent listens", async || {
        let text = std::fs::read_to_string(&addresses).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    })
    .await;
    (child, said)
}
