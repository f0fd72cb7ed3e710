//! Disks.

use super::blocks::Named;
use super::{App, InstanceSelector, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;
use crate::saga::blocks_make::{Made, Params};
use db_model::lifecycle::Refusal;
use db_model::{
    Disk, DiskBackend, DiskId, DiskState, InstanceView, NameOrId, NewDisk,
    NewDiskKind, NewInstanceDisk, ProjectId,
};
use db_queries::{ByNameOrId, Page};

/// Which disk: by id, or by name within a project.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct DiskSelector {
    pub project: Option<NameOrId>,
    pub disk: NameOrId,
}

/// The disks that a new instance comes with: those that are made with it, and
/// those that are there.
type DisksOfNew = (Vec<(DiskId, NewDisk)>, Vec<DiskId>);

impl App {
    /// A project's disks.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn disk_list(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Disk>, Error> {
        let project = self.project_view(opctx, project).await?;
        Ok(self.datastore.disk_list(project.id, page).await?)
    }

    /// Makes a disk. A local one's blocks are nowhere before it is needed. A
    /// distributed one's are there at the return, or are still being made if
    /// that takes long.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project, or snapshot or image; `InvalidValue`: the
    /// disk is smaller than that; `AlreadyExists`; `InvalidRequest`: the quota
    /// is exceeded; `Conflict`: something came in between; `Unavailable`.
    pub async fn disk_create(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        new: NewDisk,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Disk, Error> {
        let (action, what) = (Action::Create, "create disks in the project");
        let found = self.project_to(opctx, project, action, what).await?;
        if new.kind.backend() == DiskBackend::Distributed {
            self.check_source(opctx, found.id, &new).await?;
            aside()?;
            return self.disk_create_distributed(opctx, found.id, new).await;
        }
        let name = new.name.clone();
        let created = self.datastore.disk_create(found.id, new).await;
        created.map_err(|error| {
            if let db_queries::Error::AlreadyExists = error {
                Error::AlreadyExists { kind: "disk", name: name.to_string() }
            } else {
                about("project", project)(error)
            }
        })
    }

    async fn disk_create_distributed(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        new: NewDisk,
    ) -> Result<Disk, Error> {
        let id = DiskId::new_v4();
        let (name, size) = (new.name.to_string(), new.size);
        let granted = Some(opctx.granted(Action::Create, Some(project)));
        let what = Made::Disk { id, project, new };
        let params = Params { what, size, granted };
        let named = Named { kind: "disk", name: &name, verb: "created" };
        self.make_blocks(&params, named).await?;
        let which = NameOrId::Id(id.0);
        self.datastore
            .disk_view(opctx.silo_id, None, which.clone())
            .await
            .map_err(about("disk", &which))
    }

    /// What a new disk is to begin with is there, and no larger than it.
    async fn check_source(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        new: &NewDisk,
    ) -> Result<(), Error> {
        let (kind, name, size) = match new.kind {
            NewDiskKind::Local
            | NewDiskKind::Blank { .. }
            | NewDiskKind::Import { .. } => return Ok(()),
            NewDiskKind::Snapshot { id, .. } => {
                let which = NameOrId::Id(id.0);
                let there = self
                    .datastore
                    .snapshot_view(opctx.silo_id, None, which.clone())
                    .await
                    .map_err(about("snapshot", &which))?;
                self.may_in(
                    opctx,
                    there.project_id,
                    Action::View,
                    "see snapshots",
                    ("snapshot", &which),
                )?;
                if !there.made {
                    return Err(Error::invalid_value(
                        "snapshot_id",
                        format!(
                            "snapshot \"{}\" is still being created: wait \
                             until its state is \"ready\"",
                            there.name,
                        ),
                    ));
                }
                ("snapshot", there.name, there.size_bytes)
            }
            NewDiskKind::Image { id, .. } => {
                let which = NameOrId::Id(id.0);
                let there = self
                    .datastore
                    .image_view(opctx.silo_id, Some(project), which.clone())
                    .await
                    .map_err(about("image", &which))?;
                ("image", there.name, there.size_bytes)
            }
        };
        if new.size >= size {
            return Ok(());
        }
        Err(Error::invalid_value(
            "size",
            format!(
                "{} is less than the {size} of {kind} \"{name}\": it must be \
                 at least as large",
                new.size,
            ),
        ))
    }

    /// A disk.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn disk_view(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
    ) -> Result<Disk, Error> {
        let within = match (&which.project, &which.disk) {
            (Some(project), _) => {
                Some(self.project_view(opctx, project).await?.id)
            }
            (None, NameOrId::Id(_)) => None,
            (None, NameOrId::Name(name)) => {
                return Err(Error::InvalidRequest {
                    message: format!(
                        "disk \"{name}\" is given by name: name its project \
                         with ?project=, or give its id",
                    ),
                });
            }
        };
        let found = self
            .datastore
            .disk_view(opctx.silo_id, within, which.disk.clone())
            .await;
        let disk = found.map_err(about("disk", &which.disk))?;
        let asked = ("disk", &which.disk);
        let project = disk.project_id;
        self.may_in(opctx, project, Action::View, "see disks", asked)?;
        Ok(disk)
    }

    /// The same, which the caller may change.
    ///
    /// # Errors
    ///
    /// As [`App::disk_view`]; `Forbidden`: not to do `what`.
    pub(super) async fn disk_to(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
        what: &'static str,
    ) -> Result<Disk, Error> {
        let disk = self.disk_view(opctx, which).await?;
        let (action, asked) = (Action::ChangeContents, ("disk", &which.disk));
        self.may_in(opctx, disk.project_id, action, what, asked)?;
        Ok(disk)
    }

    /// Deletes a disk that is attached to nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: it must be detached first, or is being made
    /// or copied.
    pub async fn disk_delete(
        &self,
        opctx: &OpContext,
        which: &DiskSelector,
    ) -> Result<(), Error> {
        let what = "delete the project's disks";
        let disk = self.disk_to(opctx, which, what).await?;
        match self.datastore.disk_delete(disk.id).await {
            Ok(()) => {
                self.activators.blocks_gone();
                self.activators.reconcile();
                Ok(())
            }
            Err(db_queries::Error::InUse) => {
                Err(self.in_use(&disk, "deleted").await)
            }
            Err(db_queries::Error::DiskState(state)) => {
                Err(not_ready(&disk, "deleted", state))
            }
            Err(db_queries::Error::BeingCopied) => Err(Error::InvalidRequest {
                message: format!(
                    "disk \"{}\" cannot be deleted: a snapshot of it is being \
                     made. Ask again when that is ready.",
                    disk.name,
                ),
            }),
            Err(error) => Err(about("disk", &which.disk)(error)),
        }
    }

    /// An instance's disks.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn instance_disk_list(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Disk>, Error> {
        let id = self.live(opctx, which).await?.instance.id;
        Ok(self.datastore.disk_list_of_instance(id, page).await?)
    }

    /// Attaches a disk to an instance of its project that holds no place on a
    /// sled. One that is attached to it already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: the instance must be stopped first, or the
    /// disk be detached from another, or there are too many; `Conflict`: an
    /// earlier run may still be going on.
    pub async fn instance_disk_attach(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        disk: &NameOrId,
    ) -> Result<Disk, Error> {
        let (view, disk) = self.instance_and_disk(opctx, which, disk).await?;
        let done = self.datastore.disk_attach(view.instance.id, disk.id).await;
        match done {
            Ok(()) => self.moved(opctx, &disk).await,
            Err(error) => Err(self.not_moved(&view, &disk, error, true).await),
        }
    }

    /// Detaches a disk from an instance that holds no place on a sled. One that
    /// is detached already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: the instance must be stopped first, or the
    /// disk is attached to another; `Conflict`: the instance boots from it, or an
    /// earlier run may still be going on.
    pub async fn instance_disk_detach(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        disk: &NameOrId,
    ) -> Result<Disk, Error> {
        let (view, disk) = self.instance_and_disk(opctx, which, disk).await?;
        let done = self.datastore.disk_detach(view.instance.id, disk.id).await;
        match done {
            Ok(()) => self.moved(opctx, &disk).await,
            Err(error) => Err(self.not_moved(&view, &disk, error, false).await),
        }
    }

    /// What the disks of a new instance are.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no such disk; `InvalidRequest`: it is attached to
    /// another instance; `AlreadyExists`: a new one's name is taken.
    pub(super) async fn disks_of_new(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        disks: &[NewInstanceDisk],
    ) -> Result<DisksOfNew, Error> {
        let (mut made, mut attached) = DisksOfNew::default();
        if disks.is_empty() {
            return Ok((made, attached));
        }
        let names = disks.iter().map(|disk| disk.name().clone()).collect();
        let there = self.datastore.disk_list_named(project, names).await?;
        for wanted in disks {
            let found = there.iter().find(|disk| disk.name == *wanted.name());
            match (wanted, found) {
                (NewInstanceDisk::Create(new), None) => {
                    self.check_source(opctx, project, new).await?;
                    made.push((DiskId::new_v4(), new.clone()));
                }
                (NewInstanceDisk::Create(new), Some(_)) => {
                    let name = new.name.to_string();
                    return Err(Error::AlreadyExists { kind: "disk", name });
                }
                (NewInstanceDisk::Attach(name), None) => {
                    return Err(Error::not_found("disk", &name.clone().into()));
                }
                (NewInstanceDisk::Attach(_), Some(disk)) => {
                    if disk.instance_id.is_some() {
                        return Err(self.in_use(disk, "attached").await);
                    }
                    if disk.state != DiskState::Ready {
                        return Err(not_ready(disk, "attached", disk.state));
                    }
                    attached.push(disk.id);
                }
            }
        }
        Ok((made, attached))
    }

    /// A live instance, and a disk of its project.
    async fn instance_and_disk(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        disk: &NameOrId,
    ) -> Result<(InstanceView, Disk), Error> {
        let what = "attach and detach the project's disks";
        let view = self.live_to(opctx, which, what).await?;
        let within = Some(view.instance.project_id);
        let disk = self
            .datastore
            .disk_view(opctx.silo_id, within, disk.clone())
            .await
            .map_err(about("disk", disk))?;
        Ok((view, disk))
    }

    /// A disk that has just been attached or detached.
    async fn moved(
        &self,
        opctx: &OpContext,
        disk: &Disk,
    ) -> Result<Disk, Error> {
        self.activators.changed();
        let which = NameOrId::Id(disk.id.0);
        self.datastore
            .disk_view(opctx.silo_id, None, which.clone())
            .await
            .map_err(about("disk", &which))
    }

    /// Why a disk was not attached to the instance, or detached from it.
    async fn not_moved(
        &self,
        view: &InstanceView,
        disk: &Disk,
        error: db_queries::Error,
        attach: bool,
    ) -> Error {
        let (verb, link) =
            if attach { ("attached", "to") } else { ("detached", "from") };
        let verb = format!("{verb} {link} instance \"{}\"", view.instance.name);
        let cannot = |why: &str| {
            format!("disk \"{}\" cannot be {verb}: {why}", disk.name)
        };
        if let db_queries::Error::InUse = error {
            return self.in_use(disk, &verb).await;
        }
        if let db_queries::Error::DiskState(state) = error {
            return not_ready(disk, &verb, state);
        }
        if let db_queries::Error::BootDisk = error {
            return Error::Conflict {
                message: cannot(
                    "the instance boots from it: set the instance's boot_disk \
                     to another, or to null, first",
                ),
            };
        }
        if let db_queries::Error::TooMany(limit) = error {
            return Error::InvalidRequest {
                message: cannot(&limit.to_string()),
            };
        }
        let db_queries::Error::Refused(refusal) = error else {
            return about("disk", &NameOrId::Id(disk.id.0))(error);
        };
        match refusal {
            Refusal::Deleted => {
                Error::not_found("instance", &view.instance.name.clone().into())
            }
            Refusal::OtherVmmLinked => Error::Conflict {
                message: cannot(
                    "an earlier run of the instance may still be going on at a \
                     host that does not answer",
                ),
            },
            Refusal::NotStopped
            | Refusal::Creating
            | Refusal::StillStopping
            | Refusal::NotRunning
            | Refusal::NoRestartNeeded
            | Refusal::AttemptOvertaken
            | Refusal::VmmEnded => {
                Error::InvalidRequest { message: cannot(&refusal.to_string()) }
            }
        }
    }

    /// Why a disk cannot be `verb`: it is an instance's.
    async fn in_use(&self, disk: &Disk, verb: &str) -> Error {
        let holder = match self.datastore.disk_holder(disk.id).await {
            Ok(holder) => holder,
            Err(error) => return error.into(),
        };
        let why = match holder {
            Some(held) if held.time_deleted.is_none() => format!(
                "it is attached to instance \"{}\": detach it first",
                held.name,
            ),
            Some(held) => format!(
                "instance \"{}\", which is deleted, may still be running with \
                 it at a host that does not answer",
                held.name,
            ),
            None => "it was attached to an instance until a moment ago: ask \
                     again"
                .to_string(),
        };
        Error::InvalidRequest {
            message: format!("disk \"{}\" cannot be {verb}: {why}", disk.name),
        }
    }
}

/// Why a disk cannot be `verb`: its blocks are not there.
fn not_ready(disk: &Disk, verb: &str, state: DiskState) -> Error {
    let why = match state {
        DiskState::Creating => "wait until it is created",
        DiskState::ImportReady
        | DiskState::ImportingFromBulkWrites
        | DiskState::Finalizing => "finalize its import first",
        DiskState::Faulted => "its contents are lost",
        DiskState::Ready => "ask again",
    };
    Error::InvalidRequest {
        message: format!(
            "disk \"{}\" cannot be {verb}: its state is \"{state}\": {why}",
            disk.name,
        ),
    }
}
