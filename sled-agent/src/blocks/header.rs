//! What the first bytes of a qcow2 file say.
//!
//! Guests write blocks, not headers; but what runs a guest writes both, and may
//! have been taken over by it. So a header is read for what it says of its own
//! file, and never followed to another.

use camino::Utf8Path;
use std::fs::File;
use std::io::{self, Read};

/// The length of what is read: all of it is in every qcow2 of version 3.
const LENGTH: usize = 80;
const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 3;
/// Of the incompatible features: that the contents are in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// See the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    /// How many bytes a guest sees.
    pub(super) size_bytes: u64,
    /// Whether what was never written is that of another file.
    pub(super) is_backed: bool,
}

impl Header {
    /// Reads it.
    ///
    /// *Errors*: there is no such file, or it is none that was made here.
    pub(super) fn read(path: &Utf8Path) -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        File::open(path)?.read_exact(&mut bytes)?;
        parse(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "no qcow2 of ours")
        })
    }
}

fn parse(bytes: &[u8; LENGTH]) -> Option<Header> {
    let long = |at| Some(u64::from_be_bytes(field(bytes, at)?));
    let is_ours = field(bytes, 0)? == MAGIC
        && u32::from_be_bytes(field(bytes, 4)?) == VERSION
        && long(72)? & EXTERNAL_DATA == 0;
    let header = Header { size_bytes: long(24)?, is_backed: long(8)? != 0 };
    is_ours.then_some(header)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(features: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[24..32].copy_from_slice(&4096_u64.to_be_bytes());
        bytes[72..].copy_from_slice(&features.to_be_bytes());
        bytes
    }

    #[test]
    fn a_size_is_read() {
        let header = parse(&header(0)).unwrap();
        assert_eq!(header, Header { size_bytes: 4096, is_backed: false });
    }

    #[test]
    fn a_file_whose_contents_are_elsewhere_is_none_of_ours() {
        assert_eq!(parse(&header(EXTERNAL_DATA)), None);
        assert_eq!(parse(&[0; LENGTH]), None);
    }
}
