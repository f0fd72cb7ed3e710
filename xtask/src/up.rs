//! `cargo xtask up`: starts what does not run yet, waits until all of it
//! answers, and stays to show what happens, unless it is told not to.

use crate::cluster::{Cluster, Durability};
use crate::failure::{Context, Failure, Result};
use crate::home::{Home, Lock};
use crate::interrupt::Interrupt;
use crate::manifest::Manifest;
use crate::pg_bin::PgBin;
use crate::process::{Launch, Process};
use crate::say::say;
use crate::settings::{Settings, Wanted};
use crate::stack::Stack;
use crate::{cargo, http, nexus, packages, screen, sled_agent};
use camino::Utf8PathBuf;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

/// Enough for ten Nexuses with their pools, and a person with psql.
const MAX_CONNECTIONS: u16 = 300;
/// A cold machine that builds something else at the same time needs its time.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
const READY_POLL: Duration = Duration::from_millis(200);
const WATCH_POLL: Duration = Duration::from_secs(1);
/// How long Ctrl-C waits for another `up` or `down` to be done.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Hypervisor {
    Simulated,
    Qemu,
}

#[derive(clap::Args)]
#[command(after_help = "\
What is not given stays as in the last `up` with the same DIR; a process that \
runs already keeps what it was started with. Ports, counted from BASE: Nexus i \
has 10*i (its API) and 10*i+1 (for sleds), PostgreSQL 2, sled-agent j 100+2*j.")]
pub(crate) struct Args {
    /// Return when the API answers, instead of staying until Ctrl-C
    #[arg(long)]
    detach: bool,
    /// Remove the data at the end; faster, and not safe against power loss
    #[arg(long)]
    ephemeral: bool,
    /// Where data, logs and up.json are [default: .nexus]
    #[arg(long)]
    dir: Option<Utf8PathBuf>,
    /// The first of the ports [default: 12220]
    #[arg(long, value_name = "BASE")]
    port: Option<u16>,
    /// How many Nexus processes [default: 1]
    #[arg(long, value_name = "N")]
    nexus: Option<u16>,
    /// How many sled-agents [default: 3]
    #[arg(long, value_name = "N")]
    sleds: Option<u16>,
    /// vCPUs of each sled [default: 32]
    #[arg(long, value_name = "N")]
    sled_vcpus: Option<u32>,
    /// Memory of each sled [default: 64]
    #[arg(long, value_name = "N")]
    sled_memory_gib: Option<u32>,
    /// What the sleds run instances with
    #[arg(long, value_enum, default_value = "simulated")]
    hypervisor: Hypervisor,
    /// Give each sled-agent its test control port, 101+2*j
    #[arg(long, hide = true)]
    test_control: bool,
}

