//! Processes that outlive us. A process is known by its command line: by the
//! name of its program and by arguments that hold a path of this DIR. So
//! nothing has to be remembered, a reused pid deceives nobody, and what
//! somebody killed is simply not there.

use crate::account::Account;
use crate::failure::{Context, Failure, Result};
use crate::log::Log;
use crate::say::say;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a process that is asked to stop is looked at.
const STOP_POLL: Duration = Duration::from_millis(50);
/// After SIGKILL only the kernel's own work is left.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Which process: how it is recognised, and how it is asked to stop.
#[derive(Clone)]
pub(crate) struct Process {
    /// What people call it: "Nexus 0".
    pub(crate) name: String,
    /// The file name of its program.
    pub(crate) program: &'static str,
    /// Arguments that it has, one after the other, and no other process.
    pub(crate) marker: Vec<String>,
    pub(crate) log: Utf8PathBuf,
    /// Who it runs as, if not as we do.
    pub(crate) account: Option<Account>,
    /// Signals in turn, each with the time it is given. SIGKILL follows.
    pub(crate) stop: &'static [(Signal, Duration)],
}

/// How such a process is started.
pub(crate) struct Launch {
    pub(crate) process: Process,
    pub(crate) program: Utf8PathBuf,
    pub(crate) args: Vec<String>,
}

/// A process that we started ourselves, so that we learn how it ends.
pub(crate) struct Started {
    pub(crate) process: Process,
    child: Child,
    log: Log,
}

impl Process {
    /// Its pid, if it runs (a paused process runs).
    pub(crate) fn find(&self) -> Option<Pid> {
        let mut found: Vec<(Pid, Option<i32>)> = pids()
            .filter(|pid| self.is(*pid))
            .map(|pid| (pid, stat(pid).map(|s| s.parent)))
            .collect();
        // Between fork and exec a child looks like its parent.
        let all: Vec<i32> =
            found.iter().map(|(pid, _)| pid.as_raw_pid()).collect();
        found.retain(|(_, parent)| parent.is_none_or(|p| !all.contains(&p)));
        found.first().map(|(pid, _)| *pid)
    }

    fn is(&self, pid: Pid) -> bool {
        let proc = proc_dir(pid);
        let owner = match &self.account {
            Some(account) => account.uid,
            None => rustix::process::geteuid().as_raw(),
        };
        std::fs::metadata(&proc).is_ok_and(|m| m.uid() == owner)
            && std::fs::read(proc.join("cmdline"))
                .is_ok_and(|c| matches(&c, self.program, &self.marker))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.find().and_then(stat).is_some_and(|s| s.state == 'T')
    }
}

impl Launch {
    /// Starts it in a process group of its own, so that Ctrl-C at our terminal
    /// does not reach it.
    pub(crate) fn spawn(self) -> Result<Started> {
        let Process { name, log, account, .. } = &self.process;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        let log = Log::attach(log, &mut command)?;
        if let Some(account) = account {
            account.apply(&mut command);
        }
        let child =
            command.spawn().context(|| format!("cannot start {name}"))?;
        Ok(Started { process: self.process, child, log })
    }
}

impl Started {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it wrote last, and where the rest is.
    pub(crate) fn last_words(&self) -> String {
        self.log.last_words()
    }
}

/// Stops all of these, together. Reports what had to be killed.
///
/// # Errors
/// When one is still there after SIGKILL.
pub(crate) fn stop(processes: &[Process]) -> Result<()> {
    let mut left: Vec<(&Process, Pid)> =
        processes.iter().filter_map(|p| p.find().map(|pid| (p, pid))).collect();
    if left.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = left.iter().map(|(p, _)| p.name.as_str()).collect();
    say(format_args!("Stopping {}", names.join(", ")));
    let turns = processes.iter().map(|p| p.stop.len()).max().unwrap_or(0);
    for turn in 0..turns {
        let mut patience = Duration::ZERO;
        for (process, pid) in &left {
            if let Some((signal, time)) = process.stop.get(turn) {
                send(process, *pid, *signal);
                patience = patience.max(*time);
            }
        }
        wait_gone(&mut left, patience);
        if left.is_empty() {
            return Ok(());
        }
    }
    for (process, pid) in &left {
        say(format_args!(
            "{} (pid {pid}) does not stop; killing it",
            process.name
        ));
        send(process, *pid, Signal::KILL);
    }
    wait_gone(&mut left, AFTER_KILL);
    match left.first() {
        None => Ok(()),
        Some((process, pid)) => Err(Failure::new(format!(
            "{} (pid {pid}) is still there after SIGKILL.",
            process.name
        ))),
    }
}

