//! The log: JSON for machines, text for a terminal, on standard error.

use crate::config::LogLevel;
use slog::{Drain, Level, LevelFilter, Logger, o};
use std::io::{IsTerminal, LineWriter, stderr};

/// Makes the root logger. Its lines are all out once it and its children are
/// dropped.
pub fn root(level: LogLevel) -> Logger {
    let level = match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warning,
        LogLevel::Error => Level::Error,
    };
    if stderr().is_terminal() {
        let decorator = slog_term::TermDecorator::new().stderr().build();
        let text = slog_term::FullFormat::new(decorator).build();
        over(LevelFilter::new(text.fuse(), level))
    } else {
        // It writes word by word.
        let json =
            slog_bunyan::with_name("sled-agent", LineWriter::new(stderr()));
        over(LevelFilter::new(json.build().fuse(), level))
    }
}

/// Writes off the threads that do the work; none of them waits for the log,
/// and what it cannot keep up with is dropped and counted.
fn over<D>(drain: D) -> Logger
where
    D: Drain<Err = slog::Never, Ok = Option<()>> + Send + 'static,
{
    let drain = slog_async::Async::new(drain.fuse()).chan_size(4096).build();
    Logger::root(drain.fuse(), o!())
}

/// An error with its causes, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
