//! Taking in blocks in chunks.
//!
//! A chunk that was answered is in what is made of the import, whoever of the
//! sleds finishes it: that one takes the name away that chunks are written
//! under before it reads, and who writes looks for that name afterwards.

use super::durable;
use super::error::{BlocksError, MakeError};
use super::places::{Access, Names, note_access};
use super::{Blocks, Stage, on_disk};
use crate::files::FileError;
use camino::Utf8Path;
use sled_agent_client::{BlocksEnsure, BlocksPlace};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use uuid::Uuid;

/// What became of a chunk.
enum Written {
    Durably,
    TooLate,
    BehindEnd,
    Nowhere,
    NoRoom,
}

impl Blocks {
    /// Writes a part of what is being imported.
    ///
    /// *Idempotency*: yes.
    pub(crate) async fn write(
        &self,
        id: Uuid,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), BlocksError> {
        let (names, stage) = self.find(id).await?;
        let written = match stage {
            Stage::Gone | Stage::Nothing => Written::Nowhere,
            Stage::Ready | Stage::Imported => Written::TooLate,
            Stage::Importing => {
                let write =
                    move |names: &Names| names.write_chunk(offset, &bytes);
                on_disk("write", &names, write).await?
            }
        };
        match written {
            Written::Durably => Ok(()),
            Written::Nowhere => Err(BlocksError::NoSuchBlocks),
            Written::TooLate => {
                Err(BlocksError::misfit("the import was finished"))
            }
            Written::BehindEnd => {
                Err(BlocksError::misfit("it ends behind their end"))
            }
            Written::NoRoom => {
                Err(BlocksError::misfit("the disk store is full"))
            }
        }
    }

    /// Makes what chunks are written to, all zeroes.
    pub(super) async fn open_import(
        &self,
        names: &Names,
        wanted: &BlocksEnsure,
    ) -> Result<(), MakeError> {
        let size_bytes = wanted.size_bytes;
        let is_local = wanted.place == BlocksPlace::Local;
        if is_local {
            self.room.admit(names.id, size_bytes)?;
        }
        let access = Access::of(wanted.read_only);
        let temporary = names.making(self.sled_id);
        let opened = on_disk("make", names, move |names| {
            let opened = names.open_import(&temporary, size_bytes, access);
            durable::remove(&temporary)?;
            opened
        })
        .await;
        if is_local && !matches!(opened, Ok(true)) {
            self.room.release(names.id);
        }
        match opened? {
            true => Ok(()),
            false => Err(MakeError::Gone),
        }
    }

    /// Takes no more chunks.
    pub(super) async fn freeze(&self, names: &Names) -> Result<(), FileError> {
        on_disk("freeze", names, Names::freeze).await
    }

    /// Removes what blocks were made of that are there.
    pub(super) async fn drop_imported(
        &self,
        names: &Names,
    ) -> Result<(), FileError> {
        on_disk("clear up", names, Names::drop_imported).await
    }
}

impl Names {
    /// Whether it is to stay.
    fn open_import(
        &self,
        temporary: &Utf8Path,
        size_bytes: u64,
        access: Access,
    ) -> io::Result<bool> {
        let file = File::create_new(temporary)?;
        file.set_len(size_bytes)?;
        note_access(&file, access)?;
        file.sync_all()?;
        if durable::link(temporary, &self.import())?
            && (self.imported().try_exists()? || self.ready().try_exists()?)
        {
            // Others have opened and finished it since this one looked.
            durable::remove(&self.import())?;
        }
        self.is_to_stay()
    }

    fn write_chunk(&self, offset: u64, bytes: &[u8]) -> io::Result<Written> {
        let path = self.import();
        let open = || match File::options().write(true).open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let Some(file) = open()? else { return self.missed() };
        let metadata = file.metadata()?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if offset.saturating_add(length) > metadata.len() {
            return Ok(Written::BehindEnd);
        }
        let written = file.write_all_at(bytes, offset);
        match written.and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(error) if durable::is_full(error.kind()) => {
                return Ok(Written::NoRoom);
            }
            Err(error) => return Err(error),
        }
        // Opened once more, not only looked for: that asks the server.
        let is_still_there = match open()? {
            Some(now) => now.metadata()?.ino() == metadata.ino(),
            None => false,
        };
        if is_still_there && self.stage()? == Stage::Importing {
            return Ok(Written::Durably);
        }
        self.missed()
    }

    pub(super) fn drop_imported(&self) -> io::Result<()> {
        durable::remove(&self.import())?;
        durable::remove(&self.imported())
    }

    /// What to say of a chunk that came too late.
    fn missed(&self) -> io::Result<Written> {
        Ok(match self.stage()? {
            Stage::Gone | Stage::Nothing => Written::Nowhere,
            Stage::Ready | Stage::Imported | Stage::Importing => {
                Written::TooLate
            }
        })
    }

    /// Not by renaming: that might put an import that was opened too late in
    /// the place of the one that was written.
    fn freeze(&self) -> io::Result<()> {
        match durable::link(&self.import(), &self.imported()) {
            Ok(_) => {}
            // Somebody else has done so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        durable::remove(&self.import())?;
        durable::sync_dir(&self.dir)?;
        self.is_to_stay()?;
        Ok(())
    }
}
