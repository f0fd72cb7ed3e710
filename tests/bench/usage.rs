//! What processes take of the machine, as the kernel counts it.

use crate::stage::Stage;
use std::time::{Duration, Instant};

/// The clock of `/proc`, in ticks a second: the same on every Linux.
const TICKS: f64 = 100.0;

/// Whom to watch.
pub(crate) struct Watched {
    nexus: u32,
    postmaster: u32,
    sleds: Vec<u32>,
}

/// What they have taken until now.
pub(crate) struct Taken {
    when: Instant,
    nexus: f64,
    postgres: f64,
    sleds: f64,
    us: f64,
}

/// Shares of a core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub(crate) nexus: f64,
    /// All its processes.
    pub(crate) postgres: f64,
    /// All agents.
    pub(crate) sleds: f64,
    /// This process.
    pub(crate) us: f64,
    /// Over so long.
    pub(crate) time: Duration,
}

impl Watched {
    pub(crate) fn new(stage: &Stage) -> Watched {
        // One that is there for as long as the server is.
        let pid = stage.database.count(
            "SELECT pid FROM pg_stat_activity \
             WHERE backend_type = 'checkpointer'",
        );
        let child = stat(u32::try_from(pid).unwrap()).unwrap();
        Watched {
            nexus: stage.nexus.child.pid(),
            postmaster: child.parent,
            sleds: stage.sleds.iter().map(|sled| sled.child.pid()).collect(),
        }
    }

    pub(crate) fn taken(&self) -> Taken {
        Taken {
            when: Instant::now(),
            nexus: stat(self.nexus).unwrap().own,
            postgres: self.postgres(),
            sleds: self.sleds.iter().map(|pid| stat(*pid).unwrap().own).sum(),
            us: stat(std::process::id()).unwrap().own,
        }
    }

    pub(crate) fn since(&self, before: &Taken) -> Shares {
        let now = self.taken();
        let time = now.when - before.when;
        let share = |taken: f64| taken / time.as_secs_f64();
        Shares {
            nexus: share(now.nexus - before.nexus),
            postgres: share(now.postgres - before.postgres),
            sleds: share(now.sleds - before.sleds),
            us: share(now.us - before.us),
            time,
        }
    }

    /// Nexus's memory in MiB: now, and the most that it ever was.
    pub(crate) fn nexus_mib(&self) -> (f64, f64) {
        let path = format!("/proc/{}/status", self.nexus);
        let status = std::fs::read_to_string(path).unwrap();
        let mib = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            let kib = line.unwrap().split_whitespace().nth(1).unwrap();
            kib.parse::<f64>().unwrap() / 1024.0
        };
        (mib("VmRSS:"), mib("VmHWM:"))
    }

    /// Of the server and those that it has forked; what those took that have
    /// ended stands with the server.
    fn postgres(&self) -> f64 {
        let server = stat(self.postmaster).unwrap();
        let all = std::fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| {
            entry.unwrap().file_name().to_str()?.parse().ok()
        });
        let children: f64 = pids
            .filter_map(stat)
            .filter(|stat| stat.parent == self.postmaster)
            .map(|stat| stat.own)
            .sum();
        server.own + server.ended + children
    }
}

/// What the kernel says of a process. Seconds of CPU.
struct Stat {
    parent: u32,
    own: f64,
    /// Of its children that have ended.
    ended: f64,
}

/// None of one that is gone.
fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name is in parentheses, and may have any in it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let secs = |at: usize| fields[at].parse::<f64>().unwrap() / TICKS;
    Some(Stat {
        parent: fields[1].parse().ok()?,
        own: secs(11) + secs(12),
        ended: secs(13) + secs(14),
    })
}
