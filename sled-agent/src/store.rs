//! What the agent must not forget, in its data directory:
//!
//! | file | says |
//! |---|---|
//! | `sled.json` | who this sled is, and whether it is still of the fleet |
//! | `membership.json` | by what it is known: its key, certificate and secret |
//! | `joining.json` | the key that it joins with, until it has |
//! | `vmms.db` | VMMs, by their ids ([`Ledger`]), in three tables: |
//! | | `vmm`: those that are registered here |
//! | | `tombstone`: those that are never to be registered here |
//! | | `outbox`: the last report on an unregistered one, until Nexus takes it |
//! | `incarnation.json` | the id of the last process of the agent |
//! | `lease.json` | how long guests may run unheard: see [`crate::lease`] |
//! | `vmms/moved.json` | that VMMs are not there, as they once were |
//! | `simulated.db` | guests of the simulated hypervisor |
//! | `consoles/<id>.ring` | what its guest printed last ([`console`](crate::console)'s) |
//! | `lock` | held by the agent at work, so that there is one |
//!
//! Everything is written before it is answered or reported.

use crate::before;
use crate::files::{self, FileError};
use crate::ledger::{Change, Ledger, Outlives, Table};
use crate::membership::{MEMBERSHIP_FILE, Membership};
use crate::vmm::Vmm;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sled_agent_client::VmmReport;
use std::fs::File;
use uuid::Uuid;

const VMM: Table = Table("vmm");
const TOMBSTONE: Table = Table("tombstone");
const OUTBOX: Table = Table("outbox");

/// The data directory.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: Utf8PathBuf,
    vmms: Ledger,
}

/// What stands in `sled.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Identity {
    pub(crate) sled_id: Uuid,
    /// Once it is true it stays so.
    pub(crate) expunged: bool,
}

/// What stands in `tombstone`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tombstone {
    pub(crate) vmm_id: Uuid,
    /// The end of the VMM; none if the id was not known when it was
    /// unregistered.
    pub(crate) report: Option<VmmReport>,
}

impl Store {
    pub(crate) async fn open(dir: &Utf8Path) -> Result<Self, FileError> {
        let path = dir.join("vmms.db");
        let tables = &[VMM, TOMBSTONE, OUTBOX];
        let vmms = Ledger::open(path, tables, Outlives::Host).await?;
        // An agent that has only files would find none, and kill the guests. This
        // one is no VMM, so it refuses to start.
        files::make_dir(dir.join("vmms")).await?;
        files::write(dir.join("vmms/moved.json"), &"to vmms.db").await?;
        let parts =
            [("vmms", VMM), ("tombstones", TOMBSTONE), ("outbox", OUTBOX)];
        let parts = parts.map(|(part, table)| (dir.join(part), table));
        before::take_over(&vmms, &parts, Outlives::Host).await?;
        Ok(Self { dir: dir.to_path_buf(), vmms })
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
        self.vmms.all(VMM).await
    }

    pub(crate) async fn put_vmm(&self, vmm: &Vmm) -> Result<(), FileError> {
        self.vmms.write(vec![Change::put(VMM, vmm.vmm_id, vmm)]).await
    }

    pub(crate) async fn remove_vmm(&self, id: Uuid) -> Result<(), FileError> {
        self.vmms.write(vec![Change::remove(VMM, id)]).await
    }

    pub(crate) async fn tombstone(
        &self,
        id: Uuid,
    ) -> Result<Option<Tombstone>, FileError> {
        self.vmms.get(TOMBSTONE, id).await
    }

    /// Puts a tombstone in the place of the VMM, if there was one, and `untold` in
    /// the outbox.
    pub(crate) async fn bury(
        &self,
        tombstone: &Tombstone,
        untold: Option<&VmmReport>,
    ) -> Result<(), FileError> {
        let id = tombstone.vmm_id;
        let mut changes = vec![
            Change::put(TOMBSTONE, id, tombstone),
            Change::remove(VMM, id),
        ];
        changes.extend(untold.map(|report| Change::put(OUTBOX, id, report)));
        self.vmms.write(changes).await
    }

    pub(crate) async fn outbox(&self) -> Result<Vec<VmmReport>, FileError> {
        self.vmms.all(OUTBOX).await
    }

    pub(crate) async fn remove_outbox(
        &self,
        id: Uuid,
    ) -> Result<(), FileError> {
        self.vmms.write(vec![Change::remove(OUTBOX, id)]).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_that_knows_only_files_finds_one_that_is_no_vmm() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        Store::open(dir).await.unwrap();
        let files = files::all(dir.join("vmms")).await.unwrap();
        let [file] = &files[..] else { panic!("{files:?}") };
        let text = std::fs::read(file).unwrap();
        assert!(serde_json::from_slice::<Vmm>(&text).is_err());
    }
}
