//! The log files of what we start, and how to quote them.

use crate::failure::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};

/// A log that is larger when its process starts is set aside first.
const LIMIT_BYTES: u64 = 64 << 20;
/// Enough to see the reason, little enough to fit a screen.
const TAIL_LINES: usize = 20;
/// A line of JSON may be long; its beginning says what it is about.
const TAIL_WIDTH: usize = 300;

/// A log file, from where its process began to write.
#[derive(Clone)]
pub(crate) struct Log {
    path: Utf8PathBuf,
    from: u64,
}

impl Log {
    /// Makes the command write there, after what others wrote.
    pub(crate) fn attach(
        path: &Utf8Path,
        command: &mut Command,
    ) -> Result<Log> {
        let (log, file) = Log::open(path)?;
        let again = file.try_clone().context(|| "cannot share the log")?;
        command.stdout(Stdio::from(file)).stderr(Stdio::from(again));
        Ok(log)
    }

    /// The same for a command whose standard output is wanted elsewhere.
    pub(crate) fn attach_stderr(
        path: &Utf8Path,
        command: &mut Command,
    ) -> Result<Log> {
        let (log, file) = Log::open(path)?;
        command.stderr(Stdio::from(file));
        Ok(log)
    }

    /// All of the file, for a process that somebody else started.
    pub(crate) fn whole(path: &Utf8Path) -> Log {
        Log { path: path.to_owned(), from: 0 }
    }

    fn open(path: &Utf8Path) -> Result<(Log, File)> {
        let length = || std::fs::metadata(path).map_or(0, |m| m.len());
        if length() > LIMIT_BYTES {
            // Best effort: a log that stays too large is better than no start.
            let _ = std::fs::rename(path, path.with_extension("log.1"));
        }
        let log = Log { path: path.to_owned(), from: length() };
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .context(|| format!("cannot open {path}"))?;
        Ok((log, file))
    }

    /// Its last lines and where the rest is.
    pub(crate) fn last_words(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.from))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return format!("(There is no log {}.)", self.path);
        }
        let tail = tail(&String::from_utf8_lossy(&bytes));
        format!("{tail}\nThe whole log: {}", self.path)
    }
}

fn tail(text: &str) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .take(TAIL_LINES)
        .map(|line| {
            let mut shown: String = line.chars().take(TAIL_WIDTH).collect();
            if shown.len() < line.len() {
                shown.push('…');
            }
            format!("  | {shown}")
        })
        .collect();
    if lines.is_empty() {
        return String::from("  (it wrote nothing)");
    }
    lines.reverse();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_short_both_ways() {
        let text = format!("first\n{}\nlast\n", "x\n".repeat(18));
        let shown = tail(&text);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(!shown.contains("first") && shown.ends_with("  | last"));
        assert!(tail(&"ä".repeat(400)).ends_with("ä…"));
        assert_eq!(tail(""), "  (it wrote nothing)");
    }
}
