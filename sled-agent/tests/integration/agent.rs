//! An agent's process, and its strings.

use crate::eventually::eventually;
use crate::nexus::{Nexus, SECRET};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use sled_agent::{
    Addresses, Counts, Effect, Fault, FaultyOperation, GuestStep,
    GuestStepRequested, Hold, Settings,
};
use sled_agent_client::{
    Client, Error, RefusalCode, RequestedState, Secret, Timeouts, VmmNetwork,
    VmmRegister, VmmReport, VmmState,
};
use std::process::{Child, Command, ExitStatus};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const GIB: u64 = 1 << 30;

/// An agent at work, on 8 vCPUs and 16 GiB. Killed when dropped.
pub(crate) struct Agent {
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
        Self::start_with(vec!["http://127.0.0.1:1".to_string()], &[]).await
    }

    /// Starts an agent whose guests boot and stop at once.
    pub(crate) async fn start(nexus: &Nexus) -> Self {
        Self::start_with(vec![nexus.url()], &[]).await
    }

    pub(crate) async fn start_with(
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), nexuses, arguments).await
    }

    /// Starts an agent on a directory. What is in `bin` there it takes for
    /// the programs that it runs.
    pub(crate) async fn start_in(
        dir: TempDir,
        nexuses: Vec<String>,
        arguments: &[&str],
    ) -> Self {
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        let mut child = spawn(&dir, &nexuses, arguments);
        let addresses = addresses(&dir, &mut child).await;
        let client = client(&addresses);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let agent = Self { dir, nexuses, child, addresses, client, http };
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
        spawn(&self.dir, &self.nexuses, arguments).wait().unwrap()
    }

    /// Starts the agent that comes after the one that was killed.
    pub(crate) async fn start_again(&mut self, arguments: &[&str]) {
        self.child = spawn(&self.dir, &self.nexuses, arguments);
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

    /// What the simulated guests stand in, for a host to lose.
    pub(crate) fn guests(&self) -> std::path::PathBuf {
        self.dir.path().join("guests")
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
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
        let spec = vmm(vcpus, memory_bytes);
        self.client.vmm_register(Uuid::new_v4(), &spec).await
    }

    /// Registers a VMM and has it run.
    pub(crate) async fn run(&self) -> Uuid {
        let vmm_id = self.register().await;
        self.order(vmm_id, RequestedState::Running).await;
        self.until(vmm_id, VmmState::Running).await;
        vmm_id
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

fn spawn(dir: &TempDir, nexuses: &[String], arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sled-agent"));
    command
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--storage-gib", "1"])
        .arg("--secret-file")
        .arg(dir.path().join("secret"))
        .args(["--listen", "127.0.0.1:0", "--test-control", "127.0.0.1:0"])
        .args(["--vcpus", "8", "--memory-gib", "16"]);
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
        Secret::new(SECRET).unwrap(),
        Timeouts::default(),
    )
}
