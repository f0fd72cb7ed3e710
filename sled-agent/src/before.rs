//! What agents kept in files of their own before there was a [`ledger`](crate::ledger):
//! read once, by the first that has one.
//!
//! A file is JSON, or two lines of one length, which were written in turn:
//! `{"turn":"<16 hex digits>","crc32":"<8 hex digits>","is":<value>}`, filled up with
//! blanks; the checksum is of all of it that comes after. What such a file says is the
//! line of the later turn whose checksum is right.

use crate::files::{self, FileError};
use crate::ledger::{Change, Ledger, Outlives, Table};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use std::io;
use uuid::Uuid;

/// What lines are a multiple of.
const UNIT: usize = 4096;

/// Moves what these directories say to those tables, each row by the name of its
/// file. Nothing else may write meanwhile; if it is cut off it goes on the next time.
/// What was to outlive a process alone, and makes no sense since its host has
/// crashed, is passed over.
pub(crate) async fn take_over(
    ledger: &Ledger,
    parts: &[(Utf8PathBuf, Table)],
    outlives: Outlives,
) -> Result<(), FileError> {
    let (mut changes, mut taken) = (Vec::new(), Vec::new());
    for (dir, table) in parts {
        let files = files::all(dir.clone()).await?;
        let named = |file: Utf8PathBuf| {
            let id: Uuid = file.file_stem()?.parse().ok()?;
            Some((id, file))
        };
        let files: Vec<_> = files.into_iter().filter_map(named).collect();
        if files.is_empty() {
            continue;
        }
        let paths = files.iter().map(|(_, path)| path.clone()).collect();
        taken.push((dir.clone(), paths));
        let all = move |_: &Utf8Path| read(&files, outlives);
        for (id, value) in files::blocking("read", dir.clone(), all).await? {
            changes.push(Change::put(*table, id, &value));
        }
    }
    ledger.write(changes).await?;
    for (dir, paths) in taken {
        // One that came back later would be taken for what is so now.
        files::remove_all(dir, paths).await?;
    }
    Ok(())
}

fn read(
    files: &[(Uuid, Utf8PathBuf)],
    outlives: Outlives,
) -> io::Result<Vec<(Uuid, Value)>> {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    let mut rows = Vec::new();
    for (id, path) in files {
        match (value(path), outlives) {
            (Ok(value), _) => rows.push((*id, value)),
            (Err(error), Outlives::Process)
                if matches!(error.kind(), InvalidData | UnexpectedEof) => {}
            (Err(error), _) => {
                let why = format!("{path}: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
        }
    }
    Ok(rows)
}

fn value(path: &Utf8Path) -> io::Result<Value> {
    let kept = std::fs::read(path)?;
    let text = match lines(&kept).and_then(newest) {
        Some((_, text)) => text,
        None => &kept[..],
    };
    Ok(serde_json::from_slice(text)?)
}

/// The two halves of a file that may have lines.
fn lines(kept: &[u8]) -> Option<[&[u8]; 2]> {
    let len = kept.len() / 2;
    let both = kept.split_at(len);
    (len > 0 && kept.len().is_multiple_of(2 * UNIT)).then_some(both.into())
}

/// What the newest line says, after its turn; none if neither is whole.
fn newest(lines: [&[u8]; 2]) -> Option<(u64, &[u8])> {
    lines.into_iter().filter_map(parse).max_by_key(|(turn, _)| *turn)
}

fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(br#"{"turn":""#)?;
    let (turn, rest) = rest.split_at_checked(16)?;
    let rest = rest.strip_prefix(br#"","crc32":""#)?;
    let (crc, rest) = rest.split_at_checked(8)?;
    let is = rest.strip_prefix(br#"","is":"#)?.trim_ascii_end();
    let is = is.strip_suffix(b"}")?;
    let number = |digits| {
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let turn = number(turn)?;
    (number(crc)? == u64::from(checksum(turn, is))).then_some((turn, is))
}

fn checksum(turn: u64, is: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&turn.to_be_bytes());
    hasher.update(is);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("one");

    /// A line, blanks and all.
    fn line(turn: u64, text: &str) -> String {
        let crc = checksum(turn, text.as_bytes());
        let line = format!(
            r#"{{"turn":"{turn:016x}","crc32":"{crc:08x}","is":{text}}}"#
        );
        format!("{line:4095}\n")
    }

    /// What an agent of now makes of a file, if it goes on at all.
    async fn taken(
        file: &str,
        outlives: Outlives,
    ) -> Result<Option<Value>, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let id = Uuid::from_u128(7);
        let old = dir.join("old");
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join(format!("{id}.json")), file).unwrap();
        std::fs::write(old.join("half.tmp"), "{").unwrap();
        let path = dir.join("new.db");
        let ledger = Ledger::open(path, &[TABLE], outlives).await.unwrap();
        let parts = [(old.clone(), TABLE), (dir.join("none"), TABLE)];
        take_over(&ledger, &parts, outlives).await?;
        assert_eq!(files::all(old).await.unwrap(), [""; 0]);
        // Once more: there is nothing left to be taken.
        take_over(&ledger, &parts, outlives).await.unwrap();
        ledger.get(TABLE, id).await
    }

    #[tokio::test]
    async fn of_two_lines_the_later_one_counts_and_of_one_that_is_torn_the_other()
     {
        let [old, new] = [line(9, r#""old""#), line(10, r#""new""#)];
        let torn = new.replacen('n', "N", 1);
        for (file, says) in [
            (format!("{old}{new}"), "new"),
            (format!("{new}{old}"), "new"),
            (format!("{old}{torn}"), "old"),
            (format!("{}{new}", " ".repeat(UNIT)), "new"),
            (r#""plain""#.to_string(), "plain"),
        ] {
            let taken = taken(&file, Outlives::Host).await.unwrap();
            assert_eq!(taken, Some(Value::from(says)));
        }
    }

    #[tokio::test]
    async fn what_is_spoilt_is_an_error_unless_it_ended_with_the_host() {
        let torn = line(9, "1").replacen('1', "2", 1);
        for spoilt in [format!("{torn}{torn}"), String::new(), "{".to_string()]
        {
            let why = taken(&spoilt, Outlives::Host).await.unwrap_err();
            let why = crate::logger::chain(&why).to_string();
            assert!(why.contains(&Uuid::from_u128(7).to_string()), "{why}");
            let taken = taken(&spoilt, Outlives::Process).await.unwrap();
            assert_eq!(taken, None);
        }
    }
}
