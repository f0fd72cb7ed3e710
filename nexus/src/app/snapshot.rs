//! Snapshots of disks.

use super::blocks::Named;
use super::{App, DiskSelector, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;
use crate::saga::blocks_make::{Made, Params};
use db_model::{
    DiskBackend, Name, NameOrId, NewSnapshot, Snapshot, SnapshotId,
};
use db_queries::{ByNameOrId, Page};

/// Which snapshot: by id, or by name within a project.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SnapshotSelector {
    pub project: Option<NameOrId>,
    pub snapshot: NameOrId,
}

/// A snapshot, as its user wishes it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SnapshotWish {
    pub name: Name,
    pub description: String,
    pub disk: NameOrId,
}

impl App {
    /// A project's snapshots.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn snapshot_list(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Snapshot>, Error> {
        let project = self.project_view(opctx, project).await?;
        Ok(self.datastore.snapshot_list(project.id, page).await?)
    }

    /// Makes a snapshot of a distributed disk of the project that no guest
    /// writes to.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project, or disk; `InvalidRequest`: it is a local
    /// one, or is not at rest, or the quota is exceeded; `AlreadyExists`;
    /// `Conflict`: something came in between; `Unavailable`.
    pub async fn snapshot_create(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        wish: SnapshotWish,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Snapshot, Error> {
        let (action, what) =
            (Action::Create, "create snapshots in the project");
        let within = self.project_to(opctx, project, action, what).await?.id;
        let of = DiskSelector {
            project: Some(NameOrId::Id(within.0)),
            disk: wish.disk,
        };
        let disk = self.disk_view(opctx, &of).await?;
        if disk.backend == DiskBackend::Local {
            return Err(Error::InvalidRequest {
                message: format!(
                    "disk \"{}\" is a local one: snapshots are made of \
                     distributed disks only",
                    disk.name,
                ),
            });
        }
        let id = SnapshotId::new_v4();
        let new = NewSnapshot {
            name: wish.name.clone(),
            description: wish.description,
            disk_id: disk.id,
        };
        let params = Params {
            what: Made::Snapshot { id, project: within, new },
            size: disk.size_bytes,
            granted: Some(opctx.granted(action, Some(within))),
        };
        let name = wish.name.as_str();
        let named = Named { kind: "snapshot", name, verb: "created" };
        aside()?;
        self.make_blocks(&params, named).await?;
        let which = NameOrId::Id(id.0);
        self.datastore
            .snapshot_view(opctx.silo_id, None, which.clone())
            .await
            .map_err(about("snapshot", &which))
    }

    /// A snapshot.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn snapshot_view(
        &self,
        opctx: &OpContext,
        which: &SnapshotSelector,
    ) -> Result<Snapshot, Error> {
        let within = match (&which.project, &which.snapshot) {
            (Some(project), _) => {
                Some(self.project_view(opctx, project).await?.id)
            }
            (None, NameOrId::Id(_)) => None,
            (None, NameOrId::Name(name)) => {
                return Err(Error::InvalidRequest {
                    message: format!(
                        "snapshot \"{name}\" is given by name: name its \
                         project with ?project=, or give its id",
                    ),
                });
            }
        };
        let found = self
            .datastore
            .snapshot_view(opctx.silo_id, within, which.snapshot.clone())
            .await;
        let snapshot = found.map_err(about("snapshot", &which.snapshot))?;
        let asked = ("snapshot", &which.snapshot);
        let project = snapshot.project_id;
        self.may_in(opctx, project, Action::View, "see snapshots", asked)?;
        Ok(snapshot)
    }

    /// Deletes a snapshot. What was made from it stays.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `Conflict`: it is still being made.
    pub async fn snapshot_delete(
        &self,
        opctx: &OpContext,
        which: &SnapshotSelector,
    ) -> Result<(), Error> {
        let snapshot = self.snapshot_view(opctx, which).await?;
        self.may_in(
            opctx,
            snapshot.project_id,
            Action::ChangeContents,
            "delete the project's snapshots",
            ("snapshot", &which.snapshot),
        )?;
        match self.datastore.snapshot_delete(snapshot.id).await {
            Ok(()) => {
                self.activators.blocks_gone();
                self.activators.reconcile();
                Ok(())
            }
            Err(db_queries::Error::BeingCopied) => Err(Error::Conflict {
                message: format!(
                    "snapshot \"{}\" is still being created: wait until its \
                     state is \"ready\"",
                    snapshot.name,
                ),
            }),
            Err(error) => Err(about("snapshot", &which.snapshot)(error)),
        }
    }
}
