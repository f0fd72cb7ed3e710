//! The programs within this program: what the agent starts of itself.

use super::launch::Launch;
use super::warden::Warden;
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// A part of this program that runs in a process of its own.
pub struct Stage(Which);

enum Which {
    Warden(Warden),
    Launch(Launch),
}

impl Stage {
    /// The stage that these arguments, of a whole command line, are meant for,
    /// if they are not the agent's.
    pub fn of(args: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut args = args.skip(1).peekable();
        match args.peek()?.to_str()? {
            "warden" => Some(Self(Which::Warden(Warden::parse_from(args)))),
            "launch" => Some(Self(Which::Launch(Launch::parse_from(args)))),
            _ => None,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> ExitCode {
        let done = match self.0 {
            Which::Warden(warden) => warden.run(),
            Which::Launch(launch) => Err(launch.run()),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // For whoever started it; nobody else would be told.
                let _ = writeln!(io::stderr(), "sled-agent: {error}");
                ExitCode::FAILURE
            }
        }
    }
}
