//! A database server for one run of tests, gone afterwards; and what runs that
//! were killed have left, cleared away.

use crate::cluster::{Cluster, Durability, Place};
use crate::cockroach;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::packages;
use crate::pg_bin::PgBin;
use crate::process::{Process, Started};
use crate::say::say;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Tests run in parallel, each with a pool of its own.
const MAX_CONNECTIONS: u16 = 500;

/// Directories of runs that were killed are known by this.
const PREFIX: &str = "nexus-test-";

/// A database server in a directory that is removed with it.
pub(crate) struct Server {
    url: String,
    process: Process,
    /// If it is PostgreSQL, and runs.
    postgres: Option<(Cluster, Started)>,
    dirs: Vec<Utf8PathBuf>,
    /// Says to later runs that this one is alive.
    _lock: File,
}

impl Server {
    pub(crate) fn postgres(
        durability: Durability,
        interrupt: &Interrupt,
    ) -> Result<Server> {
        Server::postgres_set(durability, |_| Vec::new(), interrupt)
    }

    /// The same, with settings besides, which may depend on what is installed.
    pub(crate) fn postgres_set(
        durability: Durability,
        settings: impl Fn(&PgBin) -> Vec<(&'static str, String)>,
        interrupt: &Interrupt,
    ) -> Result<Server> {
        let bin = packages::for_server()?;
        let (dir, lock) = scratch()?;
        let port = free_port()?;
        let settings = settings(&bin);
        let cluster = Cluster::new(
            bin,
            &dir,
            port,
            MAX_CONNECTIONS,
            durability,
            dir.join("postgres.log"),
        )?
        .set(settings);
        let mut server = Server {
            url: String::new(),
            process: cluster.process(),
            postgres: None,
            dirs: vec![cluster.root().to_owned(), dir],
            _lock: lock,
        };
        let started = cluster.create().and_then(|_| {
            let mut started = cluster.start(interrupt)?;
            cluster.await_ready(&mut started, interrupt)?;
            server.url = crate::cluster::url(cluster.root(), port)?;
            Ok(started)
        });
        match started {
            Ok(started) => server.postgres = Some((cluster, started)),
            Err(failure) => return Err(server.give_up(failure)),
        }
        Ok(server)
    }

    /// Where its role may create databases.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where PostgreSQL keeps its pid while it runs.
    pub(crate) fn pid_file(&self) -> Option<Utf8PathBuf> {
        self.postgres.as_ref().map(|(cluster, _)| cluster.pid_file())
    }

    /// Where PostgreSQL logs.
    pub(crate) fn log(&self) -> Option<&Utf8Path> {
        self.postgres.as_ref().map(|(cluster, _)| cluster.log())
    }

    /// Starts PostgreSQL again if somebody has killed it.
    pub(crate) fn revive(&mut self, interrupt: &Interrupt) -> Result<()> {
        if let Some((cluster, started)) = &mut self.postgres
            && started.ended().is_some()
        {
            *started = cluster.start(interrupt)?;
            cluster.await_ready(started, interrupt)?;
        }
        Ok(())
    }

    pub(crate) fn cockroach(interrupt: &Interrupt) -> Result<Server> {
        let version = Command::new("cockroach").arg("version").output();
        version
            .context(|| "cannot run `cockroach` (it must be on the PATH)")?;
        let (dir, lock) = scratch()?;
        let mut server = Server {
            url: String::new(),
            process: cockroach::process(&dir),
            postgres: None,
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

    pub(crate) fn remove(self) -> Result<()> {
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
