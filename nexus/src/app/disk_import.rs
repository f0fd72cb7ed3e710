//! Sending a disk's blocks: users begin, send them in chunks, in any order, and
//! finalize.

use super::blocks::{Named, SLEDS_ASKED};
use super::{App, DiskSelector, RETRY_AFTER_SECS, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::{Error, chain};
use crate::saga::import_finish::{ImportFinish, Params};
use crate::sleds::{Reach, ReachError, sentence};
use db_model::{Disk, DiskState, Name, NewSnapshot, SnapshotId};
use sled_agent_client::{Error as SledError, RefusalCode};
use slog::info;

const IMPORT: &str = "write to the project's disks";

/// The most that is taken at a time.
const CHUNK_MAX_BYTES: usize = 512 << 10;

impl App {
    /// Lets a disk's blocks be sent. One to which they are sent already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it is not to be imported.
    pub async fn disk_import_start(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
    ) -> Result<(), Error> {
        let (from, to) =
            (DiskState::ImportReady, DiskState::ImportingFromBulkWrites);
        self.move_import(opctx, which, from, to, "bulk writes started").await
    }

    /// Lets no more of a disk's blocks be sent, for now.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it is not being imported.
    pub async fn disk_import_stop(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
    ) -> Result<(), Error> {
        let (from, to) =
            (DiskState::ImportingFromBulkWrites, DiskState::ImportReady);
        self.move_import(opctx, which, from, to, "bulk writes stopped").await
    }

    async fn move_import(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
        from: DiskState,
        to: DiskState,
        what: &str,
    ) -> Result<(), Error> {
        let disk = self.disk_to(opctx, which, IMPORT).await?;
        match self.datastore.disk_import_move(disk.id, from, to).await {
            Ok(()) => Ok(()),
            Err(db_queries::Error::DiskState(state)) => {
                Err(wrong_state(&disk, what, from, state))
            }
            Err(error) => Err(about("disk", &which.disk)(error)),
        }
    }

    /// Writes a chunk of a disk's blocks; durable at the return. In any order,
    /// any number of times.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: nothing is to be sent to it;
    /// `InvalidValue`: the chunk does not fit; `Conflict`: its contents are
    /// lost; `Unavailable`.
    pub async fn disk_import_write(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let disk = self.disk_to(opctx, which, IMPORT).await?;
        let wanted = DiskState::ImportingFromBulkWrites;
        if disk.state != wanted {
            return Err(wrong_state(&disk, "written to", wanted, disk.state));
        }
        check_chunk(&disk, offset, bytes.len())?;
        self.write(&disk, offset, bytes).await
    }

    /// Asks one sled after the other, until one has written it.
    async fn write(
        &self,
        disk: &Disk,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        if !self.sleds.may_ask() {
            return Err(no_answer("this server asks no sleds now".into()));
        }
        let (blocks, _) = disk.blocks();
        let mut silence = "no sled was heard of lately".to_string();
        for id in self.datastore.sleds_to_ask(SLEDS_ASKED).await? {
            let sled = match self.sleds.reach(id).await {
                Ok(Reach::Client(sled)) => sled,
                Ok(Reach::Expunged) => continue,
                Err(ReachError::Database(error)) => return Err(error.into()),
                Err(error @ ReachError::Address(_)) => {
                    return Err(Error::internal(error));
                }
            };
            match sled.blocks_write(blocks.0, offset, bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ SledError::Unreachable(_)) => {
                    silence = chain(&error);
                    info!(self.log, "a sled did not write a chunk";
                        "sled" => %id, "disk" => %disk.id, "error" => &silence);
                }
                Err(error) => return Err(not_written(disk, error)),
            }
        }
        Err(no_answer(silence))
    }

    /// Takes what was sent for all there is: the disk can be attached. With
    /// `snapshot_name`, a snapshot of it is made.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it is not being imported, or is still being
    /// sent, or the quota has no room for the snapshot; `AlreadyExists`: the
    /// snapshot; `Conflict`: that is going on already; `Unavailable`.
    pub async fn disk_finalize(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
        snapshot_name: Option<Name>,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let disk = self.disk_to(opctx, which, IMPORT).await?;
        if disk.state != DiskState::ImportReady
            && disk.state != DiskState::Finalizing
        {
            let wanted = DiskState::ImportReady;
            return Err(wrong_state(&disk, "finalized", wanted, disk.state));
        }
        let named = match &snapshot_name {
            Some(name) => Named {
                kind: "snapshot",
                name: name.as_str(),
                verb: "created, and its disk not finalized",
            },
            None => Named {
                kind: "disk",
                name: disk.name.as_str(),
                verb: "finalized",
            },
        };
        let snapshot = snapshot_name.clone().map(|name| {
            let description = format!("What disk {} was made with", disk.name);
            let new = NewSnapshot { name, description, disk_id: disk.id };
            (SnapshotId::new_v4(), new)
        });
        let granted =
            opctx.granted(Action::ChangeContents, Some(disk.project_id));
        let params = Params {
            disk_id: disk.id,
            size: disk.size_bytes,
            snapshot,
            granted: Some(granted),
        };
        aside()?;
        // If it takes long, it goes on, and the disk's state says so.
        self.run_blocks::<ImportFinish>(&params, named).await?;
        Ok(())
    }
}

