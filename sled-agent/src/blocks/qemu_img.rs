//! Runs `qemu-img`: one child for each thing that it does.
//!
//! Formats and base files are always named, never taken from a header. What a
//! child says goes to the log and to nobody else.

use super::durable;
use super::header::Header;
use super::places::Names;
use camino::Utf8Path;
use serde_json::{Value, json};
use slog::{Logger, debug, warn};
use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// How long what writes next to nothing may take.
const SHORT: Duration = Duration::from_secs(60);
/// How long the copying of all bytes may take: some terabytes at the speed of
/// a slow network, and not for ever.
const LONG: Duration = Duration::from_secs(12 * 60 * 60);

/// How many of those there are at once, whoever asks.
static SHORT_ONES: Semaphore = Semaphore::const_new(8);

/// Why it did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    /// There is no room left.
    #[error("there is no room left")]
    Full,
    /// Somebody else has the file.
    #[error("somebody else has the file")]
    Locked,
    /// It took longer than it may.
    #[error("qemu-img did not end")]
    TimedOut,
    /// It said so, and what it said is in the log.
    #[error("qemu-img failed")]
    Failed,
    /// It could not be run.
    #[error("qemu-img cannot be run")]
    NotRun(#[source] io::Error),
}

/// Makes a file of zeroes.
pub(super) async fn create(
    log: &Logger,
    target: &Utf8Path,
    size_bytes: u64,
) -> Result<(), ToolError> {
    let size = size_bytes.to_string();
    let arguments = ["create", "-q", "-f", "qcow2", target.as_str(), &size];
    run_short(log, &arguments).await
}

/// Makes a file that says of all its bytes that they are those of the file
/// that is called `base` in the directory that it will be moved to, and zeroes
/// behind that one's end.
pub(super) async fn create_over(
    log: &Logger,
    target: &Utf8Path,
    base: &str,
    size_bytes: u64,
) -> Result<(), ToolError> {
    let (target, size) = (target.as_str(), size_bytes.to_string());
    // -u: it is not there as seen from where the file is made.
    let arguments = [
        "create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", "qcow2", target,
        &size,
    ];
    run_short(log, &arguments).await
}

/// Makes a file with all the bytes of a raw one.
pub(super) async fn convert_raw(
    log: &Logger,
    source: &Utf8Path,
    target: &Utf8Path,
) -> Result<(), ToolError> {
    let source = json!({ "driver": "raw", "file": file(source) });
    convert(log, &source, target).await
}

/// Makes a file with all the bytes of blocks that are there.
pub(super) async fn convert_blocks(
    log: &Logger,
    source: &Names,
    header: Header,
    target: &Utf8Path,
) -> Result<(), ToolError> {
    let base = match header.is_backed {
        true => qcow2(&source.base(), &Value::Null),
        false => Value::Null,
    };
    convert(log, &qcow2(&source.ready(), &base), target).await
}

/// Makes a file longer.
pub(super) async fn grow(
    log: &Logger,
    target: &Utf8Path,
    size_bytes: u64,
) -> Result<(), ToolError> {
    let (target, size) = (target.as_str(), size_bytes.to_string());
    run_short(log, &["resize", "-q", "-f", "qcow2", target, &size]).await
}

async fn convert(
    log: &Logger,
    source: &Value,
    target: &Utf8Path,
) -> Result<(), ToolError> {
    let (source, target) = (format!("json:{source}"), target.as_str());
    // What is all zeroes takes no room. Errors of the disk are seen, which the
    // default of -t would not.
    let arguments = [
        "convert",
        "-q",
        "-S",
        "4k",
        "-t",
        "writeback",
        "-O",
        "qcow2",
        &source,
        target,
    ];
    run(log, LONG, &arguments).await
}

fn qcow2(path: &Utf8Path, base: &Value) -> Value {
    json!({ "driver": "qcow2", "file": file(path), "backing": base })
}

fn file(path: &Utf8Path) -> Value {
    json!({ "driver": "file", "filename": path })
}

async fn run_short(log: &Logger, arguments: &[&str]) -> Result<(), ToolError> {
    // It is never closed.
    let _turn = SHORT_ONES.acquire().await;
    run(log, SHORT, arguments).await
}

/// Runs it to its end. Dropped, it is killed; and it does not outlive this
/// process: it would hold its locks. (It dies with the thread that started it,
/// to be exact: one of the runtime's, and those live as long as the process.)
async fn run(
    log: &Logger,
    patience: Duration,
    arguments: &[&str],
) -> Result<(), ToolError> {
    debug!(log, "running qemu-img"; "arguments" => ?arguments);
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "qemu-img"])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(patience, output)
        .await
        .map_err(|_| ToolError::TimedOut)?
        .map_err(ToolError::NotRun)?;
    if output.status.success() {
        return Ok(());
    }
    warn!(log, "qemu-img failed";
        "arguments" => ?arguments,
        "status" => %output.status,
        "stderr" => %String::from_utf8_lossy(&output.stderr));
    Err(why(&output))
}

/// qemu-img has one exit code for everything.
fn why(output: &Output) -> ToolError {
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No space left on device")
        || said.contains("Disk quota exceeded")
    {
        ToolError::Full
    } else if said.contains("Is another process using the image") {
        ToolError::Locked
    } else {
        ToolError::Failed
    }
}

impl ToolError {
    /// Whether there is no room left.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Full => true,
            Self::NotRun(error) => durable::is_full(error.kind()),
            Self::Locked | Self::TimedOut | Self::Failed => false,
        }
    }
}
