//! Logs: JSON by default, readable text on a terminal, both on stderr.

use slog::{Drain, Level, LevelFilter, Logger, o};
use std::io::IsTerminal;
use std::str::FromStr;

/// A logger that passes on `level` and above. An unknown level is `info`.
pub fn logger(level: &str) -> Logger {
    let level = Level::from_str(level).unwrap_or(Level::Info);
    if std::io::stderr().is_terminal() {
        let decorator = slog_term::TermDecorator::new().stderr().build();
        let drain = slog_term::FullFormat::new(decorator).build().fuse();
        root(LevelFilter::new(drain, level))
    } else {
        let drain =
            slog_bunyan::with_name("nexus", std::io::stderr()).build().fuse();
        root(LevelFilter::new(drain, level))
    }
}

fn root<D>(drain: D) -> Logger
where
    D: Drain + Send + 'static,
    D::Err: std::fmt::Debug,
{
    // Never blocks a request for the sake of a log line, and says so when it
    // has dropped some.
    let drain = slog_async::Async::new(drain.fuse()).chan_size(4096).build();
    Logger::root(drain.fuse(), o!())
}
