//! How a command fails: a sentence for the operator, and an exit code.

use db_queries::Error;
use nexus::error::chain;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// It was tried, or could not be.
    pub(crate) fn failed(text: impl Display) -> Failure {
        Failure { code: 1, text: text.to_string() }
    }

    /// It was wrongly asked for, or there is no such thing.
    pub(crate) fn wrongly_asked(text: impl Display) -> Failure {
        Failure { code: 2, text: text.to_string() }
    }

    /// Says why, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Who closed the other end does not read it.
        let _ = writeln!(std::io::stderr(), "nexus-admin: {}", self.text);
        ExitCode::from(self.code)
    }
}

/// The database did not do what it should, and nothing else is amiss.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::failed(chain(&error))
    }
}

/// For a look-up: `what` was not found, or the look-up failed.
pub(crate) fn missing(what: impl Display) -> impl FnOnce(Error) -> Failure {
    move |error| {
        let Error::NotFound = error else { return error.into() };
        Failure::wrongly_asked(what)
    }
}
