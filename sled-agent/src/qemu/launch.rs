//! The last stage before QEMU: a process that makes itself what QEMU is to be,
//! and becomes it.
//!
//! `sled-agent launch` is started by a warden, or by the probe for KVM. It has
//! one thread, so what is set for the thread is set for the process.

use super::account::Account;
use camino::Utf8PathBuf;
use clap::Parser;
use rustix::fs::{Gid, Uid};
use rustix::process::{Pid, Signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// See the module.
#[derive(Debug, Parser)]
#[command(name = "sled-agent launch")]
pub(super) struct Launch {
    /// The process that it must not outlive
    #[arg(long)]
    parent: i32,

    /// The account to be
    #[arg(long, requires = "gid")]
    uid: Option<u32>,

    /// The group of the account
    #[arg(long, requires = "uid")]
    gid: Option<u32>,

    /// Another group of it
    #[arg(long)]
    group: Vec<u32>,

    /// A control group to be in
    #[arg(long)]
    cgroup: Vec<Utf8PathBuf>,

    /// What to become
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A command that becomes `program` by way of this stage, and dies with the
/// thread that starts it.
pub(super) fn command(
    account: Option<&Account>,
    cgroups: &[Utf8PathBuf],
    program: &str,
) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sled-agent").args([
        "launch",
        "--parent",
        &std::process::id().to_string(),
    ]);
    if let Some(Account { uid, gid, groups }) = account {
        command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        for group in groups {
            command.args(["--group", &group.to_string()]);
        }
    }
    for cgroup in cgroups {
        command.args(["--cgroup", cgroup.as_str()]);
    }
    command.args(["--", program]);
    command
}

impl Launch {
    /// Becomes the command; returns only if it cannot.
    pub(super) fn run(self) -> io::Error {
        let Err(error) = self.prepare() else {
            let Some((program, args)) = self.command.split_first() else {
                return io::ErrorKind::InvalidInput.into();
            };
            // Found as the agent finds it; the rest is none of its business.
            let path = std::env::var_os("PATH").unwrap_or_default();
            return Command::new(program)
                .args(args)
                .env_clear()
                .env("PATH", path)
                .exec();
        };
        error
    }

    fn prepare(&self) -> io::Result<()> {
        for cgroup in &self.cgroup {
            std::fs::write(cgroup.join("cgroup.procs"), "0")?;
        }
        if let (Some(uid), Some(gid)) = (self.uid, self.gid) {
            let groups: Vec<Gid> =
                self.group.iter().copied().map(Gid::from_raw).collect();
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::thread::set_thread_groups(&groups)?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        rustix::thread::set_no_new_privs(true)?;
        // After the account: a change of that would forget it.
        let kill = Some(Signal::KILL);
        rustix::process::set_parent_process_death_signal(kill)?;
        // The parent may have died before that.
        if rustix::process::getppid().map(Pid::as_raw_pid) != Some(self.parent)
        {
            return Err(io::Error::other("the parent is gone"));
        }
        Ok(())
    }
}
