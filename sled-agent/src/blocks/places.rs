//! Where the files of blocks are, what they are called, and whose they are.

use camino::{Utf8Path, Utf8PathBuf};
use sled_agent_client::BlocksPlace;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use uuid::Uuid;

/// The directory of what is not whole yet, in each place.
const MAKING: &str = "making";

/// The directories that blocks are in. Absolute, so that nothing in them is
/// taken for a protocol.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Of all sleds.
    pub(crate) store: Utf8PathBuf,
    /// Of this one.
    pub(crate) local: Utf8PathBuf,
}

/// The names that the files of blocks have, all in one directory.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) place: BlocksPlace,
    pub(super) dir: Utf8PathBuf,
    pub(super) id: Uuid,
}

/// What blocks are, or will be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Never written again.
    ReadOnly,
    /// A guest may write them.
    Writable,
}

impl Places {
    /// The file of blocks that are there: qcow2, and the only name of theirs
    /// that anybody but this module needs.
    pub(crate) fn file(
        &self,
        place: BlocksPlace,
        blocks_id: Uuid,
    ) -> Utf8PathBuf {
        self.names(place, blocks_id).ready()
    }

    /// What those are read from where they were never written, if their file
    /// says that there is such.
    pub(crate) fn base(
        &self,
        place: BlocksPlace,
        blocks_id: Uuid,
    ) -> Utf8PathBuf {
        self.names(place, blocks_id).base()
    }

    pub(super) fn dir(&self, place: BlocksPlace) -> &Utf8Path {
        match place {
            BlocksPlace::Store => &self.store,
            BlocksPlace::Local => &self.local,
        }
    }

    pub(super) fn names(&self, place: BlocksPlace, id: Uuid) -> Names {
        Names { place, dir: self.dir(place).to_path_buf(), id }
    }
}

impl Names {
    /// Blocks that are there.
    pub(super) fn ready(&self) -> Utf8PathBuf {
        self.named("qcow2")
    }

    /// What those are based on: a name of its own for what they were copied
    /// from, so that nobody counts who uses it.
    pub(super) fn base(&self) -> Utf8PathBuf {
        self.named("base.qcow2")
    }

    /// What is being imported, raw.
    pub(super) fn import(&self) -> Utf8PathBuf {
        self.named("import")
    }

    /// What was imported and takes no more chunks, raw.
    pub(super) fn imported(&self) -> Utf8PathBuf {
        self.named("imported")
    }

    /// The tombstone.
    pub(super) fn gone(&self) -> Utf8PathBuf {
        self.named("gone")
    }

    /// Says for which VMM local blocks were made, as long as it has not run.
    pub(super) fn allocated(&self) -> Utf8PathBuf {
        self.named("allocated")
    }

    /// What that was to be, if it was not written to its end.
    pub(super) fn half_allocated(&self) -> Utf8PathBuf {
        self.named("tmp")
    }

    /// A new name for something that `sled_id` is making of these.
    pub(super) fn making(&self, sled_id: Uuid) -> Utf8PathBuf {
        let (id, once) = (self.id, Uuid::new_v4());
        making_dir(&self.dir).join(format!("{id}.{sled_id}.{once}"))
    }

    fn named(&self, extension: &str) -> Utf8PathBuf {
        self.dir.join(format!("{}.{extension}", self.id))
    }
}

/// Where things are made.
pub(super) fn making_dir(dir: &Utf8Path) -> Utf8PathBuf {
    dir.join(MAKING)
}

/// The blocks that a file belongs to, and the rest of its name after the dot.
pub(super) fn whose(file_name: &str) -> Option<(Uuid, &str)> {
    let (id, rest) = file_name.split_once('.')?;
    Some((id.parse().ok()?, rest))
}

impl Access {
    pub(super) fn of(read_only: bool) -> Self {
        if read_only { Self::ReadOnly } else { Self::Writable }
    }

    /// As it was [`hand_over`]ed.
    pub(super) fn of_file(metadata: &Metadata) -> Self {
        Self::of(metadata.permissions().mode() & 0o020 == 0)
    }
}

/// Makes a file of blocks one that guests may open. The one place where it is
/// said whose it is, and where it is noted what it may be used for: its group,
/// that of the guests, may write it if and only if they may. All names of a
/// file share that.
pub(super) fn hand_over(file: &File, access: Access) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(match access {
        Access::ReadOnly => 0o440,
        Access::Writable => 0o660,
    }))
}

/// Notes on what is being imported what it will be; guests have no business
/// with it yet, and the agent may write it.
pub(super) fn note_access(file: &File, access: Access) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(match access {
        Access::ReadOnly => 0o600,
        Access::Writable => 0o620,
    }))
}
