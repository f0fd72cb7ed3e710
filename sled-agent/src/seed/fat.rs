//! A FAT12 disk with a few files in its root: as much of that file system as a
//! seed needs, and no more. Written at once, and never changed.
//!
//! ```text
//! boot sector | FAT | FAT | root directory | clusters, of one sector each
//! ```

use std::io;

/// A disk of 1 MiB: many times what a seed has in it, and few enough clusters
/// (FAT12 has at most 4,084) for the simplest of the three kinds.
const SECTORS: u16 = 2048;
const SECTOR: usize = 512;
const RESERVED: u16 = 1;
const FATS: u8 = 2;
const SECTORS_PER_FAT: u16 = 6;
const ROOT_ENTRIES: u16 = 64;
const ROOT_SECTORS: u16 = 4;
/// Where clusters begin: after the boot sector, both FATs and the root.
const DATA_AT: u16 = RESERVED + 2 * SECTORS_PER_FAT + ROOT_SECTORS;
const CLUSTERS: u16 = SECTORS - DATA_AT;

/// The first two entries of a FAT are no clusters'.
const FIRST_CLUSTER: u16 = 2;
const LAST_OF_FILE: u16 = 0xfff;
/// A disk that is no floppy.
const MEDIA: u8 = 0xf8;

const VOLUME_LABEL: u8 = 0x08;
const ARCHIVE: u8 = 0x20;
const PART_OF_LONG_NAME: u8 = 0x0f;
/// 1980-01-01, the first day that there is.
const DATE: u16 = (1 << 5) | 1;
/// UTF-16 units of a long name in one entry.
const UNITS: usize = 13;

/// A file of the root directory.
pub(super) struct File<'a> {
    /// In ASCII, at most 255 characters.
    pub(super) name: &'a str,
    /// What it is to those that know no long names: upper case, 8 and 3
    /// characters, unique in the directory.
    pub(super) alias: [u8; 11],
    pub(super) bytes: &'a [u8],
}

