//! The disks of VMMs: which blocks a VMM has, and those that come about with
//! it.
//!
//! Blocks that a VMM allocates are noted for it before they are there, and
//! cross the note off when it runs. So a note says of blank blocks for whom
//! they were made; whoever finds it, and no such VMM alive, may take them away.

use super::error::BlocksError;
use super::header::Header;
use super::places::{Access, Names, making_dir, whose};
use super::{Blocks, Stage, durable, on_disk};
use crate::files::{self, FileError};
use crate::vmm::Vmm;
use serde::{Deserialize, Serialize};
use sled_agent_client::{BlocksPlace, VmmDisk};
use slog::info;
use std::collections::HashMap;
use std::io;
use std::sync::{MutexGuard, PoisonError};
use uuid::Uuid;

/// What stands in `<id>.allocated`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Note {
    vmm_id: Uuid,
}

impl Blocks {
    /// Finds everything again after a restart: what this process was making,
    /// what local blocks take, and who has what. Called once, before anything
    /// else.
    pub(crate) async fn recover(&self, vmms: &[Vmm]) -> Result<(), FileError> {
        for place in [BlocksPlace::Store, BlocksPlace::Local] {
            self.drop_own_leftovers(place).await?;
        }
        for id in self.local_ids().await? {
            self.recover_local(id, vmms).await?;
        }
        for vmm in vmms.iter().filter(|vmm| !vmm.has_ended()) {
            self.claims.restore(vmm.vmm_id, &vmm.spec.disks);
        }
        Ok(())
    }

