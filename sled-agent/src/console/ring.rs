//! The last that a guest printed, in a file that does not grow.
//!
//! A head of 16 bytes (capacity, and how many bytes were ever appended, both
//! little-endian), then the bytes: the one at offset `n` of the whole output
//! stands at `n` modulo the capacity.

use camino::Utf8Path;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const HEAD: u64 = 16;

/// A bounded file of console output. One writer at a time.
pub(crate) struct Ring {
    file: File,
    capacity: u64,
    end: u64,
}

impl Ring {
    /// Opens the ring at `path`, made if it is not there. One that was made
    /// with another capacity begins anew.
    pub(crate) fn open(path: &Utf8Path, capacity: u64) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let mut head = [0; 16];
        let end = match file.read_exact_at(&mut head, 0) {
            Ok(()) => {
                let head = u128::from_le_bytes(head);
                let kept = u64::try_from(head & u128::from(u64::MAX));
                let end = u64::try_from(head >> 64).unwrap_or(0);
                if kept == Ok(capacity) { end } else { 0 }
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        Ok(Self { file, capacity: capacity.max(1), end })
    }

    /// Adds bytes at the end, over the oldest.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let at = self.end % self.capacity;
            let room =
                usize::try_from(self.capacity - at).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all_at(now, HEAD + at)?;
            self.end += u64::try_from(now.len()).unwrap_or(0);
            bytes = later;
        }
        let head = u128::from(self.capacity) | (u128::from(self.end) << 64);
        self.file.write_all_at(&head.to_le_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_the_file_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("a.ring");
        let mut ring = Ring::open(&path, 8).unwrap();
        ring.append(b"0123456789").unwrap();
        drop(ring);
        let mut ring = Ring::open(&path, 8).unwrap();
        ring.append(b"ab").unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!(file[16..], *b"89ab4567");
        assert_eq!(file[8..16], 12_u64.to_le_bytes());
    }
}