/// The bytes of a disk with this label and these files.
///
/// *Errors*: `InvalidData`: they do not fit.
pub(super) fn image(
    label: [u8; 11],
    files: &[File<'_>],
) -> io::Result<Vec<u8>> {
    let mut fat = vec![0xf00 | u16::from(MEDIA), LAST_OF_FILE];
    let mut root = entry(label, VOLUME_LABEL, 0, 0).to_vec();
    let mut data = Vec::new();
    for file in files {
        let size = u32::try_from(file.bytes.len()).map_err(|_| full())?;
        let first = chain(&mut fat, file.bytes.len().div_ceil(SECTOR))?;
        root.extend(long_name(file)?);
        root.extend(entry(file.alias, ARCHIVE, first, size));
        data.extend_from_slice(file.bytes);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
    }
    let fat = packed(&fat);
    let mut image = boot_sector(label);
    for _ in 0..FATS {
        section(&mut image, &fat, SECTORS_PER_FAT)?;
    }
    section(&mut image, &root, ROOT_SECTORS)?;
    section(&mut image, &data, CLUSTERS)?;
    Ok(image)
}

/// Appends a part of the disk, which has so many sectors.
fn section(image: &mut Vec<u8>, bytes: &[u8], sectors: u16) -> io::Result<()> {
    let room = usize::from(sectors) * SECTOR;
    let unused = room.checked_sub(bytes.len()).ok_or_else(full)?;
    image.extend_from_slice(bytes);
    image.resize(image.len() + unused, 0);
    Ok(())
}

/// The first sector: what the disk is like.
fn boot_sector(label: [u8; 11]) -> Vec<u8> {
    let mut sector = Vec::with_capacity(SECTOR);
    // A jump over what follows, which is what some look for.
    sector.extend([0xeb, 0x3c, 0x90]);
    sector.extend(*b"MSWIN4.1");
    sector.extend(512_u16.to_le_bytes());
    let sectors_per_cluster = 1;
    sector.push(sectors_per_cluster);
    sector.extend(RESERVED.to_le_bytes());
    sector.push(FATS);
    sector.extend(ROOT_ENTRIES.to_le_bytes());
    sector.extend(SECTORS.to_le_bytes());
    sector.push(MEDIA);
    sector.extend(SECTORS_PER_FAT.to_le_bytes());
    let (sectors_per_track, heads) = (32_u16, 2_u16);
    sector.extend(sectors_per_track.to_le_bytes());
    sector.extend(heads.to_le_bytes());
    let hidden_and_large = [0; 8];
    sector.extend(hidden_and_large);
    let (drive, extended) = (0x80, 0x29);
    sector.extend([drive, 0, extended]);
    sector.extend(*b"SEED");
    sector.extend(label);
    sector.extend(*b"FAT12   ");
    sector.resize(SECTOR - 2, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// Takes so many clusters, in a row; the first of them, or 0 for none.
fn chain(fat: &mut Vec<u16>, clusters: usize) -> io::Result<u16> {
    if clusters == 0 {
        return Ok(0);
    }
    let first = u16::try_from(fat.len()).map_err(|_| full())?;
    let clusters = u16::try_from(clusters).map_err(|_| full())?;
    let end = first.checked_add(clusters).ok_or_else(full)?;
    if end > FIRST_CLUSTER + CLUSTERS {
        return Err(full());
    }
    fat.extend(first + 1..end);
    fat.push(LAST_OF_FILE);
    Ok(first)
}

/// Entries of twelve bits each, two in three bytes.
fn packed(fat: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fat.len() * 3 / 2 + 2);
    for pair in fat.chunks(2) {
        let (low, high) = match *pair {
            [low, high] => (u32::from(low), u32::from(high)),
            [low] => (u32::from(low), 0),
            _ => (0, 0),
        };
        let [a, b, c, _] = (low | high << 12).to_le_bytes();
        bytes.extend([a, b, c]);
    }
    bytes
}

/// A directory entry with a short name.
fn entry(name: [u8; 11], kind: u8, first: u16, size: u32) -> [u8; 32] {
    let mut entry = [0; 32];
    let (date, first) = (DATE.to_le_bytes(), first.to_le_bytes());
    let rest = [kind].into_iter().chain([0; 4]).chain(date).chain(date);
    let rest = rest.chain([0; 4]).chain(date).chain(first);
    let bytes = name.into_iter().chain(rest).chain(size.to_le_bytes());
    for (place, byte) in entry.iter_mut().zip(bytes) {
        *place = byte;
    }
    entry
}

/// The entries with a file's long name: they come before its own, the last part
/// first.
fn long_name(file: &File<'_>) -> io::Result<Vec<u8>> {
    let mut units: Vec<u16> = file.name.encode_utf16().collect();
    if !units.len().is_multiple_of(UNITS) {
        units.push(0);
        units.resize(units.len().next_multiple_of(UNITS), 0xffff);
    }
    let sum = file
        .alias
        .iter()
        .fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let parts = units.chunks(UNITS).count();
    let mut entries = Vec::new();
    for (n, part) in units.chunks(UNITS).enumerate().rev() {
        let number = u8::try_from(n + 1).map_err(|_| full())?;
        let last = if n + 1 == parts { 0x40 } else { 0 };
        let (a, rest) = part.split_at_checked(5).ok_or_else(full)?;
        let (b, c) = rest.split_at_checked(6).ok_or_else(full)?;
        let bytes = |units: &[u16]| -> Vec<u8> {
            units.iter().flat_map(|unit| unit.to_le_bytes()).collect()
        };
        entries.push(number | last);
        entries.extend(bytes(a));
        entries.extend([PART_OF_LONG_NAME, 0, sum]);
        entries.extend(bytes(b));
        entries.extend([0, 0]);
        entries.extend(bytes(c));
    }
    Ok(entries)
}

fn full() -> io::Error {
    let what = "this is more than a seed disk holds";
    io::Error::new(io::ErrorKind::InvalidData, what)
}
