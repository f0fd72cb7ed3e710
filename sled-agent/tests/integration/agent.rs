//! An agent's process, and its strings.

use crate::boot_sector;
use crate::eventually::eventually;
use crate::fleet;
use crate::guests::{self, Kind};
use crate::nexus::Nexus;
use camino::Utf8Path;
use fleet_pki::Peer;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use sled_agent::lease::{self, Left};
use sled_agent::{
    Addresses, Counts, Effect, Fault, FaultyOperation, GuestStep,
    GuestStepRequested, Hold, Settings,
};
use sled_agent_client::{
    Client, Error, RefusalCode, RequestedState, Timeouts, VmmDisk, VmmNetwork,
    VmmRegister, VmmReport, VmmState,
};
use std::process::{Child, Command, ExitStatus};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const GIB: u64 = 1 << 30;

/// An agent at work, on 8 vCPUs and 16 GiB. Killed when dropped.
pub(crate) struct Agent {
    pub(crate) kind: Kind,
    dir: TempDir,
    nexuses: Vec<String>,
    child: Child,
    pub(crate) addresses: Addresses,
    pub(crate) client: Client,
    http: reqwest::Client,
}

impl Agent {
    /// Starts an agent that nobody listens to: what it does for those who ask
    /// it does not depend on that.
    pub(crate) async fn start_without_nexus() -> Self {
        Self::start_with(vec!["https://127.0.0.1:1".to_string()], &[]).await
    }

    /// Starts an agent whose guests boot and stop at once.
    pub(crate) async fn start(nexus: &Nexus) -> Self {
        Self::start_with(vec![nexus.url()], &[]).await
    }

    pub(crate) async fn start_with(
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        Self::start_on(Kind::Simulated, nexuses, arguments).await
    }

    /// Starts an agent with this hypervisor, that nobody listens to.
    pub(crate) async fn of(kind: Kind) -> Self {
        let nobody = vec!["https://127.0.0.1:1".to_string()];
        Self::start_on(kind, nobody, &[]).await
    }

    pub(crate) async fn start_on(
        kind: Kind,
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_at(kind, dir, nexuses, arguments).await
    }

    /// Starts an agent on a directory. What is in `bin` there it takes for
    /// the programs that it runs.
    pub(crate) async fn start_in(
        dir: TempDir,
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        Self::start_at(Kind::Simulated, dir, nexuses, arguments).await
    }

    async fn start_at(
        kind: Kind,
        dir: TempDir,
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        fleet::join(dir.path());
        let mut child = spawn(kind, &dir, &nexuses, arguments);
        let addresses = addresses(&dir, &mut child).await;
        let client = client(&addresses);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let agent = Self { kind, dir, nexuses, child, addresses, client, http };
        agent.recovered().await;
        agent
    }

