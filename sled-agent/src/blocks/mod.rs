//! Blocks: what disks, snapshots and images are made of.
//!
//! Blocks of an id are files in one directory, the store of all sleds or that
//! of this one. Which of them there are says what the blocks are; the first of
//! these that is found counts:
//!
//! | file | the blocks are |
//! |---|---|
//! | `<id>.gone` | deleted, or never to be made |
//! | `<id>.qcow2` | there |
//! | `<id>.imported` | being made of what was imported |
//! | `<id>.import` | being imported |
//!
//! Two more mean nothing by themselves: `<id>.base.qcow2`, that what was never
//! written is read from, and `<id>.allocated`, for which VMM they were made.
//!
//! A file gets its name when it is whole and durable, and only if nobody had
//! that name: whoever else makes the same at the same time, on this sled or on
//! another, finds it made. Before that it is in `making/`, where nothing
//! counts. Read-only blocks have no base, so any number of names may be given
//! to them, and a name more is a copy.
//!
//! Deleting puts the tombstone first and removes afterwards; making gives the
//! name first and looks for the tombstone afterwards. So either sees the other.

mod claims;
mod delete;
mod disks;
mod durable;
mod error;
mod header;
mod import;
mod jobs;
mod make;
mod places;
mod qemu_img;
mod room;
mod store_id;
mod sweep;

pub(crate) use error::BlocksError;
pub(crate) use places::Places;
pub(crate) use store_id::OpenError;

use crate::files::{self, FileError};
use camino::Utf8Path;
use claims::Claims;
use error::Outcome;
use header::Header;
use jobs::Jobs;
use places::Names;
use room::Room;
use sled_agent_client::{
    BlocksEnsure, BlocksPlace, BlocksReport, BlocksSource, BlocksState,
    RefusalCode,
};
use slog::Logger;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How many blocks are copied byte by byte at once: it is the disks and the
/// network that limit them, and guests want some of both.
const COPIES_AT_ONCE: usize = 2;

/// How many threads may wait for the disks of each place at once. A store that
/// hangs must not take all that there are: what is said of VMMs is written by
/// such, too.
const WAITING: usize = 64;
static WAITING_FOR_STORE: Semaphore = Semaphore::const_new(WAITING);
static WAITING_FOR_LOCAL: Semaphore = Semaphore::const_new(WAITING);

/// Blocks have so many bytes, or a multiple of it.
const SECTOR_BYTES: u64 = 512;

/// Whether this file of blocks is to be read together with its base. What it
/// says of where that is counts for nothing.
pub(crate) fn is_backed(file: &Utf8Path) -> bool {
    Header::read(file).is_ok_and(|header| header.is_backed)
}

/// The blocks that this sled sees.
pub(crate) struct Blocks {
    sled_id: Uuid,
    store_id: Uuid,
    places: Places,
    claims: Claims,
    room: Room,
    jobs: Jobs,
    turns: Semaphore,
    /// The local blocks that came about with each VMM that has not run.
    allocated: Mutex<HashMap<Uuid, Vec<Uuid>>>,
    log: Logger,
}

/// Where things are, and how much there may be.
pub(crate) struct Settings<'a> {
    pub(crate) sled_id: Uuid,
    pub(crate) data_dir: &'a Utf8Path,
    /// The store of all sleds; if none, this one has its own.
    pub(crate) store: Option<&'a Utf8Path>,
    pub(crate) local_bytes: u64,
}

/// What the files say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Gone,
    Ready,
    Imported,
    Importing,
    Nothing,
}

impl Blocks {
    /// Opens both places.
    ///
    /// *Errors*: one of them is not there, or the store is another one than it
    /// was.
    pub(crate) async fn open(
        settings: &Settings<'_>,
        log: Logger,
    ) -> Result<Arc<Self>, OpenError> {
        let (places, store_id) = store_id::open(settings).await?;
        Ok(Arc::new(Self {
            sled_id: settings.sled_id,
            store_id,
            places,
            claims: Claims::default(),
            room: Room::new(settings.local_bytes),
            jobs: Jobs::default(),
            turns: Semaphore::new(COPIES_AT_ONCE),
            allocated: Mutex::default(),
            log,
        }))
    }

    /// Which store it is: all sleds that say the same have the same one.
    pub(crate) fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// Where the files are.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Makes blocks, or goes on with it.
    ///
    /// *Idempotency*: by id. A failure is told once; asked again, it is tried
    /// again.
    pub(crate) async fn ensure(
        self: &Arc<Self>,
        id: Uuid,
        wanted: BlocksEnsure,
    ) -> Result<BlocksReport, BlocksError> {
        if !wanted.size_bytes.is_multiple_of(SECTOR_BYTES)
            || wanted.size_bytes == 0
        {
            return Err(BlocksError::misfit("no number of sectors"));
        }
        if let Some(progress) = self.jobs.join(id).await {
            return answer(id, progress);
        }
        let names = self.places.names(wanted.place, id);
        let state = match self.stage(&names).await? {
            Stage::Gone => return Err(BlocksError::tombstoned()),
            Stage::Ready => BlocksState::Ready,
            Stage::Importing => BlocksState::Importing,
            Stage::Imported => return self.finish_job(names).await,
            Stage::Nothing => return self.begin(names, wanted).await,
        };
        Ok(BlocksReport { blocks_id: id, state })
    }

