//! `cargo xtask fuzz`: what strangers may send, tried with everything that a
//! fuzzer thinks of (`fuzz/`).

use crate::cargo;
use crate::failure::{Context, Failure, Result};
use crate::interrupt::Interrupt;
use crate::say::say;
use std::process::{Command, ExitCode, Stdio};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to try, of `fuzz/fuzz_targets`; by default all of it
    targets: Vec<String>,
    /// How long to try each, in seconds
    #[arg(long, default_value_t = 10)]
    secs: u32,
    /// Where there is no nightly compiler, say so and do nothing
    #[arg(long)]
    if_possible: bool,
}

/// What we fuzz is safe Rust, in which no sanitizer finds more than the checks
/// that are compiled in.
const FLAGS: [&str; 2] = ["--sanitizer", "none"];

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    if !answers(&["--version"]) {
        let why = "There is no nightly Rust here, which fuzzing needs: \
                   rustup toolchain install nightly";
        if args.if_possible {
            say(format_args!("Skipped: {why}"));
            return Ok(ExitCode::SUCCESS);
        }
        return Err(Failure::new(why));
    }
    if !answers(&["fuzz", "--version"]) {
        let install = ["install", "--locked", "--quiet", "cargo-fuzz"];
        carry_out(nightly(&install), "cargo-fuzz", &interrupt)?;
    }
    let mut build = nightly(&["fuzz", "build"]);
    build.args(FLAGS);
    carry_out(build, "the build", &interrupt)?;
    for target in targets(args)? {
        say(format_args!("Trying {target} for {} s", args.secs));
        let mut fuzz = nightly(&["fuzz", "run"]);
        fuzz.args(FLAGS)
            .args([&target, "--", "-timeout=10", "-print_final_stats=1"])
            .arg(format!("-max_total_time={}", args.secs));
        carry_out(fuzz, &target, &interrupt)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn nightly(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(args);
    command.current_dir(cargo::workspace());
    // Of the compiler that we run under.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

fn answers(args: &[&str]) -> bool {
    let mut command = nightly(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn carry_out(
    mut command: Command,
    what: &str,
    interrupt: &Interrupt,
) -> Result<()> {
    let status = cargo::run(&mut command, interrupt)?;
    if interrupt.seen().is_some() {
        return Err(Failure::interrupted());
    }
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{what} failed: see above"))),
    }
}

fn targets(args: &Args) -> Result<Vec<String>> {
    if !args.targets.is_empty() {
        return Ok(args.targets.clone());
    }
    let dir = cargo::workspace().join("fuzz/fuzz_targets");
    let unread = || format!("cannot read {dir}");
    let mut targets = Vec::new();
    for entry in dir.read_dir_utf8().context(unread)? {
        let entry = entry.context(unread)?;
        targets.extend(entry.path().file_stem().map(str::to_owned));
    }
    targets.sort();
    Ok(targets)
}
