//! A bounded ring in a file: the last bytes of an endless stream, each found by
//! its offset in that stream.
//!
//! ```text
//! magic | capacity | oldest | end | .... the byte at offset o, at o % capacity ....
//! ```
//!
//! One process writes; any number of others read at any time, and nobody waits
//! for anybody. The writer says which bytes it is about to lose (`oldest`),
//! writes, and then says that there are more (`end`). A reader reads `end`, then
//! bytes, then `oldest`, and drops of those bytes what comes before it: they
//! may have been overwritten while they were read. A writer that dies at any
//! moment leaves a ring that says nothing wrong.
//!
//! Nothing is forced to disk: a ring that does not outlive a power failure is
//! begun anew.

use camino::Utf8Path;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

/// Another layout gets another name.
const MAGIC: [u8; 8] = *b"ring-1\n\0";

const CAPACITY_AT: u64 = 8;
const OLDEST_AT: u64 = 16;
const END_AT: u64 = 32;
const BYTES_AT: u64 = 48;

/// How often a reader begins again when the writer laps it, or when it sees a
/// half of a number. Either takes the writer a moment; a number that is still
/// a half one after so many looks is a broken file.
const LOOKS: u32 = 1000;

/// The writing end. There must be but one at a time.
#[derive(Debug)]
pub(crate) struct Ring {
    file: File,
    capacity: u64,
    oldest: u64,
    end: u64,
}

/// A reading end.
#[derive(Debug)]
pub(crate) struct RingReader {
    file: File,
    capacity: u64,
}

/// A part of the stream: bytes that follow one another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Part {
    /// The offset of the first byte; where it would be if there is none.
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
    /// The offset after the last byte.
    pub(crate) end: u64,
}

impl Ring {
    /// Opens the ring at `path` to go on at its end; makes it, to hold
    /// `capacity` bytes, if it is not there or makes no sense.
    ///
    /// *Errors*: the capacity is 0, or the file cannot be made.
    pub(crate) fn open(path: &Utf8Path, capacity: u64) -> io::Result<Self> {
        match Self::reopen(path) {
            Ok(ring) => Ok(ring),
            Err(error) if is_no_ring(&error) => Self::create(path, capacity),
            Err(error) => Err(error),
        }
    }

    /// Adds `bytes` at the end. What is older than the capacity is lost.
    ///
    /// *Errors*: a part of them may have been added; readers see no byte that
    /// was not.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let at_once = self.capacity.min(length(bytes));
            let Some((piece, rest)) = bytes.split_at_checked(size(at_once)?)
            else {
                return Err(nonsense());
            };
            self.append_piece(piece)?;
            bytes = rest;
        }
        Ok(())
    }

    /// Adds what fits the ring as a whole.
    fn append_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        let end = self.end + length(piece);
        let oldest = self.oldest.max(end.saturating_sub(self.capacity));
        if oldest != self.oldest {
            put_number(&self.file, OLDEST_AT, oldest)?;
            self.oldest = oldest;
        }
        let at = self.end % self.capacity;
        let until_wrap = size(length(piece).min(self.capacity - at))?;
        let (to_the_edge, wrapped) = piece.split_at(until_wrap);
        self.file.write_all_at(to_the_edge, BYTES_AT + at)?;
        self.file.write_all_at(wrapped, BYTES_AT)?;
        put_number(&self.file, END_AT, end)?;
        self.end = end;
        Ok(())
    }

    fn reopen(path: &Utf8Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let capacity = checked_capacity(&file)?;
        let oldest = number(&file, OLDEST_AT)?;
        let end = number(&file, END_AT)?;
        match end.checked_sub(oldest) {
            Some(kept) if kept <= capacity => {}
            // A writer died in the middle of a piece as large as the ring.
            None if oldest - end <= capacity => {}
            Some(_) | None => return Err(nonsense()),
        }
        Ok(Self { file, capacity, oldest, end })
    }

    /// Under another name first: nobody sees half a header.
    fn create(path: &Utf8Path, capacity: u64) -> io::Result<Self> {
        if capacity == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let half = path.with_extension("tmp");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&half)?;
        file.set_len(BYTES_AT + capacity)?;
        let mut header = Vec::from(MAGIC);
        header.extend(capacity.to_le_bytes());
        header.extend(twice(0).to_le_bytes());
        header.extend(twice(0).to_le_bytes());
        file.write_all_at(&header, 0)?;
        std::fs::rename(&half, path)?;
        Ok(Self { file, capacity, oldest: 0, end: 0 })
    }
}

