//! Builds: cargo, as if it were called from the shell.

use crate::failure::{Context, Failure, Result};
use crate::interrupt::{Interrupt, Signal};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Pid;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What cargo calls the directory of what is built for release.
const RELEASE: &str = "release";

const POLL: Duration = Duration::from_millis(50);

/// The top of the source tree.
pub(crate) fn workspace() -> Utf8PathBuf {
    let ours = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| String::from(env!("CARGO_MANIFEST_DIR")));
    let ours = Utf8PathBuf::from(ours);
    ours.parent().map_or_else(|| ours.clone(), Utf8Path::to_path_buf)
}

/// A cargo command in the workspace. Without the variables that `cargo run`
/// set for us: build scripts would see them and build everything again.
pub(crate) fn command() -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST")
        {
            command.env_remove(name);
        }
    }
    command
}

/// The directory of our own program, where cargo puts the others too.
pub(crate) fn bin_dir() -> Result<Utf8PathBuf> {
    let exe = std::env::current_exe().context(|| "cannot find our program")?;
    Utf8PathBuf::from_path_buf(exe)
        .ok()
        .and_then(|exe| exe.parent().map(Utf8Path::to_path_buf))
        .ok_or_else(|| Failure::new("our program's path is not UTF-8"))
}

/// Builds in the profile that we were built in ourselves, so that what comes
/// out lands in [`bin_dir`].
pub(crate) fn build(args: &[&str], interrupt: &Interrupt) -> Result<()> {
    let mut cargo = command();
    cargo.arg("build").args(args);
    if bin_dir()?.file_name() == Some(RELEASE) {
        cargo.arg("--release");
    }
    built(cargo, interrupt)
}

/// Builds for release; where what comes out lands.
pub(crate) fn build_release(
    args: &[&str],
    interrupt: &Interrupt,
) -> Result<Utf8PathBuf> {
    let mut cargo = command();
    cargo.args(["build", "--release"]).args(args);
    built(cargo, interrupt)?;
    Ok(bin_dir()?.with_file_name(RELEASE))
}

fn built(mut cargo: Command, interrupt: &Interrupt) -> Result<()> {
    if run(&mut cargo, interrupt)?.success() {
        return Ok(());
    }
    match interrupt.seen() {
        Some(_) => Err(Failure::interrupted()),
        None => Err(Failure::new("The build failed; its errors are above.")),
    }
}

/// Runs it to its end. What is sent to us alone is handed on; Ctrl-C the
/// terminal sends to both of us.
pub(crate) fn run(
    command: &mut Command,
    interrupt: &Interrupt,
) -> Result<ExitStatus> {
    let mut child = command
        .spawn()
        .context(|| format!("cannot run {:?}", command.get_program()))?;
    let pid = Pid::from_child(&child);
    let mut told = false;
    loop {
        if let Some(status) =
            child.try_wait().context(|| "cannot wait for a child")?
        {
            return Ok(status);
        }
        if interrupt.seen() == Some(Signal::ToUsAlone) && !told {
            let term = rustix::process::Signal::TERM;
            let _ = rustix::process::kill_process(pid, term);
            told = true;
        }
        std::thread::sleep(POLL);
    }
}