    /// Kills the agent where it stands, as `kill -9` would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Not there if it was killed early.
        let _ = std::fs::remove_file(self.dir.path().join("address.json"));
    }

    /// Asks the agent to end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let child = &mut self.child;
        eventually("the agent ends", async || child.try_wait().unwrap()).await
    }

    /// Starts an agent that cannot go on, after one that was killed.
    pub(crate) fn run_to_its_end(&self, arguments: &[&str]) -> ExitStatus {
        spawn(self.kind, &self.dir, &self.nexuses, arguments).wait().unwrap()
    }

    /// Starts the agent that comes after the one that was killed.
    pub(crate) async fn start_again(&mut self, arguments: &[&str]) {
        self.child = spawn(self.kind, &self.dir, &self.nexuses, arguments);
        self.addresses = addresses(&self.dir, &mut self.child).await;
        self.client = client(&self.addresses);
    }

    /// Kills the agent, starts another, and waits for it to recover.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.start_again(&[]).await;
        self.recovered().await;
    }

    pub(crate) async fn recovered(&self) {
        let client = &self.client;
        eventually("the agent recovers", async || client.vmm_list().await.ok())
            .await;
    }

    /// The agent's directory.
    pub(crate) fn dir(&self) -> &Utf8Path {
        Utf8Path::from_path(self.dir.path()).unwrap()
    }

    /// What real guests stand in, each in a directory of its own.
    pub(crate) fn guests(&self) -> std::path::PathBuf {
        self.dir.path().join("guests")
    }

    /// What simulated guests stand in, in a table `guest`.
    pub(crate) fn simulated(&self) -> rusqlite::Connection {
        self.open("simulated.db")
    }

    /// What the agent's VMMs stand in: in a table `vmm`.
    pub(crate) fn vmms(&self) -> rusqlite::Connection {
        self.open("vmms.db")
    }

    fn open(&self, file: &str) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.dir().join(file)).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        file
    }

    fn has_guests(&self) -> bool {
        match self.kind {
            Kind::Simulated => {
                let sql = "SELECT EXISTS (SELECT 1 FROM guest)";
                self.simulated().query_one(sql, [], |row| row.get(0)).unwrap()
            }
            Kind::Qemu => {
                std::fs::read_dir(self.guests()).unwrap().next().is_some()
            }
        }
    }

    /// Registers a VMM of 1 vCPU and 1 GiB of an instance of its own.
    pub(crate) async fn register(&self) -> Uuid {
        self.try_register(1, GIB).await.unwrap().vmm_id
    }

    /// Registers a VMM of that size, if the host takes it.
    pub(crate) async fn try_register(
        &self,
        vcpus: u32,
        memory_bytes: u64,
    ) -> Result<VmmReport, Error> {
        let mut spec = vmm(vcpus, memory_bytes);
        if self.kind == Kind::Qemu {
            let sector = boot_sector::obedient();
            spec.disks.push(guests::disk(self.dir(), &sector));
        }
        self.client.vmm_register(Uuid::new_v4(), &spec).await
    }

    /// Registers a real guest with these disks.
    pub(crate) async fn registered(&self, disks: Vec<VmmDisk>) -> Uuid {
        let vmm_id = Uuid::new_v4();
        let spec = VmmRegister { disks, ..vmm(1, GIB) };
        self.client.vmm_register(vmm_id, &spec).await.unwrap();
        vmm_id
    }

    /// The same, and has it run.
    pub(crate) async fn boot(&self, disks: Vec<VmmDisk>) -> Uuid {
        let vmm_id = self.registered(disks).await;
        self.order(vmm_id, RequestedState::Running).await;
        vmm_id
    }

    /// Registers a VMM and has it run.
    pub(crate) async fn run(&self) -> Uuid {
        let vmm_id = self.register().await;
        self.order(vmm_id, RequestedState::Running).await;
        self.until(vmm_id, VmmState::Running).await;
        self.until_ready(vmm_id, 1).await;
        vmm_id
    }

    /// Returns once no guest may run here any more.
    pub(crate) async fn until_its_lease_is_over(&self) {
        eventually("the lease is over", async || {
            (lease::left(self.dir()).unwrap() == Left::Over).then_some(())
        })
        .await;
    }

    /// Returns once guests may run here again, for a while.
    pub(crate) async fn until_it_has_a_lease(&self) {
        eventually("the lease holds", async || {
            let left = lease::left(self.dir()).unwrap();
            matches!(left, Left::Lasts(_)).then_some(())
        })
        .await;
    }

    /// Returns once the guest has printed that so often.
    pub(crate) async fn until_printed(
        &self,
        vmm_id: Uuid,
        text: &str,
        times: usize,
    ) {
        let what = format!("the guest prints {text} {times} times");
        eventually(&what, async || {
            let printed = guests::printed(self.dir(), vmm_id);
            (printed.matches(text).count() >= times).then_some(())
        })
        .await;
    }

    /// Returns once a guest that is real has been ready so often.
    pub(crate) async fn until_ready(&self, vmm_id: Uuid, times: usize) {
        if self.kind == Kind::Qemu {
            self.until_printed(vmm_id, boot_sector::READY, times).await;
        }
    }

    /// Whether no guest has left anything on the host but its console.
    pub(crate) fn nothing_is_left(&self) -> bool {
        !self.has_guests() && guests::wardens(self.dir()).is_empty()
    }

    pub(crate) async fn until_nothing_is_left(&self) {
        eventually("nothing is left", async || {
            self.nothing_is_left().then_some(())
        })
        .await;
    }

    /// Whether nothing runs for this VMM.
    pub(crate) fn has_no_process(&self, vmm_id: Uuid) -> bool {
        guests::qemus(vmm_id).is_empty()
            && guests::warden(self.dir(), vmm_id).is_empty()
    }

    /// Has the host lose all guests, as when it is switched off; the agent is
    /// dead.
    pub(crate) async fn lose_guests(&self) {
        guests::kill(&guests::wardens(self.dir()));
        eventually("all processes are gone", async || {
            guests::wardens(self.dir()).is_empty().then_some(())
        })
        .await;
        if self.kind == Kind::Simulated {
            self.simulated().execute("DELETE FROM guest", []).unwrap();
        }
    }

    /// Types at the console of a real guest.
    pub(crate) async fn type_in(&self, vmm_id: Uuid, text: &'static str) {
        let url = self.string(&format!("/vmms/{vmm_id}/typed"));
        let response = self.http.post(url).body(text).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{:?}", response.text().await);
    }

    /// Has the guest not listen when it is asked to shut down.
    pub(crate) async fn make_deaf(&self, vmm_id: Uuid) {
        match self.kind {
            Kind::Simulated => self.hold(false, true).await,
            Kind::Qemu => {
                // What it prints comes after what it did before.
                self.type_in(vmm_id, "dx").await;
                self.until_printed(vmm_id, "READYx", 1).await;
            }
        }
    }

    /// Has the guest shut itself down.
    pub(crate) async fn shut_itself_down(&self, vmm_id: Uuid) {
        match self.kind {
            Kind::Simulated => self.step(vmm_id, GuestStep::Shutdown).await,
            Kind::Qemu => self.type_in(vmm_id, "s").await,
        }
    }

    /// Has the guest's kernel panic.
    pub(crate) async fn panic(&self, vmm_id: Uuid) {
        match self.kind {
            Kind::Simulated => self.step(vmm_id, GuestStep::Panic).await,
            Kind::Qemu => self.type_in(vmm_id, "p").await,
        }
    }

    /// Has the guest's hypervisor die.
    pub(crate) async fn kill_hypervisor(&self, vmm_id: Uuid) {
        match self.kind {
            Kind::Simulated => {
                self.step(vmm_id, GuestStep::HypervisorDied).await;
            }
            Kind::Qemu => guests::kill(&guests::qemus(vmm_id)),
        }
    }

    pub(crate) async fn order(
        &self,
        vmm_id: Uuid,
        state: RequestedState,
    ) -> VmmReport {
        self.client.vmm_put_state(vmm_id, state).await.unwrap()
    }

    /// Returns once the VMM is in that state.
    pub(crate) async fn until(
        &self,
        vmm_id: Uuid,
        state: VmmState,
    ) -> VmmReport {
        eventually(&format!("the VMM is {state:?}"), async || {
            let report = self.client.vmm_view(vmm_id).await.unwrap();
            (report.state == state).then_some(report)
        })
        .await
    }

    pub(crate) async fn set(&self, settings: &Settings) {
        self.pull(reqwest::Method::PUT, "/settings", settings).await;
    }

    pub(crate) async fn hold(&self, boot: bool, stop: bool) {
        let hold = Hold { boot: Some(boot), stop: Some(stop), recovery: None };
        self.pull(reqwest::Method::PUT, "/hold", &hold).await;
    }

    pub(crate) async fn let_it_recover(&self) {
        let hold = Hold { recovery: Some(false), ..Hold::default() };
        self.pull(reqwest::Method::PUT, "/hold", &hold).await;
    }

    pub(crate) async fn step(&self, vmm_id: Uuid, event: GuestStep) {
        let path = format!("/vmms/{vmm_id}/guest");
        let step = GuestStepRequested { event };
        self.pull(reqwest::Method::POST, &path, &step).await;
    }

    /// Has the next request of this kind go wrong.
    pub(crate) async fn fault(
        &self,
        operation: FaultyOperation,
        effect: Effect,
    ) {
        let fault = Fault { operation, count: 1, effect };
        self.pull(reqwest::Method::POST, "/faults", &fault).await;
    }

    pub(crate) async fn clear_faults(&self) {
        self.pull(reqwest::Method::DELETE, "/faults", &()).await;
    }

    pub(crate) async fn counts(&self) -> Counts {
        let url = self.string("/counters");
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// How often the hypervisor was told this.
    pub(crate) async fn told(&self, call: &str) -> u64 {
        self.counts().await.hypervisor.get(call).copied().unwrap_or(0)
    }

    async fn pull<T: Serialize>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &T,
    ) {
        let request = self.http.request(method, self.string(path)).json(body);
        let response = request.send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{path}: {:?}", response.text().await);
    }

    fn string(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.test_control.unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.kind == Kind::Qemu {
            guests::end(&guests::wardens(self.dir()));
        }
    }
}

