//! `cargo xtask test`: all tests, on a database of their own that is gone
//! afterwards.

use crate::cluster::{Cluster, Durability, Place};
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::say::say;
use crate::{cargo, cockroach, packages};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};

/// Where the tests look for a server on which they may create databases.
const URL_VARIABLE: &str = "NEXUS_TEST_DATABASE_URL";

/// Tests run in parallel, each with a pool of its own.
const MAX_CONNECTIONS: u16 = 500;

/// Directories of runs that were killed are known by this.
const PREFIX: &str = "nexus-test-";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Use the `cockroach` on the PATH instead of PostgreSQL
    #[arg(long)]
    cockroach: bool,
    /// Passed on to nextest (or to `cargo test` where nextest is missing)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        say(format_args!(
            "Using the database server that {URL_VARIABLE} names"
        ));
        packages::for_build()?;
        return run_tests(&url, &args.args, &interrupt);
    }
    let server = if args.cockroach {
        packages::for_build()?;
        Server::cockroach(&interrupt)?
    } else {
        Server::postgres(&interrupt)?
    };
    let result = run_tests(&server.url, &args.args, &interrupt);
    server.remove()?;
    result
}

fn run_tests(
    url: &str,
    args: &[String],
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    cargo::build(&["--workspace", "--bins"], interrupt)?;
    let mut tests = cargo::command();
    if has_nextest() {
        tests.args(["nextest", "run"]);
    } else {
        say("No cargo-nextest here; using cargo test");
        tests.arg("test");
    }
    if !args.iter().any(|arg| selects_packages(arg)) {
        tests.arg("--workspace");
    }
    tests.args(args).env(URL_VARIABLE, url);
    let status = cargo::run(&mut tests, interrupt)?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// `-p nexus` means that crate alone, as it does for cargo.
fn selects_packages(arg: &str) -> bool {
    let long = arg.split('=').next().unwrap_or(arg);
    ["--package", "--workspace", "--all"].contains(&long)
        || arg.starts_with("-p")
}

fn has_nextest() -> bool {
    cargo::command()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A database server in a directory that is removed with it.
struct Server {
    url: String,
    process: Process,
    dirs: Vec<Utf8PathBuf>,
    /// Says to later runs that this one is alive.
    _lock: File,
}

impl Server {
    fn postgres(interrupt: &Interrupt) -> Result<Server> {
        let bin = packages::for_server()?;
        let (dir, lock) = scratch()?;
        let port = free_port()?;
        let cluster = Cluster::new(
            bin,
            &dir,
            port,
            MAX_CONNECTIONS,
            Durability::Scratch,
            dir.join("postgres.log"),
        )?;
        let mut server = Server {
            url: String::new(),
            process: cluster.process(),
            dirs: vec![cluster.root().to_owned(), dir],
            _lock: lock,
        };
        let started = cluster.create().and_then(|_| {
            let mut started = cluster.start(interrupt)?;
            cluster.await_ready(&mut started, interrupt)?;
            crate::cluster::url(cluster.root(), port)
        });
        match started {
            Ok(url) => server.url = url,
            Err(failure) => return Err(server.give_up(failure)),
        }
        Ok(server)
    }

    fn cockroach(interrupt: &Interrupt) -> Result<Server> {
        let version = Command::new("cockroach").arg("version").output();
        version
            .context(|| "cannot run `cockroach` (it must be on the PATH)")?;
        let (dir, lock) = scratch()?;
        let mut server = Server {
            url: String::new(),
            process: cockroach::process(&dir),
            dirs: vec![dir.clone()],
            _lock: lock,
        };
        match cockroach::start(&dir, interrupt) {
            Ok(url) => server.url = url,
            Err(failure) => return Err(server.give_up(failure)),
        }
        Ok(server)
    }

    /// The first failure is the one to tell.
    fn give_up(self, failure: Failure) -> Failure {
        let _ = self.remove();
        failure
    }

    fn remove(self) -> Result<()> {
        crate::process::stop(std::slice::from_ref(&self.process))?;
        for dir in self.dirs.iter().filter(|dir| dir.exists()) {
            std::fs::remove_dir_all(dir)
                .context(|| format!("cannot remove {dir}"))?;
        }
        Ok(())
    }
}

/// A new directory, after those of runs that were killed are cleared away.
fn scratch() -> Result<(Utf8PathBuf, File)> {
    let temp = Utf8PathBuf::from_path_buf(std::env::temp_dir())
        .map_err(|_| Failure::new("the temporary directory is not UTF-8"))?
        .canonicalize_utf8()
        .context(|| "cannot resolve the temporary directory")?;
    clear_abandoned(&temp);
    let dir = temp.join(format!("{PREFIX}{}", std::process::id()));
    std::fs::create_dir(&dir).context(|| format!("cannot create {dir}"))?;
    let path = lock_path(&dir);
    let lock =
        File::create(&path).context(|| format!("cannot create {path}"))?;
    lock.lock().context(|| format!("cannot lock {path}"))?;
    Ok((dir, lock))
}

/// Best effort: a leftover that resists costs only its space.
fn clear_abandoned(temp: &Utf8Path) {
    let us = rustix::process::geteuid().as_raw();
    let Ok(entries) = temp.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        let dir = entry.path();
        let ours = entry.file_name().starts_with(PREFIX)
            && std::fs::symlink_metadata(dir)
                .is_ok_and(|m| m.is_dir() && m.uid() == us);
        let Ok(lock) = File::open(lock_path(dir)) else { continue };
        if !ours || lock.try_lock().is_err() {
            continue;
        }
        say(format_args!("Clearing away {dir}, which a killed run left"));
        let Ok(Place { root, account }) = Place::of(dir) else { continue };
        let log = dir.join("postgres.log");
        let postgres = crate::cluster::process(&root, account, log);
        let _ = crate::process::stop(&[postgres, cockroach::process(dir)]);
        let _ = std::fs::remove_dir_all(&root);
        let _ = std::fs::remove_dir_all(dir);
    }
}

fn lock_path(dir: &Utf8Path) -> Utf8PathBuf {
    dir.join("lock")
}

/// Free now; somebody may take it before PostgreSQL does, which then says so.
fn free_port() -> Result<u16> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .context(|| "cannot find a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_crates_unless_some_are_named() {
        for arg in ["-p", "-pnexus", "--package", "--package=nexus"] {
            assert!(selects_packages(arg), "{arg}");
        }
        for arg in ["some_test", "--no-capture", "-E", "--profile"] {
            assert!(!selects_packages(arg), "{arg}");
        }
    }
}
