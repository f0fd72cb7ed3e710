//! PostgreSQL, as something to be hurt. Whoever started it starts it again.

use rustix::process::{Pid, Signal};
use std::path::PathBuf;

/// The server whose pid stands in a file.
#[derive(Debug)]
pub(crate) struct Postgres {
    pid_file: PathBuf,
}

impl Postgres {
    pub(crate) fn new(pid_file: PathBuf) -> Postgres {
        Postgres { pid_file }
    }

    /// Kill -9 of the postmaster. Its backends notice, and end.
    pub(crate) fn kill(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        rustix::process::kill_process(pid, Signal::KILL).is_ok()
    }

    /// SIGSTOP of all of it; what was paused.
    pub(crate) fn pause(&self) -> Vec<Pid> {
        let Some(postmaster) = self.pid() else { return Vec::new() };
        let mut paused = vec![postmaster];
        paused.extend(children(postmaster));
        paused.retain(|pid| {
            rustix::process::kill_process(*pid, Signal::STOP).is_ok()
        });
        paused
    }

    /// SIGCONT of what was paused.
    pub(crate) fn resume(&self, paused: &[Pid]) {
        for pid in paused {
            // One that has ended is not to be resumed.
            let _ = rustix::process::kill_process(*pid, Signal::CONT);
        }
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.pid_file).ok()?;
        Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat =
                std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // `pid (name) state ppid …`
            let (_, rest) = stat.rsplit_once(')')?;
            (rest.split_whitespace().nth(1)? == parent)
                .then(|| Pid::from_raw(pid))?
        })
        .collect()
}
