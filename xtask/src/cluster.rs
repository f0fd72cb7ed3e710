//! A PostgreSQL cluster of our own: made on first use, never run as root,
//! reached over TCP on this machine with a password that only its files hold.

use crate::account::Account;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::log::Log;
use crate::pg_bin::PgBin;
use crate::process::{Launch, Process, Started};
use crate::say::say;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The superuser's name, and its database's.
const NAME: &str = "nexus";

/// PostgreSQL's "fast" shutdown: ends all sessions and writes a checkpoint.
/// Then "immediate", which is safe too, and recovers at the next start.
const STOP: &[(Signal, Duration)] = &[
    (Signal::INT, Duration::from_secs(60)),
    (Signal::QUIT, Duration::from_secs(10)),
];

/// Recovery after a crash replays the log, which is bounded by its size.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
const READY_POLL: Duration = Duration::from_millis(50);

/// Backends notice the death of their postmaster at once unless they are stuck.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the data is worth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives a crash of the machine.
    Kept,
    /// Survives the death of any process, and is thrown away at the end.
    Processes,
    /// Thrown away at the end: no waiting for the disk.
    Scratch,
}

pub(crate) struct Cluster {
    bin: PgBin,
    root: Utf8PathBuf,
    /// The root is not in the directory that the cluster belongs to.
    elsewhere: bool,
    account: Option<Account>,
    port: u16,
    max_connections: u16,
    durability: Durability,
    log: Utf8PathBuf,
    /// Settings besides ours, and in place of them.
    more: Vec<(&'static str, String)>,
}

impl Cluster {
    /// A cluster that belongs to `dir`, which may be elsewhere (see [`Place`]).
    pub(crate) fn new(
        bin: PgBin,
        dir: &Utf8Path,
        port: u16,
        max_connections: u16,
        durability: Durability,
        log: Utf8PathBuf,
    ) -> Result<Cluster> {
        let Place { root, account } = Place::of(dir)?;
        let elsewhere = !root.starts_with(dir);
        Ok(Cluster {
            bin,
            root,
            elsewhere,
            account,
            port,
            max_connections,
            durability,
            log,
            more: Vec::new(),
        })
    }

    /// The same, that is also set so.
    pub(crate) fn set(self, more: Vec<(&'static str, String)>) -> Cluster {
        Cluster { more, ..self }
    }

    pub(crate) fn log(&self) -> &Utf8Path {
        &self.log
    }

    pub(crate) fn root(&self) -> &Utf8Path {
        &self.root
    }

    pub(crate) fn process(&self) -> Process {
        process(&self.root, self.account.clone(), self.log.clone())
    }

    fn data(&self) -> Utf8PathBuf {
        self.root.join("data")
    }

    /// Where the server keeps its pid while it runs.
    pub(crate) fn pid_file(&self) -> Utf8PathBuf {
        self.data().join("postmaster.pid")
    }

    /// Makes the cluster, with a database in it, unless it is there. Says
    /// whether it did.
    ///
    /// *Idempotency:* it is built beside its place and moved there when it is
    /// whole, so a run that was cut short leaves nothing to trip over.
    pub(crate) fn create(&self) -> Result<bool> {
        if self.data().join("PG_VERSION").exists() {
            return self.check_version().map(|()| false);
        }
        say(format_args!(
            "Creating a PostgreSQL {} cluster in {}{}",
            self.bin.version,
            self.root,
            self.why_so()
        ));
        self.make_root()?;
        let password = self.root.join("password");
        crate::secret::kept_in(&password)?;
        if let Some(account) = &self.account {
            account.give(&password)?;
            account.give(&self.root)?;
        }
        let next = self.root.join("data.next");
        if next.exists() {
            std::fs::remove_dir_all(&next)
                .context(|| format!("cannot remove {next}"))?;
        }
        self.initdb(&next, &password)?;
        self.create_database(&next)?;
        std::fs::rename(&next, self.data())
            .context(|| format!("cannot rename {next}"))?;
        Ok(true)
    }

    fn why_so(&self) -> String {
        match &self.account {
            None => String::new(),
            Some(Account { name, .. }) if self.elsewhere => {
                format!(", since {name}, whom it runs as, cannot enter DIR")
            }
            Some(Account { name, .. }) => format!(", run as {name}"),
        }
    }

    /// Nobody else may have made it: its name can be guessed. It is ours until
    /// all that we write there is written.
    fn make_root(&self) -> Result<()> {
        let root = &self.root;
        match DirBuilder::new().mode(0o700).create(root) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let found = std::fs::symlink_metadata(root)
                    .context(|| format!("cannot look at {root}"))?;
                let us = rustix::process::geteuid().as_raw();
                let theirs =
                    self.account.as_ref().is_some_and(|a| a.owns(root));
                if theirs || (found.is_dir() && found.uid() == us) {
                    return Ok(());
                }
                Err(Failure::new(format!(
                    "{root} is there already and is not ours; move it away."
                )))
            }
            result => result.context(|| format!("cannot create {root}")),
        }
    }

