//! Child processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// A process of the product's own. Killed when dropped.
#[derive(Debug)]
pub struct Child {
    child: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts the program `name` of this workspace, its log appended to a
    /// file.
    pub fn start(name: &str, args: &[String], log: &Path) -> Child {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = Command::new(program(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| {
                panic!("{name} is not built ({e}): use `cargo xtask test`")
            });
        Child { child, log: log.to_path_buf() }
    }

    /// Kill -9. Returns when it is dead.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and its exit code (`None`: by a signal).
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().await.unwrap().code()
    }

    /// Waits for its exit, and its code (`None`: by a signal).
    pub async fn exited(&mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }

    /// Its exit, if it has exited: the code (`None`: by a signal).
    pub fn has_exited(&mut self) -> Option<Option<i32>> {
        Some(self.child.try_wait().unwrap()?.code())
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Its pid.
    ///
    /// # Panics
    ///
    /// It has been waited for or killed.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// How much memory it has, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let pid = self.pid();
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Has it not been waited for or killed yet?
    pub fn is_up(&self) -> bool {
        self.child.id().is_some()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A program of this workspace, where cargo has put it: beside the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let mut dir = std::env::current_exe().unwrap();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir.join(name)
}
