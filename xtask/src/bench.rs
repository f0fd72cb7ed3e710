//! `cargo xtask bench`: measures what is shipped, built for release, on a
//! PostgreSQL of its own that is as durable as one in production.

use crate::cluster::Durability;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::pg_bin::PgBin;
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

/// Where the benchmarks find PostgreSQL's own.
const PGBENCH_VARIABLE: &str = "NEXUS_BENCH_PGBENCH";

/// What needs no database.
const PURE: &str = "packing";

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let program = cargo::build_release(&["--workspace", "--bins"], &interrupt)?;
    let mut bench = Command::new(program.join("bench"));
    bench.args(&args.args);
    if args.args.first().is_some_and(|what| what == PURE) {
        return measure(&mut bench, &interrupt);
    }
    let server = Server::postgres(Durability::Kept, &interrupt)?;
    bench.env(test::URL_VARIABLE, server.url());
    // Some packages put it beside the server, and some where all programs are.
    let beside = PgBin::find().map(|bin| bin.dir().join("pgbench"));
    let pgbench = beside.filter(|path| path.exists());
    bench.env(PGBENCH_VARIABLE, pgbench.unwrap_or_else(|| "pgbench".into()));
    let measured = measure(&mut bench, &interrupt);
    server.remove()?;
    measured
}

fn measure(bench: &mut Command, interrupt: &Interrupt) -> Result<ExitCode> {
    let status = cargo::run(bench, interrupt)?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