    /// Takes the disks of a VMM that is being registered: all, or none. Those
    /// that are to come about with it do.
    ///
    /// *Errors*: [`BlocksError::NoSuchBlocks`]; refused as `HOST_REJECTED`.
    pub(crate) async fn take(
        &self,
        vmm_id: Uuid,
        disks: &[VmmDisk],
    ) -> Result<(), BlocksError> {
        self.claims
            .claim(vmm_id, disks)
            .map_err(|taken| BlocksError::rejected(&taken))?;
        for disk in disks {
            if let Err(error) = self.provide(vmm_id, disk).await {
                self.give_back(vmm_id, false).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// A VMM has run: what came about with it stays.
    pub(crate) async fn keep(&self, vmm_id: Uuid) -> Result<(), FileError> {
        for id in self.allocated_for(vmm_id) {
            files::remove(self.local(id).allocated()).await?;
        }
        self.allocated().remove(&vmm_id);
        Ok(())
    }

    /// A VMM has ended, or never came to be: its disks are free, and those that
    /// came about with it are taken away, unless it has run.
    ///
    /// *Idempotency*: yes; to be called again after an error.
    pub(crate) async fn give_back(
        &self,
        vmm_id: Uuid,
        ran: bool,
    ) -> Result<(), FileError> {
        if ran {
            self.keep(vmm_id).await?;
        }
        for id in self.allocated_for(vmm_id) {
            self.take_away(id).await?;
        }
        self.allocated().remove(&vmm_id);
        self.claims.release(vmm_id);
        Ok(())
    }

    async fn provide(
        &self,
        vmm_id: Uuid,
        disk: &VmmDisk,
    ) -> Result<(), BlocksError> {
        let names = self.places.names(disk.place, disk.blocks_id);
        let is_allocated = disk.allocate && disk.place == BlocksPlace::Local;
        match self.stage(&names).await? {
            Stage::Ready if is_allocated => self.adopt(vmm_id, &names).await,
            Stage::Ready => self.check(disk).await,
            Stage::Nothing if is_allocated => {
                self.allocate(vmm_id, &names, disk.size_bytes).await
            }
            Stage::Gone
            | Stage::Imported
            | Stage::Importing
            | Stage::Nothing => Err(BlocksError::NoSuchBlocks),
        }
    }

    async fn check(&self, disk: &VmmDisk) -> Result<(), BlocksError> {
        let names = self.places.names(disk.place, disk.blocks_id);
        let file = self.places().file(disk.place, disk.blocks_id);
        let access = on_disk("look at", &names, move |_| {
            file.metadata().map(|it| Access::of_file(&it))
        });
        match access.await? {
            Access::ReadOnly if !disk.read_only => {
                Err(BlocksError::rejected(&"a disk may only be read"))
            }
            Access::ReadOnly | Access::Writable => Ok(()),
        }
    }

    async fn allocate(
        &self,
        vmm_id: Uuid,
        names: &Names,
        size_bytes: u64,
    ) -> Result<(), BlocksError> {
        self.room
            .admit(names.id, size_bytes)
            .map_err(|no_room| BlocksError::rejected(&no_room))?;
        self.note(vmm_id, names).await?;
        self.make_blank(names, size_bytes).await?;
        info!(self.log, "blocks came about with a VMM";
            "blocks_id" => %names.id, "vmm_id" => %vmm_id);
        Ok(())
    }

    /// Takes over what came about with an earlier VMM that nobody knows of and
    /// that cannot have run, if these are such.
    async fn adopt(
        &self,
        vmm_id: Uuid,
        names: &Names,
    ) -> Result<(), BlocksError> {
        let note: Option<Note> = files::read(names.allocated()).await?;
        if note.is_some() {
            self.note(vmm_id, names).await?;
        }
        Ok(())
    }

    async fn note(&self, vmm_id: Uuid, names: &Names) -> Result<(), FileError> {
        self.remember(vmm_id, names.id);
        files::write(names.allocated(), &Note { vmm_id }).await
    }

    /// For this VMM, and no longer for another.
    fn remember(&self, vmm_id: Uuid, allocated: Uuid) {
        let mut all = self.allocated();
        for ids in all.values_mut() {
            ids.retain(|id| *id != allocated);
        }
        all.retain(|_, ids| !ids.is_empty());
        all.entry(vmm_id).or_default().push(allocated);
    }

    /// The blocks before the note, lest they stay without one.
    async fn take_away(&self, id: Uuid) -> Result<(), FileError> {
        let names = self.local(id);
        on_disk("take away", &names, |names| {
            durable::remove(&names.ready())?;
            durable::sync_dir(&names.dir)
        })
        .await?;
        files::remove(names.allocated()).await?;
        self.room.release(id);
        info!(self.log, "blocks were taken away that no VMM has used";
            "blocks_id" => %id);
        Ok(())
    }

    async fn recover_local(
        &self,
        id: Uuid,
        vmms: &[Vmm],
    ) -> Result<(), FileError> {
        let names = self.local(id);
        files::remove(names.half_allocated()).await?;
        if let Some(Note { vmm_id }) = files::read(names.allocated()).await? {
            let vmm = vmms.iter().find(|vmm| vmm.vmm_id == vmm_id);
            match vmm {
                Some(vmm) if vmm.status.ever_ran => {
                    files::remove(names.allocated()).await?;
                }
                Some(vmm) if !vmm.has_ended() => {
                    self.remember(vmm_id, id);
                }
                Some(_) | None => self.take_away(id).await?,
            }
        }
        let size_bytes = on_disk("measure", &names, Names::size_bytes).await?;
        if let Some(size_bytes) = size_bytes {
            self.room.restore(id, size_bytes);
        }
        Ok(())
    }

    async fn local_ids(&self) -> Result<Vec<Uuid>, FileError> {
        let dir = self.places.local.clone();
        files::blocking("list", dir, |dir| {
            let mut ids = Vec::new();
            for entry in dir.read_dir_utf8()? {
                ids.extend(whose(entry?.file_name()).map(|(id, _)| id));
            }
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .await
    }

    /// What an earlier process of this sled was making. Makes sure, too, that
    /// what can be seen in there is durable.
    async fn drop_own_leftovers(
        &self,
        place: BlocksPlace,
    ) -> Result<(), FileError> {
        let (dir, sled_id) = (self.places.dir(place), self.sled_id);
        files::blocking("clear", dir.to_path_buf(), move |dir| {
            for entry in making_dir(dir).read_dir_utf8()? {
                let entry = entry?;
                if maker(entry.file_name()) == Some(sled_id) {
                    durable::remove(entry.path())?;
                }
            }
            durable::sync_dir(dir)
        })
        .await
    }

    fn local(&self, id: Uuid) -> Names {
        self.places.names(BlocksPlace::Local, id)
    }

    fn allocated_for(&self, vmm_id: Uuid) -> Vec<Uuid> {
        self.allocated().get(&vmm_id).cloned().unwrap_or_default()
    }

    fn allocated(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<Uuid>>> {
        self.allocated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// What these take at most of the local storage; none if they are not
    /// there.
    fn size_bytes(&self) -> io::Result<Option<u64>> {
        Ok(match self.stage()? {
            Stage::Gone | Stage::Nothing => None,
            Stage::Ready => Some(match Header::read(&self.ready()) {
                Ok(header) => header.size_bytes,
                // It is broken, and there all the same.
                Err(_) => self.ready().metadata()?.len(),
            }),
            Stage::Imported => Some(self.imported().metadata()?.len()),
            Stage::Importing => Some(self.import().metadata()?.len()),
        })
    }
}

/// The sled that is making what has this name.
fn maker(file_name: &str) -> Option<Uuid> {
    let (_, rest) = whose(file_name)?;
    whose(rest).map(|(sled_id, _)| sled_id)
}