impl RingReader {
    /// *Errors*: there is none (`NotFound`), or it is no ring (`InvalidData`).
    pub(crate) fn open(path: &Utf8Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let capacity = checked_capacity(&file)?;
        Ok(Self { file, capacity })
    }

    /// The offset after the last byte.
    pub(crate) fn end(&self) -> io::Result<u64> {
        number(&self.file, END_AT)
    }

    /// Up to `max_bytes` bytes from the offset `from` on: from a later one, if
    /// those are lost; from the end, if there are none yet.
    pub(crate) fn read(&self, from: u64, max_bytes: u64) -> io::Result<Part> {
        for _ in 0..LOOKS {
            let end = number(&self.file, END_AT)?;
            let oldest = number(&self.file, OLDEST_AT)?;
            let start = from.max(oldest).min(end);
            let upto = end.min(start.saturating_add(max_bytes));
            let bytes = self.bytes(start, upto)?;
            let oldest = number(&self.file, OLDEST_AT)?;
            if let Some(part) = sound(start, bytes, oldest)? {
                return Ok(part);
            }
        }
        let end = number(&self.file, END_AT)?;
        Ok(Part { start: end, bytes: Vec::new(), end })
    }

    /// What lies where the bytes from `start` to `end` are, or were.
    fn bytes(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size(end - start)?];
        let at = start % self.capacity;
        let until_wrap = (end - start).min(self.capacity - at);
        let (to_the_edge, wrapped) = bytes.split_at_mut(size(until_wrap)?);
        self.file.read_exact_at(to_the_edge, BYTES_AT + at)?;
        self.file.read_exact_at(wrapped, BYTES_AT)?;
        Ok(bytes)
    }
}

/// What of `bytes`, read from the offset `start` on, is sure to be what stood
/// there if by now `oldest` is the first that is kept; none if some were read
/// and all are lost.
fn sound(
    start: u64,
    mut bytes: Vec<u8>,
    oldest: u64,
) -> io::Result<Option<Part>> {
    let end = start + length(&bytes);
    if oldest <= start || bytes.is_empty() {
        return Ok(Some(Part { start, bytes, end }));
    }
    if oldest >= end {
        return Ok(None);
    }
    bytes.drain(..size(oldest - start)?);
    Ok(Some(Part { start: oldest, bytes, end }))
}

/// Whether this says that there is no ring, rather than that it cannot be got
/// at.
fn is_no_ring(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
    )
}

fn checked_capacity(file: &File) -> io::Result<u64> {
    let mut magic = [0; 8];
    file.read_exact_at(&mut magic, 0)?;
    let mut capacity = [0; 8];
    file.read_exact_at(&mut capacity, CAPACITY_AT)?;
    let capacity = u64::from_le_bytes(capacity);
    let length = BYTES_AT.checked_add(capacity);
    let whole = length
        .is_some_and(|all| file.metadata().is_ok_and(|file| file.len() == all));
    if magic != MAGIC || capacity == 0 || !whole {
        return Err(nonsense());
    }
    Ok(capacity)
}

fn put_number(file: &File, at: u64, number: u64) -> io::Result<()> {
    file.write_all_at(&twice(number).to_le_bytes(), at)
}

/// Each number stands there twice, the second time inverted: a reader can tell
/// when it has read a half of one and a half of another.
fn twice(number: u64) -> u128 {
    u128::from(number) | u128::from(!number) << 64
}

fn number(file: &File, at: u64) -> io::Result<u64> {
    for _ in 0..LOOKS {
        let mut twice = [0; 16];
        file.read_exact_at(&mut twice, at)?;
        let twice = u128::from_le_bytes(twice);
        let number = u64::try_from(twice & u128::from(u64::MAX));
        let inverted = u64::try_from(twice >> 64);
        if let (Ok(number), Ok(inverted)) = (number, inverted)
            && number == !inverted
        {
            return Ok(number);
        }
        std::thread::yield_now();
    }
    Err(nonsense())
}

fn nonsense() -> io::Error {
    let what = "this file is not a ring, or is a broken one";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
