//! `cargo xtask bench`: measures, on a PostgreSQL of its own that is as durable
//! as one in production.

use crate::cluster::Durability;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::scratch::Server;
use crate::{cargo, test};
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure, and how much; `--help` says what there is
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true
    )]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let server = Server::postgres(Durability::Kept, &interrupt)?;
    let measured = measure(args, &server, &interrupt);
    server.remove()?;
    measured
}

fn measure(
    args: &Args,
    server: &Server,
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    cargo::build(&["--workspace", "--bins"], interrupt)?;
    let mut bench = Command::new(cargo::bin_dir()?.join("bench"));
    bench.args(&args.args).env(test::URL_VARIABLE, server.url());
    let status = cargo::run(&mut bench, interrupt)?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