fn send(process: &Process, pid: Pid, signal: Signal) {
    // Gone meanwhile, or its pid is somebody else's now: nothing to do.
    if process.is(pid) {
        let _ = rustix::process::kill_process(pid, signal);
        // A paused process takes a signal only when it goes on.
        let _ = rustix::process::kill_process(pid, Signal::CONT);
    }
}

fn wait_gone(left: &mut Vec<(&Process, Pid)>, patience: Duration) {
    let end = Instant::now() + patience;
    loop {
        left.retain(|(process, pid)| process.is(*pid));
        if left.is_empty() || Instant::now() >= end {
            return;
        }
        std::thread::sleep(STOP_POLL);
    }
}

/// Processes whose working directory is this one, whatever they are called.
pub(crate) fn working_in(dir: &Utf8Path) -> Vec<Pid> {
    pids()
        .filter(|pid| {
            std::fs::read_link(proc_dir(*pid).join("cwd"))
                .is_ok_and(|cwd| cwd == dir.as_std_path())
        })
        .collect()
}

fn pids() -> impl Iterator<Item = Pid> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
}

fn proc_dir(pid: Pid) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("/proc/{pid}"))
}

/// `cmdline` is `argv` with a NUL after each; a zombie's is empty.
fn matches(cmdline: &[u8], program: &str, marker: &[String]) -> bool {
    let argv: Vec<&[u8]> = cmdline.split(|b| *b == 0).collect();
    let Some((argv0, args)) = argv.split_first() else { return false };
    let name = argv0.rsplit(|b| *b == b'/').next().unwrap_or_default();
    name == program.as_bytes()
        && args
            .windows(marker.len())
            .any(|w| w.iter().zip(marker).all(|(a, m)| *a == m.as_bytes()))
}

struct Stat {
    state: char,
    parent: i32,
}

fn stat(pid: Pid) -> Option<Stat> {
    let text = std::fs::read_to_string(proc_dir(pid).join("stat")).ok()?;
    parse_stat(&text)
}

/// `pid (name) state ppid …`, where the name may hold anything, `)` too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { state, parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Vec<String> {
        vec![String::from("--config"), String::from("/d/nexus-0.toml")]
    }

    #[test]
    fn a_process_is_known_by_program_and_marker() {
        let ours = b"/t/debug/nexus\0run\0--config\0/d/nexus-0.toml\0";
        assert!(matches(ours, "nexus", &marker()));
        assert!(!matches(ours, "sled-agent", &marker()));
        let other_dir = b"/t/debug/nexus\0run\0--config\0/e/nexus-0.toml\0";
        assert!(!matches(other_dir, "nexus", &marker()));
        let editor = b"vi\0--config\0/d/nexus-0.toml\0";
        assert!(!matches(editor, "nexus", &marker()));
        let apart = b"nexus\0--config\0--x\0/d/nexus-0.toml\0";
        assert!(!matches(apart, "nexus", &marker()));
    }

    #[test]
    fn a_zombie_is_nobody() {
        assert!(!matches(b"", "nexus", &marker()));
    }

    #[test]
    fn stat_is_read_past_any_name() {
        let stat = parse_stat("12 (a) S (b) T 34 12 12 0 -1 4").unwrap();
        assert_eq!((stat.state, stat.parent), ('T', 34));
        assert!(parse_stat("").is_none());
    }
}