    fn initdb(&self, data: &Utf8Path, password: &Utf8Path) -> Result<()> {
        let mut initdb = Command::new(self.bin.initdb());
        initdb.arg("--pgdata").arg(data);
        initdb.arg("--pwfile").arg(password);
        initdb.args(["--username", NAME, "--auth", "scram-sha-256"]);
        initdb.args(["--encoding", "UTF8", "--locale", "C"]);
        initdb.args(["--data-checksums", "--no-instructions"]);
        if self.durability != Durability::Kept {
            initdb.arg("--no-sync");
        }
        self.run_step("initdb", initdb, "")
    }

    /// In single-user mode: no server, no port and no client are needed.
    fn create_database(&self, data: &Utf8Path) -> Result<()> {
        let mut postgres = Command::new(self.bin.postgres());
        postgres.arg("--single").arg("-D").arg(data);
        postgres.args(["-c", "exit_on_error=true", "template1"]);
        let sql = format!("CREATE DATABASE {NAME};\n");
        self.run_step("postgres --single", postgres, &sql)
    }

    fn run_step(&self, name: &str, mut c: Command, input: &str) -> Result<()> {
        c.current_dir("/").stdin(Stdio::piped());
        let log = Log::attach(&self.log, &mut c)?;
        if let Some(account) = &self.account {
            account.apply(&mut c);
        }
        let mut child = c.spawn().context(|| format!("cannot run {name}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it is gone already, its exit status says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status =
            child.wait().context(|| format!("cannot wait for {name}"))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{name} failed ({status}):\n{}",
            log.last_words()
        )))
    }

    fn check_version(&self) -> Result<()> {
        let path = self.data().join("PG_VERSION");
        let made_by = std::fs::read_to_string(&path)
            .context(|| format!("cannot read {path}"))?;
        if made_by.trim() == self.bin.version.to_string() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "The data in {} was made by PostgreSQL {}, and {} holds version \
             {}. Point {} to the right one, or upgrade with pg_upgrade.",
            self.root,
            made_by.trim(),
            self.bin.dir(),
            self.bin.version,
            crate::pg_bin::OVERRIDE,
        )))
    }

    /// Starts the server itself, not a helper: the child is the postmaster.
    pub(crate) fn start(&self, interrupt: &Interrupt) -> Result<Started> {
        self.clear_stale_pid_file(interrupt)?;
        let mut args = vec![String::from("-D"), self.data().into()];
        for (name, value) in self.settings() {
            args.extend([String::from("-c"), format!("{name}={value}")]);
        }
        let program = self.bin.postgres();
        Launch { process: self.process(), program, args }.spawn()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("listen_addresses", String::from("127.0.0.1")),
            ("port", self.port.to_string()),
            // A socket's path has a short limit, and nobody needs one.
            ("unix_socket_directories", String::new()),
            ("max_connections", self.max_connections.to_string()),
            ("shared_buffers", String::from("256MB")),
            // One server, nobody to replicate to.
            ("wal_level", String::from("minimal")),
            ("max_wal_senders", String::from("0")),
            ("timezone", String::from("UTC")),
            ("log_timezone", String::from("UTC")),
            ("log_line_prefix", String::from("%m [%p] ")),
        ];
        // What is with the system's kernel outlives every process.
        let off: &[&str] = match self.durability {
            Durability::Kept => &[],
            Durability::Processes => &["fsync", "full_page_writes"],
            Durability::Scratch => {
                &["fsync", "full_page_writes", "synchronous_commit"]
            }
        };
        settings.extend(off.iter().map(|name| (*name, String::from("off"))));
        // Of two the later one counts.
        settings.extend(self.more.iter().cloned());
        settings
    }

    /// After kill -9 the pid file stays, and its pid may be somebody else's by
    /// now, which PostgreSQL takes for a running server. The file also guards
    /// against backends that outlived their postmaster, so they come first.
    fn clear_stale_pid_file(&self, interrupt: &Interrupt) -> Result<()> {
        let file = self.pid_file();
        if !file.exists() {
            return Ok(());
        }
        let end = Instant::now() + ORPHAN_TIMEOUT;
        while !crate::process::working_in(&self.data()).is_empty() {
            if Instant::now() > end {
                return Err(Failure::new(format!(
                    "Processes of a PostgreSQL that was killed still work in \
                     {}: {:?}. Stop them first.",
                    self.data(),
                    crate::process::working_in(&self.data())
                )));
            }
            interrupt.sleep(READY_POLL)?;
        }
        std::fs::remove_file(&file).context(|| format!("cannot remove {file}"))
    }

    /// Waits until it takes connections.
    pub(crate) fn await_ready(
        &self,
        started: &mut Started,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let end = Instant::now() + READY_TIMEOUT;
        let file = self.pid_file();
        loop {
            // A file that a predecessor left names another pid.
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if is_ready(&text, started.pid()) {
                return Ok(());
            }
            let ended = started.ended();
            let why = match ended {
                Some(status) => format!("PostgreSQL died ({status})"),
                None if Instant::now() > end => {
                    String::from("PostgreSQL does not get ready")
                }
                None => {
                    interrupt.sleep(READY_POLL)?;
                    continue;
                }
            };
            let words = started.last_words();
            return Err(Failure::new(format!("{why}:\n{words}")));
        }
    }
}

