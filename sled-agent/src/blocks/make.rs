//! Making blocks.

use super::durable;
use super::error::{MakeError, Outcome};
use super::header::Header;
use super::places::{Access, Names, hand_over};
use super::{Blocks, Stage, on_disk, qemu_img};
use crate::logger::chain;
use camino::{Utf8Path, Utf8PathBuf};
use sled_agent_client::{BlocksEnsure, BlocksPlace};
use slog::{info, warn};
use std::fs::File;
use std::io;
use uuid::Uuid;

/// What a file is to say, and how to come by it.
enum Contents {
    Blank { size_bytes: u64 },
    OverBase { size_bytes: u64 },
    Raw,
    Copy { source: Names, header: Header, size_bytes: u64 },
}

impl Blocks {
    /// Makes blocks, blank ones or a copy, whatever comes of it.
    pub(super) async fn make_job(
        &self,
        names: &Names,
        wanted: &BlocksEnsure,
        copied: Option<Uuid>,
    ) -> Outcome {
        let made = match wanted.place {
            BlocksPlace::Local => self.make_local(names, wanted, copied).await,
            BlocksPlace::Store => self.make(names, wanted, copied).await,
        };
        self.outcome(names, made).await
    }

    /// Makes blocks of what was imported.
    pub(super) async fn convert_job(&self, names: &Names) -> Outcome {
        let made = self.convert(names).await;
        self.outcome(names, made).await
    }

    /// Makes zeroes that a guest may write.
    pub(super) async fn make_blank(
        &self,
        names: &Names,
        size_bytes: u64,
    ) -> Result<(), MakeError> {
        let blank = Contents::Blank { size_bytes };
        self.publish(names, Access::Writable, &blank).await
    }

    async fn outcome(
        &self,
        names: &Names,
        made: Result<(), MakeError>,
    ) -> Outcome {
        match made {
            Ok(()) => {
                info!(self.log, "blocks were made"; "blocks_id" => %names.id);
                Outcome::Ready
            }
            Err(error) => self.failed(names, &error).await,
        }
    }

    pub(super) async fn failed(
        &self,
        names: &Names,
        error: &MakeError,
    ) -> Outcome {
        warn!(self.log, "blocks were not made";
            "blocks_id" => %names.id, "error" => chain(error));
        // Another sled may have been done first, and have taken away what this
        // one made them from.
        match self.stage(names).await {
            Ok(Stage::Ready) => Outcome::Ready,
            Ok(Stage::Gone) => Outcome::Gone,
            Ok(Stage::Imported | Stage::Importing | Stage::Nothing)
            | Err(_) => error.outcome(),
        }
    }

    async fn make_local(
        &self,
        names: &Names,
        wanted: &BlocksEnsure,
        copied: Option<Uuid>,
    ) -> Result<(), MakeError> {
        self.room.admit(names.id, wanted.size_bytes)?;
        let made = self.make(names, wanted, copied).await;
        if made.is_err() {
            self.room.release(names.id);
        }
        made
    }

    async fn make(
        &self,
        names: &Names,
        wanted: &BlocksEnsure,
        copied: Option<Uuid>,
    ) -> Result<(), MakeError> {
        if let Some(source) = copied {
            return self.copy(names, wanted, source).await;
        }
        let blank = Contents::Blank { size_bytes: wanted.size_bytes };
        self.publish(names, Access::of(wanted.read_only), &blank).await
    }

    async fn copy(
        &self,
        names: &Names,
        wanted: &BlocksEnsure,
        source_id: Uuid,
    ) -> Result<(), MakeError> {
        let source = self.places.names(wanted.place, source_id);
        let (header, access) = look_at(&source).await?;
        let size_bytes = wanted.size_bytes;
        if header.size_bytes > size_bytes {
            return Err(MakeError::Misfit("what is to be copied is larger"));
        }
        let never_changes = access == Access::ReadOnly && !header.is_backed;
        if never_changes && self.share(&source, header, names, wanted).await? {
            return Ok(());
        }
        let _pass = match access {
            Access::ReadOnly => None,
            Access::Writable => {
                let pass = self.claims.copy(source_id);
                let in_use =
                    MakeError::Misfit("what is to be copied is in use");
                Some(pass.ok_or(in_use)?)
            }
        };
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let contents = Contents::Copy { source, header, size_bytes };
        self.publish(names, Access::of(wanted.read_only), &contents).await
    }