impl Args {
    fn wanted(&self) -> Wanted {
        Wanted {
            port: self.port,
            nexus: self.nexus,
            sleds: self.sleds,
            sled_vcpus: self.sled_vcpus,
            sled_memory_gib: self.sled_memory_gib,
            ephemeral: self.ephemeral,
            test_control: self.test_control,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.hypervisor == Hypervisor::Qemu {
        return Err(Failure::not_built("--hypervisor qemu: not built yet."));
    }
    // Refused before anything is made, if it is to be refused.
    Settings::decide(None, &args.wanted())?;
    let interrupt = Interrupt::watch()?;
    let home = Home::open(args.dir.clone())?;
    let lock = home.lock()?;
    let stack = decide(&home, &args.wanted())?;

    let mut start = Start::new(&stack, &interrupt);
    let manifest = match start.all() {
        Ok(manifest) => manifest,
        Err(failure) => return Err(start.undo(failure)),
    };
    let begun = start.children;
    drop(lock);

    if begun.is_empty() {
        say(format_args!("Everything runs already in {}.", home.dir()));
    }
    screen::show(&stack, &manifest);
    if args.detach || begun.is_empty() {
        say(format_args!("`cargo xtask down{}` stops it.", dir_flag(&args)));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(foreground) = home.try_foreground()? else {
        say("Another `cargo xtask up` looks after it: stop it there.");
        return Ok(ExitCode::SUCCESS);
    };
    say("Ctrl-C stops all of it.");
    watch(&stack, begun, &interrupt, foreground)
}

fn dir_flag(args: &Args) -> String {
    args.dir.as_ref().map(|dir| format!(" --dir {dir}")).unwrap_or_default()
}

/// What is to run, if it does not contradict what runs.
fn decide(home: &Home, wanted: &Wanted) -> Result<Stack> {
    let saved = Settings::load(home)?;
    let settings = Settings::decide(saved.as_ref(), wanted)?;
    if let Some(saved) = &saved {
        let before = Stack::new(home, saved)?;
        if let Some(conflict) = settings.conflict_with_running(saved)
            && before.all().any(|process| process.find().is_some())
        {
            return Err(Failure::new(format!(
                "{conflict}; stop them first (`cargo xtask down`)."
            )));
        }
        if saved.ephemeral && !wanted.ephemeral {
            say("What is here was begun with --ephemeral and stays so.");
        }
    }
    Stack::new(home, &settings)
}

/// One start-up, with what it began, so that it can be taken back.
struct Start<'a> {
    stack: &'a Stack,
    interrupt: &'a Interrupt,
    children: Vec<(Process, Child)>,
    was_empty: bool,
}

impl<'a> Start<'a> {
    fn new(stack: &'a Stack, interrupt: &'a Interrupt) -> Start<'a> {
        let was_empty = stack.all().all(|p| p.find().is_none());
        Start { stack, interrupt, children: Vec::new(), was_empty }
    }

    /// Starts what is missing and waits until everything answers.
    fn all(&mut self) -> Result<Manifest> {
        let stack = self.stack;
        let home = &stack.home;
        let missing = stack.all().any(|process| process.find().is_none());
        let (cluster, token) = if missing {
            self.start_missing()?
        } else {
            let bin = packages::for_server()?;
            (self.cluster(bin)?, nexus::token(home, &cargo::bin_dir()?)?)
        };
        self.await_ready(&token)?;
        let manifest = stack.manifest(token, cluster.url()?)?;
        manifest.save(home)?;
        Ok(manifest)
    }

    fn start_missing(&mut self) -> Result<(Cluster, String)> {
        let Stack { home, settings, .. } = self.stack;
        let bin = packages::for_server()?;
        say("Building Nexus and the sled-agent");
        cargo::build(&["-p", "nexus", "-p", "sled-agent"], self.interrupt)?;
        let bin_dir = cargo::bin_dir()?;
        let ports = settings.ports()?;
        settings.save(home)?;
        make_logs(home)?;
        crate::secret::kept_in(&home.sled_secret())?;

        let cluster = self.cluster(bin)?;
        self.start_postgres(&cluster)?;
        let url = cluster.url()?;
        for i in 0..settings.nexus {
            nexus::write_config(home, ports, i, &url)?;
        }
        let token = nexus::token(home, &bin_dir)?;
        for i in 0..settings.nexus {
            let used = [ports.nexus_external(i), ports.nexus_internal(i)];
            self.ensure(nexus::launch(home, i, &bin_dir), &used)?;
        }
        for j in 0..settings.sleds {
            let launch = sled_agent::launch(home, settings, ports, j, &bin_dir);
            self.ensure(launch, &[ports.sled(j)])?;
        }
        Ok((cluster, token))
    }

    fn cluster(&self, bin: PgBin) -> Result<Cluster> {
        let Stack { home, settings, .. } = self.stack;
        let durability = match settings.ephemeral {
            true => Durability::Scratch,
            false => Durability::Kept,
        };
        Cluster::new(
            bin,
            home.dir(),
            settings.ports()?.postgres(),
            MAX_CONNECTIONS,
            durability,
            home.log("postgres"),
        )
    }

    fn start_postgres(&mut self, cluster: &Cluster) -> Result<()> {
        let process = cluster.process();
        if process.find().is_some() {
            return Ok(());
        }
        let port = self.stack.settings.ports()?.postgres();
        ensure_free(&process, port)?;
        if cluster.create()? {
            // A token of an earlier database is worth nothing in a new one.
            let _ = std::fs::remove_file(self.stack.home.token());
        }
        say(format_args!("Starting PostgreSQL on port {port}"));
        let child = cluster.start(self.interrupt)?;
        self.children.push((process, child));
        match self.children.last_mut() {
            Some((_, child)) => cluster.await_ready(child, self.interrupt),
            None => Ok(()),
        }
    }

    fn ensure(&mut self, launch: Launch, ports: &[u16]) -> Result<()> {
        if launch.process.find().is_some() {
            return Ok(());
        }
        if self.interrupt.seen().is_some() {
            return Err(Failure::interrupted());
        }
        for port in ports {
            ensure_free(&launch.process, *port)?;
        }
        let first = ports.first().copied().unwrap_or_default();
        say(format_args!("Starting {} on port {first}", launch.process.name));
        let child = launch.spawn()?;
        self.children.push((launch.process, child));
        Ok(())
    }

    /// Waits until every Nexus answers and every sled is registered.
    fn await_ready(&mut self, token: &str) -> Result<()> {
        let end = Instant::now() + READY_TIMEOUT;
        loop {
            let Err(lack) = lack(self.stack, token)? else { return Ok(()) };
            self.check_alive()?;
            self.check_not_paused()?;
            if Instant::now() > end {
                let Lack { process, what } = lack;
                return Err(Failure::new(format!(
                    "{what}. The last lines of {}:\n{}",
                    process.name,
                    process.last_words()
                )));
            }
            self.interrupt.sleep(READY_POLL)?;
        }
    }

    /// Somebody paused it on purpose, and waiting does not wake it.
    fn check_not_paused(&self) -> Result<()> {
        match self.stack.all().find(|process| process.is_paused()) {
            None => Ok(()),
            Some(process) => Err(Failure::new(format!(
                "Not everything answers, and {} is paused; `kill -CONT` its \
                 pid lets it go on.",
                process.name
            ))),
        }
    }

    fn check_alive(&mut self) -> Result<()> {
        for (process, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Failure::new(format!(
                    "{} died ({status}):\n{}",
                    process.name,
                    process.last_words()
                )));
            }
        }
        Ok(())
    }

    /// Stops what this start-up began; the rest is not ours to stop.
    fn undo(self, failure: Failure) -> Failure {
        let mut begun: Vec<Process> =
            self.children.into_iter().map(|(process, _)| process).collect();
        // Started first, needed longest.
        let mut result = Ok(());
        while let Some(last) = begun.pop() {
            let mut together = vec![last];
            while begun.last().is_some_and(|p| {
                together.iter().any(|t| t.program == p.program)
            }) {
                together.extend(begun.pop());
            }
            result = result.and(crate::process::stop(&together));
        }
        if self.was_empty && self.stack.settings.ephemeral {
            result = result.and(self.stack.remove_data(true));
        }
        match result {
            Ok(()) => failure,
            Err(second) => Failure {
                text: format!("{}\n\n{}", failure.text, second.text),
                code: failure.code,
            },
        }
    }
}

