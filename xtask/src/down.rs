//! `cargo xtask down`: stops what `up` started.

use crate::failure::Result;
use crate::home::Home;
use crate::say::say;
use crate::settings::Settings;
use crate::stack::Stack;
use camino::Utf8PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory that `up` was given [default: .nexus]
    #[arg(long)]
    dir: Option<Utf8PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let Some(home) = Home::existing(args.dir) else {
        say("Nothing was started here.");
        return Ok(ExitCode::SUCCESS);
    };
    let Some(settings) = Settings::load(&home)? else {
        say(format_args!("Nothing was started in {}.", home.dir()));
        return Ok(ExitCode::SUCCESS);
    };
    let _lock = home.lock_patiently()?;
    let stack = Stack::new(&home, &settings)?;
    let guests = stack.guests();
    let mut all = stack.all().chain(&guests);
    let ran = all.any(|process| process.find().is_some());
    stack.stop()?;
    match (ran, settings.ephemeral) {
        (false, _) => say(format_args!("Nothing runs in {}.", home.dir())),
        (true, false) => {
            say(format_args!("Stopped; the data is in {}.", home.dir()))
        }
        (true, true) => say("Stopped."),
    }
    Ok(ExitCode::SUCCESS)
}
