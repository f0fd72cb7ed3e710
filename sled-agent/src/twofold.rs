//! A JSON file for what changes often: two lines of one length, which are written
//! in turn, each over what it said before. No file is made for a change, no name
//! moves, and no directory has to be durable again.
//!
//! A line is `{"turn":"<16 hex digits>","crc32":"<8 hex digits>","is":<value>}`,
//! filled up with blanks; the checksum is of all of it that comes after. What the
//! file says is the line of the later turn whose checksum is right. A crash spoils
//! at most the line that was being written, and leaves the other.

use crate::files::{self, FileError};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What lines are a multiple of: the disk's unit.
const UNIT: usize = 4096;

/// How much a value may grow before its file is made anew.
const MARGIN: usize = 512;

/// Makes a file say `value`, durably: after a crash at any moment it says either
/// this or what it said before. One writer to a path at a time.
pub(crate) async fn write<T: Serialize>(
    path: Utf8PathBuf,
    value: &T,
) -> Result<(), FileError> {
    let text = serde_json::to_string(value).map_err(io::Error::from);
    files::blocking("write", path, move |path| {
        let text = text?;
        match over_the_older(path, &text) {
            Ok(true) => Ok(()),
            // What failed may have left a line that is whole and not durable, which
            // the next one must not rely on.
            Ok(false) | Err(_) => make(path, &text),
        }
    })
    .await
}

/// Reads every such file of a directory. What whoever wrote them did not live to make
/// durable is so then: the other line is the next to be written over.
pub(crate) async fn read_all<T>(dir: Utf8PathBuf) -> Result<Vec<T>, FileError>
where
    T: DeserializeOwned + Send + 'static,
{
    let mut values = Vec::new();
    for path in files::all(dir.clone()).await? {
        values.push(files::blocking("read", path, |path| value(path)).await?);
    }
    files::blocking("sync", dir, |dir| File::open(dir)?.sync_all()).await?;
    Ok(values)
}

fn value<T: DeserializeOwned>(path: &Utf8Path) -> io::Result<T> {
    let kept = std::fs::read(path)?;
    File::open(path)?.sync_all()?;
    let text = match lines(&kept).and_then(newest) {
        Some((_, line)) => line.is,
        // Before there were two lines, the value was the file.
        None => &kept[..],
    };
    Ok(serde_json::from_slice(text)?)
}

/// A line, as it was read.
struct Line<'a> {
    turn: u64,
    is: &'a [u8],
}

/// The two halves of a file that may have lines.
fn lines(kept: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = kept.len() / 2;
    (len > 0 && kept.len().is_multiple_of(2 * UNIT)).then(|| kept.split_at(len))
}

/// Which line is the newest, and what it says; none if neither is whole.
fn newest<'a>(
    (first, second): (&'a [u8], &'a [u8]),
) -> Option<(usize, Line<'a>)> {
    let lines = [first, second].map(parse);
    lines
        .into_iter()
        .enumerate()
        .filter_map(|(n, line)| Some((n, line?)))
        .max_by_key(|(_, line)| line.turn)
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
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
    (number(crc)? == u64::from(checksum(turn, is))).then_some(Line { turn, is })
}

fn checksum(turn: u64, is: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&turn.to_be_bytes());
    hasher.update(is);
    hasher.finalize()
}

fn line(turn: u64, text: &str) -> Vec<u8> {
    let crc = checksum(turn, text.as_bytes());
    format!(r#"{{"turn":"{turn:016x}","crc32":"{crc:08x}","is":{text}}}"#)
        .into_bytes()
}

/// Fills a line up to this length.
fn filled(mut line: Vec<u8>, len: usize) -> Vec<u8> {
    line.resize(len - 1, b' ');
    line.push(b'\n');
    line
}

/// Writes the older line anew. Whether there was one, and it was long enough.
fn over_the_older(path: &Utf8Path, text: &str) -> io::Result<bool> {
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    let mut kept = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut kept, 0)?;
    let Some((n, newest)) = lines(&kept).and_then(newest) else {
        return Ok(false);
    };
    let (len, next) = (kept.len() / 2, line(newest.turn + 1, text));
    if next.len() >= len {
        return Ok(false);
    }
    let at = if n == 0 { size / 2 } else { 0 };
    file.write_all_at(&filled(next, len), at)?;
    file.sync_data()?;
    Ok(true)
}

