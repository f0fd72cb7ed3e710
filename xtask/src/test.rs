//! `cargo xtask test`: all tests, on a database of their own that is gone
//! afterwards.

use crate::cluster::Durability;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::packages::Qemu;
use crate::say::say;
use crate::scratch::Server;
use crate::{cargo, packages};
use std::process::{ExitCode, Stdio};

/// Set where tests with real guests must not be left out.
const QEMU_VARIABLE: &str = "NEXUS_TEST_QEMU";

/// Where the tests look for a server on which they may create databases.
pub(crate) const URL_VARIABLE: &str = "NEXUS_TEST_DATABASE_URL";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Use the `cockroach` on the PATH instead of PostgreSQL
    #[arg(long)]
    cockroach: bool,
    /// Passed on to nextest (or to `cargo test` where nextest is missing)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    if let Ok(url) = std::env::var(URL_VARIABLE) {
        say(format_args!(
            "Using the database server that {URL_VARIABLE} names"
        ));
        packages::for_build()?;
        return run_tests(&url, &args.args, &interrupt);
    }
    let server = if args.cockroach {
        packages::for_build()?;
        Server::cockroach(&interrupt)?
    } else {
        Server::postgres(Durability::Scratch, &interrupt)?
    };
    let result = run_tests(server.url(), &args.args, &interrupt);
    server.remove()?;
    result
}

fn run_tests(
    url: &str,
    args: &[String],
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    cargo::build(&["--workspace", "--bins"], interrupt)?;
    let mut tests = cargo::command();
    if has_nextest() {
        tests.args(["nextest", "run"]);
    } else {
        say("No cargo-nextest here; using cargo test");
        tests.arg("test");
    }
    if !args.iter().any(|arg| selects_packages(arg)) {
        tests.arg("--workspace");
    }
    tests.args(args).env(URL_VARIABLE, url);
    match packages::qemu()? {
        Qemu::Here => {
            tests.env(QEMU_VARIABLE, "1");
        }
        Qemu::Cannot(why) => {
            say(why);
            say("Tests with real guests are LEFT OUT.");
        }
    }
    let status = cargo::run(&mut tests, interrupt)?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// `-p nexus` means that crate alone, as it does for cargo.
fn selects_packages(arg: &str) -> bool {
    let long = arg.split('=').next().unwrap_or(arg);
    ["--package", "--workspace", "--all"].contains(&long)
        || arg.starts_with("-p")
}

fn has_nextest() -> bool {
    cargo::command()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_crates_unless_some_are_named() {
        for arg in ["-p", "-pnexus", "--package", "--package=nexus"] {
            assert!(selects_packages(arg), "{arg}");
        }
        for arg in ["some_test", "--no-capture", "-E", "--profile"] {
            assert!(!selects_packages(arg), "{arg}");
        }
    }
}