/// What is not ready yet, and in whose log to look.
struct Lack {
    process: Process,
    what: String,
}

/// # Errors
/// When waiting cannot help.
fn lack(stack: &Stack, token: &str) -> Result<std::result::Result<(), Lack>> {
    let ports = stack.settings.ports()?;
    for (i, process) in (0..).zip(&stack.nexus) {
        let ping = http::get(ports.nexus_external(i), "/v1/ping", None);
        if ping.is_none_or(|answer| answer.status != 200) {
            let what = format!("{} does not answer", process.name);
            return Ok(Err(Lack { process: process.clone(), what }));
        }
    }
    for (j, process) in (0..).zip(&stack.sled_agents) {
        if !http::listens(ports.sled(j)) {
            let what = format!("{} does not listen", process.name);
            return Ok(Err(Lack { process: process.clone(), what }));
        }
    }
    let Some(nexus) = stack.nexus.first() else { return Ok(Ok(())) };
    let path = "/v1/system/hardware/sleds?limit=1000";
    let answer = http::get(ports.nexus_external(0), path, Some(token));
    let what = match answer {
        Some(answer) if answer.status == 200 => {
            let sleds = count_items(&answer.body);
            if sleds >= usize::from(stack.settings.sleds) {
                return Ok(Ok(()));
            }
            format!("{sleds} of {} sleds registered", stack.settings.sleds)
        }
        Some(answer) if answer.status == 401 => {
            return Err(Failure::new(format!(
                "Nexus does not take the token in {} any more. Remove that \
                 file, and the next `up` makes a new one.",
                stack.home.token()
            )));
        }
        Some(answer) => {
            format!("Nexus answers {} to {path}", answer.status)
        }
        None => format!("Nexus does not answer {path}"),
    };
    Ok(Err(Lack { process: nexus.clone(), what }))
}