/// The process of the cluster with this root, for those who only stop it.
pub(crate) fn process(
    root: &Utf8Path,
    account: Option<Account>,
    log: Utf8PathBuf,
) -> Process {
    Process {
        name: String::from("PostgreSQL"),
        program: "postgres",
        marker: vec![String::from("-D"), root.join("data").into()],
        log,
        account,
        stop: STOP,
    }
}

/// Where and as whom to connect to the cluster with this root.
pub(crate) fn url(root: &Utf8Path, port: u16) -> Result<String> {
    let path = root.join("password");
    let password = std::fs::read_to_string(&path)
        .context(|| format!("cannot read {path}"))?;
    let password = password.trim();
    Ok(format!("postgresql://{NAME}:{password}@127.0.0.1:{port}/{NAME}"))
}

/// Where the cluster of a directory is and whom it runs as.
pub(crate) struct Place {
    pub(crate) root: Utf8PathBuf,
    pub(crate) account: Option<Account>,
}

impl Place {
    /// In the directory itself, unless the account that PostgreSQL runs as
    /// cannot get there (a home closed to others, say). What is there already
    /// stays in use as its owner, whatever has changed around it.
    pub(crate) fn of(dir: &Utf8Path) -> Result<Place> {
        let inside = dir.join("postgres");
        let name = format!("nexus-{:016x}-pg", fnv(dir));
        let outside = Utf8Path::new("/var/tmp").join(name);
        let accounts = Account::for_postgres()?;
        for root in [&inside, &outside] {
            if let Some(owner) = accounts.iter().find(|a| a.owns(root)) {
                let (root, account) = (root.clone(), Some(owner.clone()));
                return Ok(Place { root, account });
            }
        }
        let account = accounts.into_iter().next();
        let enters = account.as_ref().is_none_or(|a| a.can_enter(dir));
        let root = if enters { inside } else { outside };
        Ok(Place { root, account })
    }
}

/// FNV-1a, which is the same in every build, unlike the standard hasher.
fn fnv(dir: &Utf8Path) -> u64 {
    dir.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `postmaster.pid` has the pid in its first line and the state in its eighth.
fn is_ready(text: &str, pid: u32) -> bool {
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_said_of_this_very_process() {
        let text = "4711\n/d/data\n1700000000\n5432\n\n127.0.0.1\n \
                    123 456\nready   \n";
        assert!(is_ready(text, 4711));
        assert!(!is_ready(text, 4712));
        assert!(!is_ready(&text.replace("ready   ", "starting"), 4711));
        assert!(!is_ready("", 4711));
    }

    #[test]
    fn the_hash_of_a_directory_never_changes() {
        assert_eq!(fnv(Utf8Path::new("a")), 0xaf63_dc4c_8601_ec8c);
    }
}
