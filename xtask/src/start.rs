//! One start-up: starts what does not run yet and waits until everything
//! answers. What it began it can take back.

use crate::cluster::{self, Cluster, Durability};
use crate::failure::{Context, Failure, Result};
use crate::home::Home;
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::manifest::Manifest;
use crate::pg_bin::PgBin;
use crate::process::{Launch, Process, Started};
use crate::say::say;
use crate::stack::Stack;
use crate::{cargo, http, nexus, ready, sled_agent};
use std::fs::DirBuilder;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

/// Enough for ten Nexuses with their pools, and a person with psql.
const MAX_CONNECTIONS: u16 = 400;
/// A cold machine that builds something else at the same time needs its time.
const READY_TIMEOUT: Duration = Duration::from_secs(180);
const READY_POLL: Duration = Duration::from_millis(200);

/// One start-up, with what it began, so that it can be taken back.
pub(crate) struct Start<'a> {
    stack: &'a Stack,
    pg_bin: PgBin,
    interrupt: &'a Interrupt,
    pub(crate) begun: Vec<Started>,
    was_empty: bool,
}

impl<'a> Start<'a> {
    pub(crate) fn new(
        stack: &'a Stack,
        pg_bin: PgBin,
        interrupt: &'a Interrupt,
    ) -> Start<'a> {
        let was_empty = stack.all().all(|p| p.find().is_none());
        Start { stack, pg_bin, interrupt, begun: Vec::new(), was_empty }
    }

    /// Starts what is missing and waits until everything answers.
    pub(crate) fn all(&mut self) -> Result<Manifest> {
        let stack = self.stack;
        let home = &stack.home;
        let missing = stack.all().any(|process| process.find().is_none());
        let token = match missing {
            true => self.start_missing()?,
            false => nexus::token(home, &cargo::bin_dir()?)?,
        };
        self.await_ready(&token)?;
        let port = stack.settings.ports()?.postgres();
        let url = cluster::url(&stack.cluster_root, port)?;
        let manifest = stack.manifest(token, url)?;
        manifest.save(home)?;
        Ok(manifest)
    }

    fn start_missing(&mut self) -> Result<String> {
        let Stack { home, settings, .. } = self.stack;
        say("Building Nexus, nexus-admin and the sled-agent");
        let packages = ["-p", "nexus", "-p", "nexus-admin", "-p", "sled-agent"];
        cargo::build(&packages, self.interrupt)?;
        let bin_dir = cargo::bin_dir()?;
        let ports = settings.ports()?;
        settings.save(home)?;
        make_logs(home)?;
        crate::secret::kept_in(&home.sled_secret())?;
        let store = home.disk_store();
        std::fs::create_dir_all(&store)
            .context(|| format!("cannot make {store}"))?;

        let cluster = self.cluster()?;
        self.start_postgres(&cluster)?;
        let url = cluster::url(&self.stack.cluster_root, ports.postgres())?;
        for i in 0..settings.nexus {
            nexus::write_config(home, ports, i, &url)?;
        }
        nexus::make_ca(home, &bin_dir)?;
        let token = nexus::token(home, &bin_dir)?;
        for i in 0..settings.nexus {
            let used = [
                ports.nexus_external(i),
                ports.nexus_internal(i),
                ports.nexus_join(i),
            ];
            self.ensure(nexus::launch(home, i, &bin_dir), &used)?;
        }
        for j in 0..settings.sleds {
            if sled_agent::must_join(home, j) {
                // Tokens are in a schema that Nexus brings up to date.
                self.await_nexus()?;
                sled_agent::give_token(home, j, &bin_dir)?;
            }
            let launch = sled_agent::launch(home, settings, ports, j, &bin_dir);
            let used = match settings.test_control {
                true => vec![ports.sled(j), ports.sled_test_control(j)],
                false => vec![ports.sled(j)],
            };
            self.ensure(launch, &used)?;
        }
        Ok(token)
    }

    fn cluster(&self) -> Result<Cluster> {
        let Stack { home, settings, .. } = self.stack;
        let durability = match settings.ephemeral {
            true => Durability::Scratch,
            false => Durability::Kept,
        };
        Cluster::new(
            self.pg_bin.clone(),
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
        self.begun.push(cluster.start(self.interrupt)?);
        match self.begun.last_mut() {
            Some(started) => cluster.await_ready(started, self.interrupt),
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
        self.begun.push(launch.spawn()?);
        Ok(())
    }

    /// Waits until the first Nexus answers.
    fn await_nexus(&mut self) -> Result<()> {
        let port = self.stack.settings.ports()?.nexus_external(0);
        let end = Instant::now() + READY_TIMEOUT;
        while http::get(port, "/v1/ping", None).is_none() {
            self.check_alive()?;
            if Instant::now() > end {
                let why = "Nexus 0 does not answer; see its log";
                return Err(Failure::new(why));
            }
            self.interrupt.sleep(READY_POLL)?;
        }
        Ok(())
    }

    /// Waits until every Nexus answers and every sled is registered.
    fn await_ready(&mut self, token: &str) -> Result<()> {
        let end = Instant::now() + READY_TIMEOUT;
        say("Waiting until Nexus and its sleds answer");
        loop {
            let Err(lack) = ready::lack(self.stack, token)? else {
                return Ok(());
            };
            self.check_alive()?;
            self.check_not_paused()?;
            if Instant::now() > end {
                return Err(self.too_late(&lack));
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

    fn too_late(&self, lack: &ready::Lack) -> Failure {
        let ready::Lack { process, what } = lack;
        let started =
            self.begun.iter().find(|s| s.process.name == process.name);
        let words = match started {
            Some(started) => started.last_words(),
            None => Log::whole(&process.log).last_words(),
        };
        Failure::new(format!(
            "{what}. The last lines of {}:\n{words}",
            process.name
        ))
    }

    fn check_alive(&mut self) -> Result<()> {
        for started in &mut self.begun {
            if let Some(status) = started.ended() {
                return Err(Failure::new(format!(
                    "{} died ({status}):\n{}",
                    started.process.name,
                    started.last_words()
                )));
            }
        }
        Ok(())
    }

    /// Stops what this start-up began; the rest is not ours to stop.
    pub(crate) fn undo(self, failure: Failure) -> Failure {
        let mut result = Ok(());
        for group in self.stack.in_stop_order() {
            let begun: Vec<Process> = group
                .iter()
                .filter(|p| self.begun.iter().any(|s| s.process.name == p.name))
                .cloned()
                .collect();
            result = result.and(crate::process::stop(&begun));
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
