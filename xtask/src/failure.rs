//! The one error of this program: a text for the person at the terminal and
//! an exit code for the script. Nobody branches on more than that.

use std::fmt::Display;

/// Exit code for "stopped by a signal", as shells count it for SIGINT.
const INTERRUPTED: u8 = 130;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), code: 1 }
    }

    pub(crate) fn interrupted() -> Failure {
        Failure { text: String::from("Interrupted."), code: INTERRUPTED }
    }
}

/// Says what was being done when something else failed.
pub(crate) trait Context<T> {
    fn context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Failure::new(format!("{}: {e}", doing())))
    }
}
