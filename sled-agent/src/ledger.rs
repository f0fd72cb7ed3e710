//! A SQLite file for what changes often: JSON by table and id.
//!
//! One thread writes it. Whatever is asked for while it is at work is done together
//! next, in one transaction, and told once that is durable. Anybody may read it
//! meanwhile, of this process or another (`sqlite3 FILE`).

use crate::files::{self, FileError};
use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The layout, as it stands in `user_version`.
const LAYOUT: i64 = 1;

/// How large the log is left after what is in it stands in the file.
const LOG_BYTES: i64 = 16 << 20;

/// How long to wait for another process that writes: an operator's, or a test's.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of a crash a change that is told outlives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outlives {
    /// The process's.
    Process,
    /// The host's, too.
    Host,
}

/// A table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Table(pub(crate) &'static str);

/// What is to be done with one row.
#[derive(Debug)]
pub(crate) struct Change(serde_json::Result<Row>);

/// What a row is to say; nothing if it is to be removed.
type Row = (Table, Uuid, Option<String>);

impl Change {
    /// Makes it say `value`, whatever it said.
    pub(crate) fn put<T: Serialize>(table: Table, id: Uuid, value: &T) -> Self {
        let json = serde_json::to_string(value);
        Self(json.map(|json| (table, id, Some(json))))
    }

    /// Removes it. One that is not there is removed already.
    pub(crate) fn remove(table: Table, id: Uuid) -> Self {
        Self(Ok((table, id, None)))
    }
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    path: Utf8PathBuf,
    asks: Sender<Ask>,
    reader: Arc<Mutex<Connection>>,
}

/// Somebody who waits.
struct Ask {
    rows: Vec<Row>,
    told: oneshot::Sender<Result<(), Arc<rusqlite::Error>>>,
}

impl Ledger {
    /// Opens the file, or makes it, with these tables.
    ///
    /// *Errors*: it cannot be read, is broken, or is of a later layout.
    pub(crate) async fn open(
        path: Utf8PathBuf,
        tables: &'static [Table],
        outlives: Outlives,
    ) -> Result<Self, FileError> {
        let (reader, asks) =
            files::blocking("open", path.clone(), move |path| {
                let open = || -> rusqlite::Result<_> {
                    let mut writer = connect(path)?;
                    set_up(&mut writer, tables, outlives)?;
                    Ok((connect(path)?, writer))
                };
                let (reader, writer) = open().map_err(io::Error::other)?;
                let (asks, asked) = channel();
                std::thread::Builder::new()
                    .name("ledger".to_string())
                    .spawn(move || keep(writer, &asked))?;
                Ok((reader, asks))
            })
            .await?;
        Ok(Self { path, asks, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Makes these changes, all or none.
    ///
    /// *Errors*: they may have been made, or not.
    pub(crate) async fn write(
        &self,
        changes: Vec<Change>,
    ) -> Result<(), FileError> {
        let (told, hears) = oneshot::channel();
        let rows = changes.into_iter().map(|Change(row)| row);
        let rows = rows.collect::<Result<_, _>>().map_err(|why| {
            FileError::new("write", self.path.clone(), why.into())
        })?;
        // If its thread is gone, this one is told by that.
        let _ = self.asks.send(Ask { rows, told });
        let why = match hears.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => io::Error::other(why),
            Err(gone) => io::Error::other(gone),
        };
        Err(FileError::new("write", self.path.clone(), why))
    }

    /// What a row says; none if there is none.
    pub(crate) async fn get<T>(
        &self,
        table: Table,
        id: Uuid,
    ) -> Result<Option<T>, FileError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let Table(name) = table;
        let sql = format!("SELECT json FROM {name} WHERE id = ?1");
        let json = self.read(move |reader| {
            let mut row = reader.prepare_cached(&sql)?;
            let id = [id.to_string()];
            row.query_one(id, |row| row.get::<_, String>(0)).optional()
        });
        json.await?.map(|json| self.parsed(&json)).transpose()
    }

    /// What all rows say, by id.
    pub(crate) async fn all<T>(&self, table: Table) -> Result<Vec<T>, FileError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let Table(name) = table;
        let sql = format!("SELECT json FROM {name} ORDER BY id");
        let all = self.read(move |reader| {
            let mut rows = reader.prepare(&sql)?;
            rows.query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()
        });
        all.await?.iter().map(|json| self.parsed(json)).collect()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let reader = Arc::clone(&self.reader);
        files::blocking("read", self.path.clone(), move |_| {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            read(&reader).map_err(io::Error::other)
        })
        .await
    }

    fn parsed<T: DeserializeOwned>(&self, json: &str) -> Result<T, FileError> {
        serde_json::from_str(json).map_err(|why| {
            FileError::new("understand", self.path.clone(), why.into())
        })
    }
}

fn connect(path: &Utf8Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

fn set_up(
    writer: &mut Connection,
    tables: &[Table],
    outlives: Outlives,
) -> rusqlite::Result<()> {
    // Readers and the writer do not wait for each other, and a commit is one sync.
    let mode: String =
        writer.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
            row.get(0)
        })?;
    if mode != "wal" {
        return Err(unfit(format!("its journal is {mode}, and must be wal")));
    }
    // A reader that stays may have it grow; it shrinks again once that is gone.
    writer.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    let synchronous = match outlives {
        Outlives::Process => "NORMAL",
        Outlives::Host => "FULL",
    };
    writer.pragma_update(None, "synchronous", synchronous)?;
    let all =
        writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let layout: i64 =
        all.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout > LAYOUT {
        let what = format!("it has layout {layout}, and ours is {LAYOUT}");
        return Err(unfit(what));
    }
    for Table(name) in tables {
        all.execute(
            &format!(
                "CREATE TABLE IF NOT EXISTS {name} \
                 (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT"
            ),
            [],
        )?;
    }
    // Written each time: what the process before this one has written, and did not
    // live to make durable, is so by this commit, before anybody is told of it.
    all.pragma_update(None, "user_version", LAYOUT)?;
    all.commit()
}

fn unfit(why: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(why.into())
}

/// Does what is asked, until nobody is left to ask.
fn keep(mut writer: Connection, asked: &Receiver<Ask>) {
    while let Ok(first) = asked.recv() {
        let mut asks = vec![first];
        asks.extend(asked.try_iter());
        let (rows, told): (Vec<_>, Vec<_>) =
            asks.into_iter().map(|ask| (ask.rows, ask.told)).unzip();
        let done = commit(&mut writer, rows.into_iter().flatten());
        let done = done.map_err(Arc::new);
        for told in told {
            // Whoever does not wait any more need not know.
            let _ = told.send(done.clone());
        }
    }
}

fn commit(
    writer: &mut Connection,
    rows: impl Iterator<Item = Row>,
) -> rusqlite::Result<()> {
    let all =
        writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (Table(name), id, json) in rows {
        let id = id.to_string();
        if let Some(json) = json {
            let put = format!(
                "INSERT INTO {name} (id, json) VALUES (?1, ?2) \
                 ON CONFLICT (id) DO UPDATE SET json = excluded.json"
            );
            all.prepare_cached(&put)?.execute([id, json])?;
        } else {
            let remove = format!("DELETE FROM {name} WHERE id = ?1");
            all.prepare_cached(&remove)?.execute([id])?;
        }
    }
    all.commit()
}

#[cfg(test)]
mod tests;