fn count_items(body: &str) -> usize {
    serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|page| Some(page.get("items")?.as_array()?.len()))
        .unwrap_or(0)
}

/// Says whose port is taken before its owner finds out in its own words.
fn ensure_free(process: &Process, port: u16) -> Result<()> {
    match TcpListener::bind(http::local(port)) {
        Ok(_) => Ok(()),
        Err(e) => Err(Failure::new(format!(
            "Port {port}, for {}, cannot be used ({e}); choose others with \
             --port.",
            process.name
        ))),
    }
}

fn make_logs(home: &Home) -> Result<()> {
    let logs = home.logs();
    DirBuilder::new()
        .recursive(true)
        // Logs tell what users do.
        .mode(0o700)
        .create(&logs)
        .context(|| format!("cannot create {logs}"))
}

/// Stays until a signal comes, then stops everything. What dies is reported
/// and not restarted: whoever killed it wants to see what follows.
fn watch(
    stack: &Stack,
    mut children: Vec<(Process, Child)>,
    interrupt: &Interrupt,
    _foreground: Lock,
) -> Result<ExitCode> {
    let mut running: BTreeMap<&str, bool> =
        stack.all().map(|p| (p.name.as_str(), true)).collect();
    while interrupt.sleep(WATCH_POLL).is_ok() {
        let mut ended: BTreeMap<String, String> = BTreeMap::new();
        for (process, child) in &mut children {
            if let Ok(Some(status)) = child.try_wait() {
                ended.insert(process.name.clone(), format!(" ({status})"));
            }
        }
        if !stack.home.manifest().exists() {
            say("Stopped by `cargo xtask down`.");
            return Ok(ExitCode::SUCCESS);
        }
        for process in stack.all() {
            let now = process.find().is_some();
            let before = running.insert(&process.name, now);
            match (before, now) {
                (Some(true), false) => say(format_args!(
                    "{} ended{}. `cargo xtask up` in another terminal starts \
                     it again. Its log: {}",
                    process.name,
                    ended.remove(&process.name).unwrap_or_default(),
                    process.log
                )),
                (Some(false), true) => {
                    say(format_args!("{} runs again", process.name));
                }
                _ => {}
            }
        }
    }
    say("");
    let _lock = lock_patiently(&stack.home)?;
    stack.stop()?;
    say("Stopped.");
    Ok(ExitCode::SUCCESS)
}

fn lock_patiently(home: &Home) -> Result<Lock> {
    let end = Instant::now() + LOCK_PATIENCE;
    loop {
        match home.lock() {
            Err(_) if Instant::now() < end => {
                std::thread::sleep(WATCH_POLL);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleds_are_counted_in_a_page() {
        assert_eq!(count_items(r#"{"items":[{},{}],"next_page":null}"#), 2);
        assert_eq!(count_items("nonsense"), 0);
    }
}