    async fn begin(
        self: &Arc<Self>,
        names: Names,
        wanted: BlocksEnsure,
    ) -> Result<BlocksReport, BlocksError> {
        let id = names.id;
        let copied = match wanted.source {
            BlocksSource::Blank => None,
            BlocksSource::Copy { blocks_id } => Some(blocks_id),
            BlocksSource::Import => {
                let Err(error) = self.open_import(&names, &wanted).await else {
                    let state = BlocksState::Importing;
                    return Ok(BlocksReport { blocks_id: id, state });
                };
                let outcome = self.failed(&names, &error).await;
                return answer(id, Some(outcome));
            }
        };
        let blocks = Arc::clone(self);
        let work =
            async move { blocks.make_job(&names, &wanted, copied).await };
        answer(id, self.jobs.begin(id, work).await)
    }

    /// Finishes an import, or goes on with it.
    ///
    /// *Idempotency*: as [`Blocks::ensure`].
    pub(crate) async fn finish(
        self: &Arc<Self>,
        id: Uuid,
    ) -> Result<BlocksReport, BlocksError> {
        match self.go_on_finishing(id).await {
            Err(BlocksError::Refused {
                code: RefusalCode::BlocksTombstoned,
                ..
            }) => Err(BlocksError::NoSuchBlocks),
            answer => answer,
        }
    }

    async fn go_on_finishing(
        self: &Arc<Self>,
        id: Uuid,
    ) -> Result<BlocksReport, BlocksError> {
        if let Some(progress) = self.jobs.join(id).await {
            return answer(id, progress);
        }
        let (names, stage) = self.find(id).await?;
        match stage {
            Stage::Gone | Stage::Nothing => Err(BlocksError::NoSuchBlocks),
            Stage::Ready => {
                let state = BlocksState::Ready;
                // What a crash just after the making has left.
                self.drop_imported(&names).await?;
                Ok(BlocksReport { blocks_id: id, state })
            }
            Stage::Importing => {
                self.freeze(&names).await?;
                self.finish_job(names).await
            }
            Stage::Imported => self.finish_job(names).await,
        }
    }

    async fn finish_job(
        self: &Arc<Self>,
        names: Names,
    ) -> Result<BlocksReport, BlocksError> {
        let (id, blocks) = (names.id, Arc::clone(self));
        let work = async move { blocks.convert_job(&names).await };
        answer(id, self.jobs.begin(id, work).await)
    }

    /// Where blocks of this id are, the store first.
    async fn find(&self, id: Uuid) -> Result<(Names, Stage), FileError> {
        let store = self.places.names(BlocksPlace::Store, id);
        match self.stage(&store).await? {
            Stage::Nothing => {
                let local = self.places.names(BlocksPlace::Local, id);
                let stage = self.stage(&local).await?;
                Ok((local, stage))
            }
            stage @ (Stage::Gone
            | Stage::Ready
            | Stage::Imported
            | Stage::Importing) => Ok((store, stage)),
        }
    }

    async fn stage(&self, names: &Names) -> Result<Stage, FileError> {
        on_disk("look for", names, Names::stage).await
    }
}

impl Names {
    /// Looked for in the order in which blocks go through these, each of which
    /// is there before the one before is not: so they are not missed on their
    /// way from one to the next.
    fn stage(&self) -> io::Result<Stage> {
        let mut stage = Stage::Nothing;
        for (file, next) in [
            (self.import(), Stage::Importing),
            (self.imported(), Stage::Imported),
            (self.ready(), Stage::Ready),
            (self.gone(), Stage::Gone),
        ] {
            if file.try_exists()? {
                stage = next;
            }
        }
        Ok(stage)
    }
}

/// Does something with the files of blocks, on a thread that may wait.
async fn on_disk<T: Send + 'static>(
    verb: &'static str,
    names: &Names,
    work: impl FnOnce(&Names) -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let turns = match names.place {
        BlocksPlace::Store => &WAITING_FOR_STORE,
        BlocksPlace::Local => &WAITING_FOR_LOCAL,
    };
    // They are never closed.
    let _turn = turns.acquire().await;
    let (path, names) = (names.ready(), names.clone());
    files::blocking(verb, path, move |_| work(&names)).await
}

fn answer(
    blocks_id: Uuid,
    progress: Option<Outcome>,
) -> Result<BlocksReport, BlocksError> {
    let state = match progress {
        None => BlocksState::Making,
        Some(Outcome::Ready) => BlocksState::Ready,
        Some(Outcome::Gone) => return Err(BlocksError::tombstoned()),
        Some(Outcome::NoSource) => return Err(BlocksError::NoSuchBlocks),
        Some(Outcome::Misfit(why)) => return Err(BlocksError::misfit(&why)),
        Some(Outcome::Failed(message)) => BlocksState::Failed { message },
    };
    Ok(BlocksReport { blocks_id, state })
}
