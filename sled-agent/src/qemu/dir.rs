//! The directory of one guest, `DATA/guests/<vmm_id>/`:
//!
//! | file | says | written by |
//! |---|---|---|
//! | `lock` | locked: the guest's processes are alive | held by warden and QEMU |
//! | `plan.json` | what the warden is to start | agent |
//! | `started` | a QEMU may have been started | warden |
//! | `facts.json` | what the agent has seen and ordered | agent |
//! | `exit.json` | how QEMU ended | warden |
//! | `qmp.sock` | QEMU's monitor | |
//! | `input.sock` | what is written there is typed at the serial console | |
//! | `warden.log` | the warden's log | warden |
//!
//! The lock is what a process id could be, and cannot be mistaken: the agent
//! takes it and hands it to the warden it starts; the warden shares it, and
//! hands a share of its own to its QEMU. It is free once both are gone; neither
//! can give up the other's.

use crate::files;
use crate::machine::GuestEvent;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use tokio::net::UnixStream;
use uuid::Uuid;

pub(super) const LOCK: &str = "lock";
pub(super) const PLAN: &str = "plan.json";
pub(super) const SEED: &str = "seed.img";
pub(super) const STARTED: &str = "started";
pub(super) const FACTS: &str = "facts.json";
pub(super) const EXIT: &str = "exit.json";
pub(super) const QMP_SOCKET: &str = "qmp.sock";
pub(super) const INPUT_SOCKET: &str = "input.sock";
pub(super) const WARDEN_LOG: &str = "warden.log";

/// What a directory is called that is being removed.
const GONE: &str = "gone";

/// What stands in `facts.json`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Facts {
    /// It was let run.
    pub(super) booted: bool,
    /// The last reset that it was given.
    pub(super) turn: u64,
    /// How it ended, or is being ended.
    pub(super) end: Option<GuestEvent>,
}

/// What stands in `exit.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Exit {
    /// QEMU's exit code; none if a signal ended it, or it did not start.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// Why the warden did not start it or ended it, in a sentence to the
    /// instance's user.
    pub(super) message: Option<String>,
    /// The warden did so since the lease was over.
    #[serde(default)]
    pub(super) fenced: bool,
    /// What it said last on standard error, for operators.
    pub(super) stderr: String,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct GuestDir {
    path: Utf8PathBuf,
}

impl GuestDir {
    pub(super) fn new(guests: &Utf8Path, vmm_id: Uuid) -> Self {
        Self { path: guests.join(vmm_id.to_string()) }
    }

    /// The guests in `guests`. What was being removed is, as if it had been.
    pub(super) fn all(guests: &Utf8Path) -> io::Result<Vec<Uuid>> {
        let mut found = Vec::new();
        for entry in guests.read_dir_utf8()? {
            let path = entry?.into_path();
            if path.extension() == Some(GONE) {
                std::fs::remove_dir_all(&path)?;
            } else {
                found.extend(
                    path.file_name().and_then(|id| id.parse::<Uuid>().ok()),
                );
            }
        }
        Ok(found)
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes it, unless it is there.
    pub(super) fn make(&self) -> io::Result<()> {
        // What a guest is given when it boots is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        sync(self.path.parent())
    }

    /// Takes the lock, alone; none if the guest's processes hold it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.file(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether the guest's processes are alive.
    pub(super) fn is_alive(&self) -> io::Result<bool> {
        Ok(self.is_there() && self.lock()?.is_none())
    }

    /// Whether a QEMU may have been started.
    pub(super) fn has_started(&self) -> bool {
        self.file(STARTED).exists()
    }

    pub(super) async fn facts(&self) -> Result<Facts, files::FileError> {
        Ok(files::read(self.file(FACTS)).await?.unwrap_or_default())
    }

    pub(super) async fn put_facts(
        &self,
        facts: &Facts,
    ) -> Result<(), files::FileError> {
        files::write(self.file(FACTS), facts).await
    }

    pub(super) async fn exit(&self) -> Result<Option<Exit>, files::FileError> {
        files::read(self.file(EXIT)).await
    }

    /// Removes all of it: after a crash at any moment it is whole, or of no
    /// meaning to anybody.
    pub(super) fn remove(&self) -> io::Result<()> {
        let gone = self.path.with_extension(GONE);
        match std::fs::rename(&self.path, &gone) {
            Ok(()) => sync(self.path.parent())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match std::fs::remove_dir_all(&gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// A way to a socket in here. The names of sockets may have 107 bytes, and
    /// a directory may lie deep: the way goes through the open directory, and
    /// holds for as long as that is open.
    pub(super) fn way_to(&self, socket: &str) -> io::Result<(File, PathBuf)> {
        let dir = File::open(&self.path)?;
        let way = format!("/proc/self/fd/{}/{socket}", dir.as_raw_fd());
        Ok((dir, PathBuf::from(way)))
    }

    /// Connects to a socket in here.
    pub(super) async fn connect(&self, socket: &str) -> io::Result<UnixStream> {
        let (_open, way) = self.way_to(socket)?;
        UnixStream::connect(way).await
    }
}

fn sync(dir: Option<&Utf8Path>) -> io::Result<()> {
    match dir {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}