    /// Makes a copy without copying a byte; whether that can be done.
    async fn share(
        &self,
        source: &Names,
        header: Header,
        names: &Names,
        wanted: &BlocksEnsure,
    ) -> Result<bool, MakeError> {
        let size_bytes = wanted.size_bytes;
        if wanted.read_only {
            return Ok(header.size_bytes == size_bytes
                && self.give_name(source, names, names.ready()).await?);
        }
        if !self.give_name(source, names, names.base()).await? {
            return Ok(false);
        }
        let contents = Contents::OverBase { size_bytes };
        self.publish(names, Access::Writable, &contents).await?;
        Ok(true)
    }

    /// Gives what never changes another name; whether it may have one more.
    async fn give_name(
        &self,
        source: &Names,
        names: &Names,
        name: Utf8PathBuf,
    ) -> Result<bool, MakeError> {
        let source = source.ready();
        let given = on_disk("name", names, move |names| {
            match durable::link(&source, &name) {
                Ok(_) => names.is_to_stay().map(Some),
                Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
        .await;
        match given {
            Ok(Some(true)) => Ok(true),
            Ok(Some(false)) => Err(MakeError::Gone),
            Ok(None) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(MakeError::NoSource)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn convert(&self, names: &Names) -> Result<(), MakeError> {
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let access = on_disk("look at", names, |names| {
            names.imported().metadata().map(|it| Access::of_file(&it))
        })
        .await?;
        self.publish(names, access, &Contents::Raw).await?;
        Ok(self.drop_imported(names).await?)
    }

    /// Makes a file and gives it its name: the one way in which blocks come to
    /// be there, but for another name of what is.
    async fn publish(
        &self,
        names: &Names,
        access: Access,
        contents: &Contents,
    ) -> Result<(), MakeError> {
        let temporary = names.making(self.sled_id);
        let filled = self.fill(names, contents, &temporary).await;
        let named = on_disk("name", names, {
            let is_whole = filled.is_ok();
            move |names| {
                let named = match is_whole {
                    true => names.put_in_place(&temporary, access),
                    false => Ok(true),
                };
                durable::remove(&temporary)?;
                named
            }
        })
        .await;
        filled?;
        match named? {
            true => Ok(()),
            false => Err(MakeError::Gone),
        }
    }

    async fn fill(
        &self,
        names: &Names,
        contents: &Contents,
        target: &Utf8Path,
    ) -> Result<(), MakeError> {
        let log = &self.log;
        match contents {
            Contents::Blank { size_bytes } => {
                qemu_img::create(log, target, *size_bytes).await?;
            }
            Contents::OverBase { size_bytes } => {
                let base = names.base();
                let base = base.file_name().unwrap_or_default();
                qemu_img::create_over(log, target, base, *size_bytes).await?;
            }
            Contents::Raw => {
                let raw = names.imported();
                qemu_img::convert_raw(log, &raw, target).await?;
            }
            Contents::Copy { source, header, size_bytes } => {
                qemu_img::convert_blocks(log, source, *header, target).await?;
                if header.size_bytes < *size_bytes {
                    qemu_img::grow(log, target, *size_bytes).await?;
                }
            }
        }
        Ok(())
    }
}

impl Names {
    /// Gives a file that is whole its name, durably, unless there is one of
    /// that name; whether that is to stay.
    fn put_in_place(
        &self,
        whole: &Utf8Path,
        access: Access,
    ) -> io::Result<bool> {
        let named = File::open(whole).and_then(|file| {
            hand_over(&file, access)?;
            file.sync_all()?;
            durable::link(whole, &self.ready())
        });
        match named {
            Ok(_) => self.is_to_stay(),
            // Who deletes blocks removes what is being made of them.
            Err(_) if self.gone().try_exists()? => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether these were not deleted meanwhile; else takes away what was made
    /// of them.
    pub(super) fn is_to_stay(&self) -> io::Result<bool> {
        if !self.gone().try_exists()? {
            return Ok(true);
        }
        self.remove_all()?;
        Ok(false)
    }
}

/// What there is to copy.
async fn look_at(source: &Names) -> Result<(Header, Access), MakeError> {
    let looked = on_disk("read", source, |source| {
        let stage = source.stage()?;
        let found = match stage {
            Stage::Ready => {
                let path = source.ready();
                let access = Access::of_file(&path.metadata()?);
                Some((Header::read(&path)?, access))
            }
            Stage::Gone
            | Stage::Imported
            | Stage::Importing
            | Stage::Nothing => None,
        };
        Ok((stage, found))
    });
    match looked.await {
        Ok((_, Some(found))) => Ok(found),
        Ok((Stage::Imported | Stage::Importing, _)) => {
            Err(MakeError::Misfit("what is to be copied is being imported"))
        }
        Ok((Stage::Gone | Stage::Ready | Stage::Nothing, None)) => {
            Err(MakeError::NoSource)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(MakeError::NoSource)
        }
        Err(error) => Err(error.into()),
    }
}
