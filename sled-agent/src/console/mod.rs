//! What guests print on their serial consoles: kept in a ring for each VMM,
//! read in parts and followed as it grows.
//!
//! Whatever runs the guest appends to its ring, from whatever process; the
//! agent only reads. A ring stays after its VMM has ended, until it is one of
//! too many.

mod changes;
mod ring;
mod stream;

pub(crate) use ring::Ring;
pub(crate) use stream::{Reading, Typed, Unheard, follow};

use crate::files::{self, FileError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::{Utf8Path, Utf8PathBuf};
use changes::Changes;
use ring::{Part, RingReader};
use sled_agent_client::{
    ConsolePart, ConsoleQuery, ConsoleStreamQuery, MAX_CONSOLE_PART_BYTES,
};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How much is kept of what one guest printed: a few boots' worth.
pub(crate) const RING_BYTES: u64 = 1 << 20;

/// How many rings a sled keeps whenever it has [looked](LOOK_EVERY), but for those of
/// VMMs that have not ended: 1 GiB of them, and on a busy sled some days.
const RINGS_MAX: usize = 1000;

/// After how many new VMMs those that are too many go. To find them reads the whole
/// directory.
const LOOK_EVERY: u64 = 50;

/// How many streams may be open at a time. Each is a task, a socket and some
/// 100 KiB.
const STREAMS_MAX: usize = 1000;

/// How a file that holds a ring is called.
const RING: &str = "ring";

/// The rings of a sled.
pub(crate) struct Consoles {
    dir: Utf8PathBuf,
    changes: Changes,
    streams: Arc<Semaphore>,
    /// How many VMMs have come to be.
    come: AtomicU64,
}

/// Why a console cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// A definite answer.
    #[error("nothing is kept of what this VMM printed")]
    NotKept,
    #[error("from_start and most_recent exclude each other")]
    Contradiction,
    #[error("too many consoles are being streamed")]
    TooMany,
    #[error("the console cannot be read")]
    Io(#[from] io::Error),
}

impl Consoles {
    /// The rings in this directory, which is made if it is not there.
    pub(crate) async fn open(dir: Utf8PathBuf) -> Result<Self, FileError> {
        files::make_dir(dir.clone()).await?;
        Ok(Self {
            dir,
            changes: Changes::default(),
            come: AtomicU64::new(0),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        })
    }

    /// A part of what a VMM's guest has printed.
    pub(crate) async fn part(
        &self,
        vmm_id: Uuid,
        query: ConsoleQuery,
    ) -> Result<ConsolePart, ConsoleError> {
        if query.from_start.is_some() && query.most_recent.is_some() {
            return Err(ConsoleError::Contradiction);
        }
        let path = path(&self.dir, vmm_id);
        let part = blocking(move || part(&path, query)).await?;
        Ok(ConsolePart {
            base64_data: BASE64.encode(&part.bytes),
            end: part.end,
        })
    }

    /// Gets ready to follow what a VMM's guest prints.
    pub(crate) async fn reading(
        &self,
        vmm_id: Uuid,
        query: ConsoleStreamQuery,
    ) -> Result<Reading, ConsoleError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        let place = place.map_err(|_| ConsoleError::TooMany)?;
        let path = path(&self.dir, vmm_id);
        let at = path.clone();
        let (ring, from) = blocking(move || {
            let ring = RingReader::open(&at)?;
            let from = match query.most_recent {
                Some(bytes) => ring.end()?.saturating_sub(bytes),
                None => 0,
            };
            Ok((ring, from))
        })
        .await?;
        // It may be removed in between: then it never changes again.
        let changed = self.changes.of(&path)?;
        Ok(Reading { ring: Arc::new(ring), from, changed, _place: place })
    }

    /// A VMM has come to be. Whether it is time to see if there are too many rings:
    /// at the first one, and then once for every [`LOOK_EVERY`].
    pub(crate) fn one_more_is_enough(&self) -> bool {
        self.come.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY)
    }

    /// Removes the rings of the VMMs that are longest at rest, as far as there
    /// are too many. `alive` are those that have not ended.
    pub(crate) async fn trim(&self, alive: HashSet<Uuid>) -> io::Result<()> {
        let dir = self.dir.clone();
        let trim = move || trim(&dir, &alive, RINGS_MAX);
        tokio::task::spawn_blocking(trim)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Appends to the ring of a VMM. One writer to a VMM at a time.
pub(crate) async fn print(
    dir: Utf8PathBuf,
    vmm_id: Uuid,
    bytes: Vec<u8>,
) -> io::Result<()> {
    let print =
        move || Ring::open(&path(&dir, vmm_id), RING_BYTES)?.append(&bytes);
    tokio::task::spawn_blocking(print)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Where the ring of a VMM is.
pub(crate) fn path(dir: &Utf8Path, vmm_id: Uuid) -> Utf8PathBuf {
    dir.join(format!("{vmm_id}.{RING}"))
}

fn part(path: &Utf8Path, query: ConsoleQuery) -> io::Result<Part> {
    let ring = RingReader::open(path)?;
    let from = match (query.from_start, query.most_recent) {
        (Some(from), _) => from,
        (None, Some(bytes)) => ring.end()?.saturating_sub(bytes),
        (None, None) => 0,
    };
    let max_bytes = query.max_bytes.unwrap_or(u64::MAX);
    ring.read(from, max_bytes.min(MAX_CONSOLE_PART_BYTES))
}

/// Removes what is longest unchanged, but for what is alive, until at most
/// `keep` of those that have ended are left.
fn trim(dir: &Utf8Path, alive: &HashSet<Uuid>, keep: usize) -> io::Result<()> {
    let mut ended = Vec::new();
    for entry in dir.read_dir_utf8()? {
        let path = entry?.into_path();
        let id = path.file_stem().and_then(|stem| stem.parse().ok());
        let Some(id) = id.filter(|_| path.extension() == Some(RING)) else {
            continue;
        };
        if !alive.contains(&id) {
            ended.push(path);
        }
    }
    if ended.len() <= keep {
        return Ok(());
    }
    let mut by_age: Vec<(SystemTime, Utf8PathBuf)> = Vec::new();
    for path in ended {
        match path.metadata() {
            Ok(file) => by_age.push((file.modified()?, path)),
            // Removed in between, by another that trims.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    by_age.sort_unstable();
    let surplus = by_age.len().saturating_sub(keep);
    for (_, path) in by_age.into_iter().take(surplus) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ConsoleError> {
    let read = tokio::task::spawn_blocking(read).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(read) => Ok(read),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ConsoleError::NotKept)
        }
        Err(error) => Err(ConsoleError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[tokio::test]
    async fn the_first_of_so_many_that_may_be_too_many_has_them_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap().join("consoles");
        let consoles = Consoles::open(dir).await.unwrap();
        let looks = (0..=LOOK_EVERY).map(|_| consoles.one_more_is_enough());
        let looks: Vec<u64> =
            (0..).zip(looks).filter_map(|(n, is)| is.then_some(n)).collect();
        assert_eq!(looks, [0, LOOK_EVERY]);
    }

    #[test]
    fn of_too_many_rings_those_go_that_were_longest_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let ids = [1, 2, 3, 4].map(Uuid::from_u128);
        let year = Duration::from_secs(365 * 24 * 3600);
        for (id, age) in ids.into_iter().zip([4, 3, 1, 2]) {
            let path = path(dir, id);
            Ring::open(&path, 10).unwrap();
            let then = SystemTime::now() - age * year;
            File::open(&path).unwrap().set_modified(then).unwrap();
        }
        std::fs::write(dir.join("notes"), "").unwrap();
        let alive = HashSet::from([ids[0]]);
        trim(dir, &alive, 3).unwrap();
        assert!(ids.iter().all(|id| path(dir, *id).exists()));
        trim(dir, &alive, 1).unwrap();
        let left = ids.map(|id| path(dir, id).exists());
        assert_eq!(left, [true, false, true, false]);
        assert!(dir.join("notes").exists());
    }
}
