//! What the agent must not forget, in its data directory:
//!
//! | file | says |
//! |---|---|
//! | `sled.json` | who this sled is, and whether it is still of the fleet |
//! | `membership.json` | by what it is known: its key, certificate and secret |
//! | `joining.json` | the key that it joins with, until it has |
//! | `vmms/<id>.json` | a VMM that is registered here ([`twofold`]) |
//! | `tombstones/<id>.json` | an id that is never to be registered here |
//! | `outbox/<id>.json` | the last report on an unregistered VMM, until Nexus takes it |
//! | `incarnation.json` | the id of the last process of the agent |
//! | `lease.json` | how long guests may run unheard: see [`crate::lease`] |
//! | `consoles/<id>.ring` | what its guest printed last ([`console`](crate::console)'s) |
//! | `lock` | held by the agent at work, so that there is one |
//!
//! Everything is written before it is answered or reported.

use crate::files::{self, FileError};
use crate::membership::{MEMBERSHIP_FILE, Membership};
use crate::twofold;
use crate::vmm::Vmm;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sled_agent_client::VmmReport;
use std::fs::File;
use uuid::Uuid;

/// The data directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: Utf8PathBuf,
}

/// What stands in `sled.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Identity {
    pub(crate) sled_id: Uuid,
    /// Once it is true it stays so.
    pub(crate) expunged: bool,
}

/// What stands in `tombstones/<id>.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tombstone {
    pub(crate) vmm_id: Uuid,
    /// The end of the VMM; none if the id was not known when it was
    /// unregistered.
    pub(crate) report: Option<VmmReport>,
}

impl Store {
    pub(crate) async fn open(dir: &Utf8Path) -> Result<Self, FileError> {
        for part in ["vmms", "tombstones", "outbox"] {
            files::make_dir(dir.join(part)).await?;
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    pub(crate) async fn identity(&self) -> Result<Option<Identity>, FileError> {
        files::read(self.dir.join("sled.json")).await
    }

    pub(crate) async fn put_identity(
        &self,
        identity: &Identity,
    ) -> Result<(), FileError> {
        files::write(self.dir.join("sled.json"), identity).await
    }

    pub(crate) async fn membership(
        &self,
    ) -> Result<Option<Membership>, FileError> {
        files::read(self.dir.join(MEMBERSHIP_FILE)).await
    }

    pub(crate) async fn put_membership(
        &self,
        membership: &Membership,
    ) -> Result<(), FileError> {
        files::write_private(self.dir.join(MEMBERSHIP_FILE), membership).await
    }

    /// The key (PEM) that was made to join with.
    pub(crate) async fn joining_key(
        &self,
    ) -> Result<Option<String>, FileError> {
        files::read(self.dir.join("joining.json")).await
    }

    pub(crate) async fn put_joining_key(
        &self,
        key: &String,
    ) -> Result<(), FileError> {
        files::write_private(self.dir.join("joining.json"), key).await
    }

    pub(crate) async fn remove_joining_key(&self) -> Result<(), FileError> {
        files::remove(self.dir.join("joining.json")).await
    }

    /// An id for this process of the agent, above those of all before it,
    /// whatever the clock says.
    pub(crate) async fn next_incarnation(&self) -> Result<Uuid, FileError> {
        let path = self.dir.join("incarnation.json");
        let last: Option<Uuid> = files::read(path.clone()).await?;
        let new = last.map_or_else(Uuid::now_v7, |last| {
            let above = last.as_u128().saturating_add(1);
            Uuid::now_v7().max(Uuid::from_u128(above))
        });
        files::write(path, &new).await?;
        Ok(new)
    }

    pub(crate) async fn vmms(&self) -> Result<Vec<Vmm>, FileError> {
        twofold::read_all(self.dir.join("vmms")).await
    }

    pub(crate) async fn put_vmm(&self, vmm: &Vmm) -> Result<(), FileError> {
        twofold::write(self.file("vmms", vmm.vmm_id), vmm).await
    }

    pub(crate) async fn remove_vmm(&self, id: Uuid) -> Result<(), FileError> {
        files::remove(self.file("vmms", id)).await
    }

    pub(crate) async fn tombstone(
        &self,
        id: Uuid,
    ) -> Result<Option<Tombstone>, FileError> {
        files::read(self.file("tombstones", id)).await
    }

    pub(crate) async fn put_tombstone(
        &self,
        tombstone: &Tombstone,
    ) -> Result<(), FileError> {
        files::write(self.file("tombstones", tombstone.vmm_id), tombstone).await
    }

    pub(crate) async fn outbox(&self) -> Result<Vec<VmmReport>, FileError> {
        files::read_all(self.dir.join("outbox")).await
    }

    pub(crate) async fn put_outbox(
        &self,
        report: &VmmReport,
    ) -> Result<(), FileError> {
        files::write(self.file("outbox", report.vmm_id), report).await
    }

    pub(crate) async fn remove_outbox(
        &self,
        id: Uuid,
    ) -> Result<(), FileError> {
        files::remove(self.file("outbox", id)).await
    }

    fn file(&self, part: &str, id: Uuid) -> Utf8PathBuf {
        self.dir.join(part).join(format!("{id}.json"))
    }
}

/// Makes sure that this is the one agent of this directory, for as long as
/// the file that is returned is open.
///
/// *Errors*: another agent holds it.
pub(crate) fn lock(dir: &Utf8Path) -> std::io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let file = File::create(dir.join("lock"))?;
    file.try_lock()?;
    Ok(file)
}
