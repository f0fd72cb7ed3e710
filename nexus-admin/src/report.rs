//! What a command answers with.

use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// An answer. Its JSON's field names are promised to scripts.
pub(crate) trait Report: Serialize {
    /// For people: lines, the last one ended.
    fn text(&self) -> String;
}

/// Prints an answer.
pub(crate) fn print(report: &impl Report, json: bool) -> Result<(), Failure> {
    let text = if json {
        let json = serde_json::to_string_pretty(report);
        format!("{}\n", json.map_err(Failure::failed)?)
    } else {
        report.text()
    };
    // A reader that went away has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