/// Makes the file, with room in its lines for somewhat more.
fn make(path: &Utf8Path, text: &str) -> io::Result<()> {
    let first = line(1, text);
    let len = (first.len() + MARGIN).next_multiple_of(UNIT);
    let mut both = filled(first, len);
    both.extend(filled(Vec::new(), len));
    files::replace_durably(path, &both)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the file says.
    async fn said(path: &Utf8Path) -> Option<String> {
        let dir = path.parent().unwrap().to_path_buf();
        let all = read_all::<String>(dir).await.ok()?;
        assert_eq!(all.len(), 1);
        all.into_iter().next()
    }

    fn place() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("a.json");
        (dir, path)
    }

    #[tokio::test]
    async fn what_is_written_last_is_read_whatever_its_length() {
        let (_dir, path) = place();
        for len in [3, 100, 7, UNIT, 20, 3 * UNIT, 5, 5] {
            let text = "x".repeat(len);
            write(path.clone(), &text).await.unwrap();
            assert_eq!(said(&path).await, Some(text));
        }
    }

    #[tokio::test]
    async fn a_change_makes_no_file_and_each_line_is_json() {
        use std::os::unix::fs::MetadataExt;
        let (dir, path) = place();
        write(path.clone(), &"a").await.unwrap();
        let made = std::fs::metadata(&path).unwrap().ino();
        for text in ["b", "c", "d"] {
            write(path.clone(), &text).await.unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), made);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
        let kept = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            kept.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines[0]["is"], "c");
        assert_eq!(lines[1]["is"], "d");
    }

    #[tokio::test]
    async fn a_line_that_is_half_written_anywhere_leaves_what_was_said_before()
    {
        let (_dir, path) = place();
        for text in ["before", "newest"] {
            write(path.clone(), &text).await.unwrap();
        }
        let old = std::fs::read(&path).unwrap();
        write(path.clone(), &"after").await.unwrap();
        let new = std::fs::read(&path).unwrap();
        let written = old.iter().zip(&new).filter(|(a, b)| a != b).count();
        assert!(written > 10, "{written}");
        // Behind what was written all is blank.
        for cut in (0..100).chain((100..UNIT).step_by(500)) {
            for torn in [
                [&new[..cut], &old[cut..]].concat(),
                [&old[..cut], &new[cut..UNIT], &old[UNIT..]].concat(),
            ] {
                std::fs::write(&path, &torn).unwrap();
                let is = if torn == new { "after" } else { "newest" };
                assert_eq!(said(&path).await.as_deref(), Some(is), "{cut}");
            }
        }
        // And what comes next is written over the spoilt one.
        std::fs::write(&path, [&new[..60], &old[60..]].concat()).unwrap();
        write(path.clone(), &"later").await.unwrap();
        assert_eq!(said(&path).await.as_deref(), Some("later"));
    }

    #[tokio::test]
    async fn a_file_of_before_is_read_and_made_anew() {
        let (_dir, path) = place();
        files::write(path.clone(), &"old").await.unwrap();
        assert_eq!(said(&path).await.as_deref(), Some("old"));
        write(path.clone(), &"new").await.unwrap();
        assert_eq!(said(&path).await.as_deref(), Some("new"));
    }

    #[tokio::test]
    async fn a_file_of_which_no_line_is_whole_is_an_error_and_not_absent() {
        let (_dir, path) = place();
        write(path.clone(), &"a").await.unwrap();
        let mut kept = std::fs::read(&path).unwrap();
        kept[50] ^= 1;
        for spoilt in [&kept[..], b"", b"{"] {
            std::fs::write(&path, spoilt).unwrap();
            assert_eq!(said(&path).await, None);
        }
    }
}
