//! Printing that cannot fail: a reader that went away, or a terminal that was
//! closed, must not end a program that still has things to stop.

use std::fmt::Display;
use std::io::Write;

pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// For what went wrong.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
