//! `cargo xtask up | down | test | bench | chaos | fuzz | image`: Nexus and all that it needs, on one machine.
//!
//! Everything here must compile on a machine that has only Rust and a
//! linker: it is this program that installs the rest. So few dependencies,
//! none of them with C in it, and nothing shared with the servers. What it
//! starts are ordinary processes that outlive it; it finds them again by their
//! command lines (`process.rs`), so it keeps no state that could be wrong.

mod account;
mod bench;
mod cargo;
mod chaos;
mod cluster;
mod cockroach;
mod down;
mod failure;
mod fuzz;
mod home;
mod http;
mod image;
mod interrupt;
mod log;
mod manifest;
mod nexus;
mod packages;
mod pg_bin;
mod ports;
mod process;
mod ready;
mod say;
mod scratch;
mod screen;
mod secret;
mod settings;
mod sled_agent;
mod stack;
mod start;
mod test;
mod up;
mod watch;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start PostgreSQL, Nexus and sled-agents; what runs already is left alone
    Up(up::Args),
    /// Stop what `up` started; the data stays, unless it was ephemeral
    Down(down::Args),
    /// Run all tests on a database of their own
    Test(test::Args),
    /// Measure
    Bench(bench::Args),
    /// Attack a fleet of its own, and see whether it loses anything
    Chaos(chaos::Args),
    /// Try what strangers may send with everything
    Fuzz(fuzz::Args),
    /// Make the disk image of a small Linux to try things with
    Image(image::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(args) => up::run(args),
        Command::Down(args) => down::run(args),
        Command::Test(args) => test::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Image(args) => image::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            say::complain(format_args!("\n{}", failure.text));
            ExitCode::from(failure.code)
        }
    }
}
