//! The warden of one guest: a process that outlives the agent, and that its
//! QEMU does not outlive.
//!
//! It starts QEMU, keeps what the guest prints, types what it is given, and
//! writes down how QEMU ended. It decides one thing: that the guest ends when
//! the lease is over, agent or not. What else becomes of the guest is the
//! agent's business, over QEMU's monitor, to which the warden does not speak.
//!
//! Its standard input is its share of the guest's lock, see
//! [`dir`](super::dir).

mod inherit;
mod serial;

use super::arguments::{Inherited, arguments};
use super::dir::{
    EXIT, Exit, INPUT_SOCKET, PLAN, QMP_SOCKET, STARTED, WARDEN_LOG,
};
use super::launch;
use super::plan::Plan;
use crate::config::LogLevel;
use crate::lease::{self, Left};
use crate::{files, logger};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;
use inherit::Inheritance;
use rustix::process::{Pid, Signal};
use slog::{Logger, info, warn};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

/// How much of QEMU's standard error is kept: its first words say what is
/// wrong.
const MAX_STDERR: usize = 16 << 10;

/// How long QEMU has to close its disks when it is told to end.
const CLOSING: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Parser)]
#[command(name = "sled-agent warden")]
pub(super) struct Warden {
    /// The guest's directory
    #[arg(long)]
    dir: Utf8PathBuf,
}

/// Why a guest is not started.
#[derive(Debug, thiserror::Error)]
enum Unstartable {
    /// Of a disk, as its user knows it.
    #[error("{message}")]
    Disk {
        message: String,
        #[source]
        source: io::Error,
    },
    /// It would be ended at once.
    #[error("the lease of the guests is over")]
    Fenced,
    #[error("the host could not prepare the guest")]
    Host(#[from] io::Error),
    #[error("the plan cannot be read, or the start not be recorded")]
    Files(#[from] files::FileError),
}

/// Starts the warden of the guest in `dir`, which holds its plan, and hands it
/// the guest's lock.
pub(super) fn start(dir: &Utf8Path, lock: std::fs::File) -> io::Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join(WARDEN_LOG))?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg0("sled-agent")
        .args(["warden", "--dir", dir.as_str()])
        .current_dir("/")
        .stdin(lock)
        .stdout(Stdio::null())
        .stderr(log);
    tokio::process::Command::from(command).spawn()
}

impl Warden {
    /// Runs the guest to its end.
    pub(super) fn run(self) -> io::Result<()> {
        // Out of reach of what is meant for the agent's.
        rustix::process::setsid()?;
        // Paths of sockets are short, and relative to here.
        std::env::set_current_dir(&self.dir)?;
        let log = logger::root(LogLevel::Info);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let exit = runtime.block_on(async {
            match guard(&self.dir, &log).await {
                Ok(exit) => exit,
                Err(error) => unstarted(&error),
            }
        });
        info!(log, "the guest has ended"; "exit" => ?exit);
        runtime
            .block_on(files::write(self.dir.join(EXIT), &exit))
            .map_err(io::Error::other)
    }
}

async fn guard(dir: &Utf8Path, log: &Logger) -> Result<Exit, Unstartable> {
    let plan: Plan = files::read(dir.join(PLAN))
        .await?
        .ok_or_else(|| io::Error::other("there is no plan"))?;
    if lease::left(&plan.data_dir)? == Left::Over {
        return Err(Unstartable::Fenced);
    }
    files::write(dir.join(STARTED), &()).await?;
    let input = UnixListener::bind(INPUT_SOCKET)?;
    let (mut child, serial) = start_qemu(&plan)?;
    let stderr = tokio::spawn(first_words(child.stderr.take()));
    let printed = serial::tend(serial, &plan.console, input, log)?;

    let (status, order) = tokio::select! {
        status = child.wait() => (status?, None),
        order = order_to_end(&plan.data_dir) => {
            warn!(log, "the guest is to end"; "why" => ?order);
            (end(&mut child).await?, Some(order))
        }
    };
    let stderr = stderr.await.unwrap_or_default();
    // The line is closed, and empty in a moment.
    let _ = tokio::time::timeout(CLOSING, printed).await;
    for cgroup in &plan.cgroups {
        // What is left is removed when the guest is released.
        let _ = std::fs::remove_dir(cgroup);
    }
    Ok(ended(status, order, stderr))
}

/// What makes a warden end its guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OrderToEnd {
    /// A SIGTERM.
    Terminate,
    /// Nexus was not heard for too long.
    LeaseIsOver,
}

/// Returns once the guest is to be ended, for whatever reason comes first.
async fn order_to_end(data_dir: &Utf8Path) -> OrderToEnd {
    tokio::select! {
        () = terminated() => OrderToEnd::Terminate,
        () = lease::runs_out(data_dir) => OrderToEnd::LeaseIsOver,
    }
}

async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// Has QEMU end, so that it closes its disks.
async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // Not reaped yet, so the pid is its own. If it is gone, so much the
        // better.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    match tokio::time::timeout(CLOSING, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}

/// Starts a QEMU that has all that it needs open; with it comes the warden's
/// end of its serial line.
fn start_qemu(plan: &Plan) -> Result<(Child, UnixStream), Unstartable> {
    let mut inheritance = Inheritance::default();
    let (ours, serial) = UnixStream::pair()?;
    let inherited = Inherited {
        qmp: inheritance.leave(UnixListener::bind(QMP_SOCKET)?.into())?,
        serial: inheritance.leave(serial.into())?,
        disks: inherit::disks(&plan.disks)?
            .into_iter()
            .map(|disk| inheritance.leave_disk(disk))
            .collect::<io::Result<_>>()?,
    };
    inheritance.leave_lock()?;
    let account = plan.account.as_ref();
    let mut command = launch::command(account, &plan.cgroups, &plan.qemu);
    command
        .args(arguments(plan, &inherited))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = tokio::process::Command::from(command).spawn()?;
    Ok((child, ours))
}

/// Reads to the end, and keeps the beginning.
async fn first_words(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let room = MAX_STDERR.saturating_sub(kept.len()).min(count);
        kept.extend(chunk.iter().take(room));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn ended(
    status: ExitStatus,
    order: Option<OrderToEnd>,
    stderr: String,
) -> Exit {
    let told = order == Some(OrderToEnd::Terminate);
    Exit {
        code: status.code(),
        signal: status.signal(),
        message: told.then(|| "The host stopped the instance.".to_string()),
        fenced: order == Some(OrderToEnd::LeaseIsOver),
        stderr,
    }
}

fn unstarted(error: &Unstartable) -> Exit {
    let message = match error {
        Unstartable::Disk { message, .. } => Some(message.clone()),
        Unstartable::Fenced => None,
        Unstartable::Host(_) | Unstartable::Files(_) => {
            Some("The host could not start the guest.".to_string())
        }
    };
    let fenced = matches!(error, Unstartable::Fenced);
    let stderr = logger::chain(error);
    Exit { code: None, signal: None, message, fenced, stderr }
}
