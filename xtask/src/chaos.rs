//! `cargo xtask chaos`: a fleet under attack, on a PostgreSQL of its own that
//! is killed, too, and started again here.

use crate::cluster::Durability;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::{Interrupt, Signal};
use crate::scratch::Server;
use crate::{cargo, test};
use camino::Utf8Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

/// Between two looks at what is to be kept going.
const POLL: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to make trouble
    #[arg(long, default_value_t = 1.5)]
    minutes: f64,
    /// What decides who is struck when; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How many Nexuses
    #[arg(long, default_value_t = 3)]
    nexus: u8,
    /// How many sleds
    #[arg(long, default_value_t = 4)]
    sleds: u8,
    /// How many users, of one instance each
    #[arg(long, default_value_t = 20)]
    users: u16,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let mut server = Server::postgres(Durability::Processes, &interrupt)?;
    let result = attack(args, &mut server, &interrupt);
    server.remove()?;
    let status = result?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn attack(
    args: &Args,
    server: &mut Server,
    interrupt: &Interrupt,
) -> Result<ExitStatus> {
    cargo::build(&["--workspace", "--bins"], interrupt)?;
    let pid_file = server
        .pid_file()
        .ok_or_else(|| Failure::new("PostgreSQL does not run"))?;
    let mut chaos = command(args, &pid_file, server.url())?
        .spawn()
        .context(|| "cannot start chaos")?;
    let ended = watch(&mut chaos, server, interrupt);
    if ended.is_err() {
        // It ends what it has started.
        let pid = rustix::process::Pid::from_child(&chaos);
        let term = rustix::process::Signal::TERM;
        let _ = rustix::process::kill_process(pid, term);
        let _ = chaos.wait();
    }
    ended
}

fn command(args: &Args, pid_file: &Utf8Path, url: &str) -> Result<Command> {
    let mut command = Command::new(cargo::bin_dir()?.join("chaos"));
    command
        .args(["--minutes", &args.minutes.to_string()])
        .args(["--nexus", &args.nexus.to_string()])
        .args(["--sleds", &args.sleds.to_string()])
        .args(["--users", &args.users.to_string()])
        .args(["--postgres-pid-file", pid_file.as_str()])
        .env(test::URL_VARIABLE, url)
        .stdin(Stdio::null());
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    Ok(command)
}

fn watch(
    chaos: &mut Child,
    server: &mut Server,
    interrupt: &Interrupt,
) -> Result<ExitStatus> {
    loop {
        if let Some(status) =
            chaos.try_wait().context(|| "cannot wait for chaos")?
        {
            return Ok(status);
        }
        // Ctrl-C at the terminal reaches it as it reaches us.
        if interrupt.seen() == Some(Signal::ToUsAlone) {
            return Err(Failure::interrupted());
        }
        server.revive(interrupt)?;
        std::thread::sleep(POLL);
    }
}
