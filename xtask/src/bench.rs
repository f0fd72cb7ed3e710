//! `cargo xtask bench`: measures what is shipped, built for release, on a
//! PostgreSQL of its own that is as durable as one in production.

use crate::cluster::Durability;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::pg_bin::PgBin;
use crate::say::say;
use crate::scratch::Server;
use crate::{cargo, test};
use camino::Utf8Path;
use std::process::{Command, ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure, and how much (all of it, if none); `--help` says what
    /// there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Where the benchmarks find PostgreSQL's own.
const PGBENCH_VARIABLE: &str = "NEXUS_BENCH_PGBENCH";

/// Where they find what the server logs.
const LOG_VARIABLE: &str = "NEXUS_BENCH_POSTGRES_LOG";

/// What needs no database.
const PURE: &str = "packing";

/// At which the server counts what each query costs, which costs a little
/// itself.
const COUNTED: &str = "idle";

/// What does the counting.
const COUNTER: &str = "pg_stat_statements";

/// All that is measured if nothing is named, each on a server of its own.
const ALL: [&str; 5] = ["starts", "reads", "placement", "recovery", COUNTED];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let program = cargo::build_release(&["--workspace", "--bins"], &interrupt)?;
    let program = program.join("bench");
    if !args.args.is_empty() {
        return one(&program, &args.args, &interrupt);
    }
    let mut code = ExitCode::SUCCESS;
    for what in ALL {
        say(format_args!("\n== {what}"));
        let measured = one(&program, &[what.to_string()], &interrupt)?;
        if measured != ExitCode::SUCCESS {
            code = measured;
        }
    }
    Ok(code)
}

fn one(
    program: &Utf8Path,
    args: &[String],
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    let mut bench = Command::new(program);
    bench.args(args);
    let what = args.first().map(String::as_str);
    if what == Some(PURE) {
        return measure(&mut bench, interrupt);
    }
    let settings = |bin: &PgBin| {
        // The trace of a start goes by what is behind the process.
        let mut settings =
            vec![("log_line_prefix", String::from("%m [%p] %v %x "))];
        if what == Some(COUNTED) && bin.has_library(COUNTER) {
            settings.push(("shared_preload_libraries", COUNTER.to_string()));
        }
        settings
    };
    let server = Server::postgres_set(Durability::Kept, settings, interrupt)?;
    bench.env(test::URL_VARIABLE, server.url());
    if let Some(log) = server.log() {
        bench.env(LOG_VARIABLE, log);
    }
    // Some packages put it beside the server, and some where all programs are.
    let beside = PgBin::find().map(|bin| bin.dir().join("pgbench"));
    let pgbench = beside.filter(|path| path.exists());
    bench.env(PGBENCH_VARIABLE, pgbench.unwrap_or_else(|| "pgbench".into()));
    let measured = measure(&mut bench, interrupt);
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
