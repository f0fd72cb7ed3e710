//! DIR: every path that `up` uses, in one place.

use crate::failure::{Context, Failure, Result};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

/// Longer than an `up` takes that has nothing to build.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(crate) struct Home {
    dir: Utf8PathBuf,
}

/// Held as long as the value lives; the kernel lets go when we die.
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Home {
    /// The directory itself, made if it is missing. Absolute and free of
    /// links, since processes are known again by the paths they were given.
    pub(crate) fn open(dir: Option<Utf8PathBuf>) -> Result<Home> {
        let dir = dir.unwrap_or_else(default_dir);
        make(&dir).context(|| format!("cannot create {dir}"))?;
        let dir = dir
            .canonicalize_utf8()
            .context(|| format!("cannot resolve {dir}"))?;
        Ok(Home { dir })
    }

    /// The directory if it exists.
    pub(crate) fn existing(dir: Option<Utf8PathBuf>) -> Option<Home> {
        let dir = dir.unwrap_or_else(default_dir);
        Some(Home { dir: dir.canonicalize_utf8().ok()? })
    }

    /// This one, whether or not it exists.
    #[cfg(test)]
    pub(crate) fn at(dir: &Utf8Path) -> Home {
        Home { dir: dir.to_owned() }
    }

    pub(crate) fn dir(&self) -> &Utf8Path {
        &self.dir
    }

    pub(crate) fn manifest(&self) -> Utf8PathBuf {
        self.dir.join("up.json")
    }

    pub(crate) fn settings(&self) -> Utf8PathBuf {
        self.dir.join("settings.json")
    }

    pub(crate) fn token(&self) -> Utf8PathBuf {
        self.dir.join("token")
    }

    pub(crate) fn password(&self) -> Utf8PathBuf {
        self.dir.join("password")
    }

    pub(crate) fn sled_secret(&self) -> Utf8PathBuf {
        self.dir.join("sled-secret")
    }

    /// Where the fleet's CA is.
    pub(crate) fn pki(&self) -> Utf8PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn ca(&self) -> Utf8PathBuf {
        self.pki().join("ca.pem")
    }

    /// By which a sled joins, once.
    pub(crate) fn sled_token(&self, j: u16) -> Utf8PathBuf {
        self.dir.join(format!("sled-{j}.token"))
    }

    pub(crate) fn nexus_config(&self, i: u16) -> Utf8PathBuf {
        self.dir.join(format!("nexus-{i}.toml"))
    }

    pub(crate) fn sled_data(&self, j: u16) -> Utf8PathBuf {
        self.dir.join(format!("sled-{j}"))
    }

    /// What stands for the storage that all sleds share.
    pub(crate) fn disk_store(&self) -> Utf8PathBuf {
        self.dir.join("disk-store")
    }

    pub(crate) fn logs(&self) -> Utf8PathBuf {
        self.dir.join("logs")
    }

    pub(crate) fn log(&self, name: &str) -> Utf8PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Held while processes are being started or stopped here.
    pub(crate) fn lock(&self) -> Result<Lock> {
        match self.try_lock("lock")? {
            Some(lock) => Ok(lock),
            None => Err(Failure::new(format!(
                "Another `cargo xtask` is starting or stopping things in {} \
                 right now; try again when it is done.",
                self.dir
            ))),
        }
    }

    /// The same, for those who had better wait than leave things running.
    pub(crate) fn lock_patiently(&self) -> Result<Lock> {
        let end = Instant::now() + LOCK_PATIENCE;
        loop {
            match self.lock() {
                Err(_) if Instant::now() < end => {
                    std::thread::sleep(LOCK_POLL);
                }
                done => return done,
            }
        }
    }

    /// Held by the `up` whose Ctrl-C stops everything here, if there is one.
    pub(crate) fn try_foreground(&self) -> Result<Option<Lock>> {
        self.try_lock("foreground.lock")
    }

    fn try_lock(&self, name: &str) -> Result<Option<Lock>> {
        let path = self.dir.join(name);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .context(|| format!("cannot open {path}"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => {
                Err(e).context(|| format!("cannot lock {path}"))
            }
        }
    }

    /// Removes what an ephemeral run made and nothing else: DIR is the user's
    /// choice and may hold other things. The logs stay if they are still
    /// wanted.
    pub(crate) fn remove_data(&self, sleds: u16, keep_logs: bool) {
        // Best effort: a file that was never made is no failure here.
        for j in 0..sleds {
            let _ = std::fs::remove_dir_all(self.sled_data(j));
            let _ = std::fs::remove_file(self.sled_token(j));
        }
        let _ = std::fs::remove_dir_all(self.pki());
        let _ = std::fs::remove_dir_all(self.disk_store());
        for i in 0..crate::ports::MAX_NEXUS {
            let _ = std::fs::remove_file(self.nexus_config(i));
        }
        for path in [
            self.manifest(),
            self.token(),
            self.password(),
            self.sled_secret(),
            self.settings(),
            self.dir.join("foreground.lock"),
            self.dir.join("lock"),
        ] {
            let _ = std::fs::remove_file(path);
        }
        if !keep_logs {
            let _ = std::fs::remove_dir_all(self.logs());
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

/// PostgreSQL's account must get through it; nobody needs to list it.
fn make(dir: &Utf8Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(0o711).create(dir)
}

fn default_dir() -> Utf8PathBuf {
    crate::cargo::workspace().join(".nexus")
}