/// A VMM of that size, of an instance of its own.
pub(crate) fn vmm(vcpus: u32, memory_bytes: u64) -> VmmRegister {
    VmmRegister {
        instance_id: Uuid::new_v4(),
        hostname: "guest".to_string(),
        vcpus,
        memory_bytes,
        disks: Vec::new(),
        network: VmmNetwork::None,
        user_data: String::new(),
        ssh_public_keys: Vec::new(),
    }
}

/// The code with which a request was refused.
pub(crate) fn refusal<T: std::fmt::Debug>(
    answer: Result<T, Error>,
) -> RefusalCode {
    match answer {
        Err(Error::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

fn spawn(
    kind: Kind,
    dir: &TempDir,
    nexuses: &[String],
    arguments: &[&str],
) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sled-agent"));
    command
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--storage-gib", "1"])
        .args(["--listen", "127.0.0.1:0", "--test-control", "127.0.0.1:0"])
        .args(["--vcpus", "8", "--memory-gib", "16"]);
    if kind == Kind::Qemu {
        command.args(["--hypervisor", "qemu", "--overcommit"]);
    }
    for nexus in nexuses {
        command.args(["--nexus", nexus]);
    }
    let given = |name| arguments.contains(&name);
    for (name, default) in [("--boot-ms", "0"), ("--stop-ms", "0")] {
        if !given(name) {
            command.args([name, default]);
        }
    }
    let bin = dir.path().join("bin");
    if bin.exists() {
        command.env(
            "PATH",
            format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
        );
    }
    command.args(arguments).spawn().unwrap()
}

async fn addresses(dir: &TempDir, child: &mut Child) -> Addresses {
    let path = dir.path().join("address.json");
    eventually("the agent listens", async || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the agent ended with {status}");
        }
        let text = std::fs::read(&path).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    })
    .await
}

fn client(addresses: &Addresses) -> Client {
    Client::new(
        addresses.sled_id,
        addresses.address,
        fleet::secret(),
        &fleet::credentials(Peer::Nexus),
        Timeouts::default(),
    )
}