fn check_chunk(disk: &Disk, offset: u64, length: usize) -> Result<(), Error> {
    let data =
        |why: String| Err(Error::invalid_value("base64_encoded_data", why));
    if length > CHUNK_MAX_BYTES {
        return data(format!(
            "{length} bytes are too many: at most {CHUNK_MAX_BYTES}",
        ));
    }
    let (block, size) = (disk.block_size.to_u64(), disk.size_bytes.to_u64());
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if length == 0 || !length.is_multiple_of(block) {
        return data(format!(
            "{length} bytes are no whole number of blocks: the disk's are of \
             {block} bytes",
        ));
    }
    if !offset.is_multiple_of(block) {
        return Err(Error::invalid_value(
            "offset",
            format!("{offset} is not a multiple of the block size, {block}"),
        ));
    }
    if offset.checked_add(length).is_none_or(|end| end > size) {
        return Err(Error::invalid_value(
            "offset",
            format!(
                "{length} bytes from {offset} on do not fit in the disk: its \
                 size is {size} bytes",
            ),
        ));
    }
    Ok(())
}

fn wrong_state(
    disk: &Disk,
    what: &str,
    wanted: DiskState,
    state: DiskState,
) -> Error {
    // Users know it by another name.
    let shown = |state: DiskState| match (state, disk.instance_id) {
        (DiskState::Ready, None) => "detached",
        (DiskState::Ready, Some(_)) => "attached",
        (state, _) => state.as_str(),
    };
    Error::InvalidRequest {
        message: format!(
            "disk \"{}\" cannot be {what}: its state is \"{}\", and must be \
             \"{}\"",
            disk.name,
            shown(state),
            shown(wanted),
        ),
    }
}

fn not_written(disk: &Disk, error: SledError) -> Error {
    let Disk { name, .. } = disk;
    match error {
        SledError::NoSuchBlocks
        | SledError::Refused { code: RefusalCode::BlocksTombstoned, .. } => {
            Error::Conflict {
                message: format!(
                    "disk \"{name}\" cannot be written to: its contents are \
                     gone. Delete it, and import it anew.",
                ),
            }
        }
        SledError::Refused { code: RefusalCode::BlocksMisfit, message } => {
            Error::InvalidRequest {
                message: format!(
                    "disk \"{name}\" cannot be written to: {}",
                    sentence(&message),
                ),
            }
        }
        error @ (SledError::Unreachable(_)
        | SledError::NoSuchVmm
        | SledError::NoSuchConsole
        | SledError::Refused { .. }
        | SledError::Bug { .. }) => Error::internal(error),
    }
}

fn no_answer(why: String) -> Error {
    Error::Unavailable {
        message: "No host answers that could write it. Send it again."
            .to_string(),
        retry_after_secs: RETRY_AFTER_SECS,
        source: Some(why.into()),
    }
}
