//! QEMU's monitor: lines of JSON on a socket.
//!
//! What QEMU says is not trusted: a guest may have taken it over. Lines are
//! bounded, waits too, and what is not understood is passed over, as the
//! protocol asks of its clients.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest line: what is asked here has answers of some hundred bytes.
const MAX_LINE: usize = 1 << 20;

/// How many events are kept while an answer is awaited: each only says that
/// the status is to be looked at.
const MAX_EVENTS: usize = 64;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to a monitor. Once it has failed it is of no more use.
pub(super) struct Qmp {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// The part of a line that has come so far.
    line: Vec<u8>,
    events: VecDeque<String>,
    last_id: u64,
}

/// Why QEMU does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// It refuses.
    #[error("QEMU refuses `{command}`: {why}")]
    Refused { command: &'static str, why: String },
    /// It may have done it, or not.
    #[error("QEMU does not answer")]
    Silent(#[source] io::Error),
    /// It was not told.
    #[error("QEMU's monitor is not connected")]
    NotConnected,
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

impl Qmp {
    /// Connects, and waits for as long as it takes QEMU to listen: it answers
    /// once it has understood its command line.
    pub(super) async fn connect(path: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(path).await.map_err(silent)?;
        let (read, write) = stream.into_split();
        let mut qmp = Self {
            read: BufReader::new(read),
            write,
            line: Vec::new(),
            events: VecDeque::new(),
            last_id: 0,
        };
        let greeting = qmp.message().await.map_err(silent)?;
        if greeting.get("QMP").is_none() {
            return Err(silent(io::ErrorKind::InvalidData.into()));
        }
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Has a command carried out, and returns its answer.
    pub(super) async fn execute(
        &mut self,
        command: &'static str,
    ) -> Result<Value, QmpError> {
        let answer = tokio::time::timeout(PATIENCE, self.ask(command)).await;
        answer.unwrap_or_else(|late| Err(silent(late.into())))
    }

    /// The status of the guest, in QEMU's words.
    pub(super) async fn status(&mut self) -> Result<String, QmpError> {
        let answer = self.execute("query-status").await?;
        let status = answer.get("status").and_then(Value::as_str);
        Ok(status.unwrap_or_default().to_string())
    }

    /// The name of the next event.
    ///
    /// *Cancellation*: no event is lost.
    pub(super) async fn event(&mut self) -> Result<String, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let message = self.message().await.map_err(silent)?;
            self.keep_event(&message);
        }
    }

    async fn ask(&mut self, command: &'static str) -> Result<Value, QmpError> {
        self.last_id += 1;
        let id = self.last_id;
        let mut line = json!({ "execute": command, "id": id }).to_string();
        line.push('\n');
        self.write.write_all(line.as_bytes()).await.map_err(silent)?;
        loop {
            let mut message = self.message().await.map_err(silent)?;
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                self.keep_event(&message);
                continue;
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            let error = message.get("error").and_then(|e| e.get("desc"));
            let why = error.and_then(Value::as_str).unwrap_or("no reason");
            return Err(QmpError::Refused { command, why: why.to_string() });
        }
    }

    fn keep_event(&mut self, message: &Value) {
        let event = message.get("event").and_then(Value::as_str);
        if let Some(event) = event
            && self.events.len() < MAX_EVENTS
        {
            self.events.push_back(event.to_string());
        }
    }

    /// The next line.
    ///
    /// *Cancellation*: nothing is lost; it goes on where it was.
    async fn message(&mut self) -> io::Result<Value> {
        loop {
            let chunk = self.read.fill_buf().await?;
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut parts = chunk.splitn(2, |byte| *byte == b'\n');
            let part = parts.next().unwrap_or_default();
            let ends = parts.next().is_some();
            self.line.extend_from_slice(part);
            let used = part.len() + usize::from(ends);
            self.read.consume(used);
            if ends {
                let line = std::mem::take(&mut self.line);
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.line.len() > MAX_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

fn silent(error: io::Error) -> QmpError {
    QmpError::Silent(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A monitor that says this, one part after the other, whatever it is
    /// asked.
    async fn monitor(says: &'static [&'static str]) -> Result<Qmp, QmpError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for part in says {
                stream.write_all(part.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        });
        Qmp::connect(&path).await
    }

    #[tokio::test]
    async fn answers_and_events_are_told_apart_however_they_come() {
        let mut qmp = monitor(&[
            "{\"QMP\": {}}\r\n{\"return\": {}, ",
            "\"id\": 1}\n{\"event\": \"RESUME\"}\n{\"id\": 7, \"error\": 1}\n",
            "{\"something\": \"else\"}\n{\"id\": 2, \"return\": ",
            "{\"status\": \"running\"}}\n",
            "{\"error\": {\"desc\": \"no\"}, \"id\": 3}\n",
            "{\"event\": \"SHUT",
            "DOWN\"}\n",
        ])
        .await
        .unwrap();
        assert_eq!(qmp.status().await.unwrap(), "running");
        let refused = qmp.execute("cont").await.unwrap_err();
        assert_eq!(refused.to_string(), "QEMU refuses `cont`: no");
        assert_eq!(qmp.event().await.unwrap(), "RESUME");
        assert_eq!(qmp.event().await.unwrap(), "SHUTDOWN");
    }

    #[tokio::test]
    async fn what_is_no_monitor_is_an_error() {
        let other = monitor(&["{\"hello\": 1}\n"]).await;
        assert!(matches!(other, Err(QmpError::Silent(_))));
        let other = monitor(&["hello\n"]).await;
        assert!(matches!(other, Err(QmpError::Silent(_))));
    }
}
