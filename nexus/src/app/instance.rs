//! Instances: what users want of them. Intent is written here, in one
//! transaction that also checks that it is allowed; the rest of the system
//! carries it out.

use super::changes::TICK;
use super::views;
use super::{App, Once, about};
use crate::authz::{Action, Resource};
use crate::background::reconciler::VISIBILITY;
use crate::context::OpContext;
use crate::error::{Error, chain};
use crate::saga::instance_start::InstanceStart;
use crate::saga::{ExecError, SagaFailure, instance_create, instance_start};
use crate::sleds::{Reach, ReachError, reported};
use db_model::lifecycle::Refusal;
use db_model::lifecycle::reports::Observation;
use db_model::{
    DiskId, Instance, InstanceChange, InstanceId, InstanceView, Joins,
    KeyedRequest, Name, NameOrId, NewDisk, NewInstance, ProjectId, SagaId,
    StartAttemptId, Vmm,
};
use db_queries::{ByNameOrId, DataStore, Limit, Page, StartSaga, Started};
use sled_agent_client::{Error as SledError, RequestedState};
use slog::info;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const CHANGE: &str = "change the project's instances";

/// How long a request to create waits for the create saga. The saga goes on
/// without it.
pub(super) const CREATE_WAIT: Duration = Duration::from_secs(30);

/// Of so many connections to the database one may be used, all together, by those
/// who wait for a change of an instance by name.
const CONNECTIONS_PER_LOOK: u32 = 8;

/// How many of those who wait for a change look at a time: as each begins, and as it
/// is told. There may be thousands of them, and none is urgent. (In between one task
/// looks for all.)
#[derive(Debug)]
pub(super) struct Looks {
    /// By its id alone an instance is looked at in a statement that many share.
    by_id: Semaphore,
    others: Semaphore,
}

impl Looks {
    pub(super) fn new(datastore: &DataStore) -> Looks {
        let others = datastore.connections().max / CONNECTIONS_PER_LOOK;
        let others = usize::try_from(others.max(1)).unwrap_or(1);
        let by_id = Semaphore::new(views::MOST);
        Looks { by_id, others: Semaphore::new(others) }
    }
}

/// Which instance: by id, or by name within a project.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct InstanceSelector {
    pub project: Option<NameOrId>,
    pub instance: NameOrId,
}

impl InstanceSelector {
    /// Is it looked at by its id alone?
    fn is_by_id(&self) -> bool {
        matches!((&self.instance, &self.project), (NameOrId::Id(_), None))
    }
}

impl App {
    /// A project's instances.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn instance_list(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<InstanceView>, Error> {
        let project = self.project_view(opctx, project).await?;
        let views = self.datastore.instance_list(project.id, page).await?;
        Ok(views.into_iter().map(|view| self.shown(view)).collect())
    }

    /// Makes an instance; with `start`, one that is to run. Returns when it is
    /// there. A request with a key is done once.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project, or no such group or disk in it;
    /// `Forbidden`; `AlreadyExists`; `InvalidValue`: a group is full; `InvalidRequest`: a disk
    /// is attached to another; `Conflict`: something came in between;
    /// `Unavailable`: it is not known yet whether it will be there.
    pub async fn instance_create(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        new: NewInstance,
        request: Option<KeyedRequest>,
    ) -> Result<Once<InstanceView>, Error> {
        let (action, what) =
            (Action::Create, "create instances in the project");
        let project = self.project_to(opctx, project, action, what).await?;
        if let Some(done) = self.done_before(request.as_ref()).await? {
            return Ok(done);
        }
        let joins = self.joins(opctx, project.id, &new).await?;
        let name = new.name.clone();
        let params = instance_create::Params {
            instance_id: InstanceId::new_v4(),
            project_id: project.id,
            granted: Some(opctx.granted(action, Some(project.id))),
            attempt: new
                .start
                .then(|| (StartAttemptId::new_v4(), opctx.user_id)),
            joins,
            new,
            request,
        };
        let saga = self
            .sagas
            .start::<instance_create::InstanceCreate>(&params)
            .await
            .map_err(not_begun)?;
        let incident = saga.id;
        let ended = tokio::time::timeout(CREATE_WAIT, saga.wait()).await;
        match ended {
            Ok(Ok(())) => Ok(Once::Done(self.view(params.instance_id).await?)),
            Ok(Err(SagaFailure::KeyUsed)) => {
                self.done_meanwhile(params.request.as_ref()).await
            }
            Ok(Err(failure)) => {
                self.look_again(opctx, &params, &failure).await?;
                Err(not_created(&params, incident, &failure))
            }
            Err(_) => Err(Error::Unavailable {
                message: format!(
                    "Instance \"{name}\" is still being created. Look for it \
                     by its name before creating it again.",
                ),
                retry_after_secs: super::RETRY_AFTER_SECS,
                source: None,
            }),
        }
    }

    /// What a new instance of this project comes with.
    ///
    /// # Errors
    ///
    /// `NotFound`, of what is not there; `InvalidRequest`: a disk is attached to
    /// another; `InvalidValue`: there is no such key, or they are too many.
    pub(super) async fn joins(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        new: &NewInstance,
    ) -> Result<Joins, Error> {
        let groups = &new.anti_affinity_groups;
        let groups = self.groups_to_join(opctx, project, groups).await?;
        let (made, attached) =
            self.disks_of_new(opctx, project, &new.disks).await?;
        let boot = match &new.boot_disk {
            Some(name) => self.boot_of_new(project, name, &made).await?,
            None => None,
        };
        let chosen = new.ssh_public_keys.as_deref();
        let ssh_keys = self.keys_of_new(opctx, chosen).await?;
        Ok(Joins { groups, made, attached, boot, ssh_keys })
    }

    /// Which disk a new instance boots from: one of those that are made with it,
    /// or that are there.
    async fn boot_of_new(
        &self,
        project: ProjectId,
        name: &Name,
        made: &[(DiskId, NewDisk)],
    ) -> Result<Option<DiskId>, Error> {
        if let Some((id, _)) = made.iter().find(|(_, new)| new.name == *name) {
            return Ok(Some(*id));
        }
        let there =
            self.datastore.disk_list_named(project, vec![name.clone()]).await?;
        Ok(there.first().map(|disk| disk.id))
    }

    /// Looks again for what was found before a create saga began: something
    /// came in between, and its failure does not say what.
    async fn look_again(
        &self,
        opctx: &OpContext,
        params: &instance_create::Params,
        failure: &SagaFailure,
    ) -> Result<(), Error> {
        match failure {
            SagaFailure::AlreadyExists
            | SagaFailure::NotFound
            | SagaFailure::DiskState { .. }
            | SagaFailure::InUse => {
                let project = NameOrId::Id(params.project_id.0);
                let project = self.project_view(opctx, &project).await?;
                self.joins(opctx, project.id, &params.new).await?;
                Ok(())
            }
            SagaFailure::TooMany { .. }
            | SagaFailure::BeingCopied
            | SagaFailure::StorageExceeded { .. }
            | SagaFailure::BlocksFailed { .. }
            | SagaFailure::NoAnswer { .. }
            | SagaFailure::KeyUsed
            | SagaFailure::Overtaken
            | SagaFailure::Start(_)
            | SagaFailure::Internal { .. } => Ok(()),
        }
    }

    /// An instance.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn instance_view(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<InstanceView, Error> {
        self.live(opctx, which).await
    }

    /// An instance, once its view's `view_gen` is above `seen`, or as it is
    /// when `timeout` is over or this process shuts down: those who wait do not
    /// hold that up.
    ///
    /// # Errors
    ///
    /// As [`App::instance_view`], and `NotFound` when it is deleted meanwhile.
    pub async fn instance_wait_for_change(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        seen: i64,
        timeout: Duration,
    ) -> Result<InstanceView, Error> {
        let deadline = Instant::now() + timeout;
        let view = self.look(which, self.live(opctx, which)).await?;
        if view.instance.view_gen > seen {
            return Ok(view);
        }
        self.changed(view.instance.id, seen, deadline).await;
        self.look(which, self.live(opctx, which)).await
    }

    /// Returns when the instance's `view_gen` is above `seen` or it is no more;
    /// at the deadline; and when this process shuts down. Is it the first?
    pub(super) async fn changed(
        &self,
        instance: InstanceId,
        seen: i64,
        deadline: Instant,
    ) -> bool {
        let mut waiter = self.changes.of(instance);
        while Instant::now() < deadline && !self.sagas.closed() {
            let until = (Instant::now() + TICK).min(deadline);
            if waiter.changed(seen, until).await {
                return true;
            }
        }
        false
    }

    /// Somebody who waits for this instance to change looks at it, when it is its
    /// turn.
    pub(super) async fn look<T>(
        &self,
        which: &InstanceSelector,
        look: impl Future<Output = T>,
    ) -> T {
        let turns = match which.is_by_id() {
            true => &self.looks.by_id,
            false => &self.looks.others,
        };
        // It is never closed.
        let _turn = turns.acquire().await;
        look.await
    }

    /// Somebody who waits for something else than an instance looks at that.
    pub(super) async fn look_besides<T>(
        &self,
        look: impl Future<Output = T>,
    ) -> T {
        let _turn = self.looks.others.acquire().await;
        look.await
    }

    /// Changes an instance: its size, its CPU and its boot disk only at rest, its
    /// hostname and its policy at any time.
    ///
    /// # Errors
    ///
    /// `NotFound`, the disk too; `Forbidden`; `InvalidValue`: the disk is not attached to it;
    /// `Conflict`: the size, the CPU or the boot disk, while it is not at rest.
    pub async fn instance_update(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        change: InstanceChange,
        boot_disk: Option<&NameOrId>,
    ) -> Result<InstanceView, Error> {
        let instance = self.live_to(opctx, which, CHANGE).await?.instance;
        let id = instance.id;
        let boot_disk = match boot_disk {
            Some(disk) => Some(self.disk_of(opctx, &instance, disk).await?),
            None => None,
        };
        let change = InstanceChange { boot_disk, ..change };
        let changed = self.datastore.instance_change(id, change).await;
        changed.map_err(|error| {
            if let db_queries::Error::InUse = error {
                return not_of(&instance.name, "it was detached just now");
            }
            let db_queries::Error::Refused(_) = error else {
                return about("instance", &which.instance)(error);
            };
            Error::Conflict {
                message: "ncpus, memory, cpu_platform and boot_disk can be \
                          changed only while the instance is stopped or failed: stop it \
                          first"
                    .to_string(),
            }
        })?;
        self.activators.changed();
        self.view(id).await
    }

    /// A disk that is attached to the instance.
    async fn disk_of(
        &self,
        opctx: &OpContext,
        instance: &Instance,
        disk: &NameOrId,
    ) -> Result<DiskId, Error> {
        let found = self
            .datastore
            .disk_view(opctx.silo_id, Some(instance.project_id), disk.clone())
            .await
            .map_err(about("disk", disk))?;
        if found.instance_id == Some(instance.id) {
            return Ok(found.id);
        }
        let why = format!("disk \"{}\" is not attached", found.name);
        Err(not_of(&instance.name, &why))
    }

    /// Deletes an instance that does not run. From the return on it is not
    /// found, and its name is free.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it must be stopped first.
    pub async fn instance_delete(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<(), Error> {
        let what = "delete the project's instances";
        let view = self.live_to(opctx, which, what).await?;
        let deleted = self.datastore.instance_delete(view.instance.id).await;
        deleted.map_err(|error| refused(which, "deleted", error))?;
        self.activators.changed();
        Ok(())
    }

    /// Wants an instance to run. Durable at the return; does not wait for
    /// more. A request with a key is done once.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `Conflict`: it is still stopping.
    pub async fn instance_start(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        request: Option<KeyedRequest>,
    ) -> Result<Once<InstanceView>, Error> {
        let what = "start the project's instances";
        let seen = self.live_to(opctx, which, what).await?;
        if let Some(done) = self.done_before(request.as_ref()).await? {
            return Ok(done);
        }
        let (id, attempt) = (seen.instance.id, StartAttemptId::new_v4());
        let turn = self.reconciler.turn();
        let claim_for = turn.is_some().then_some(VISIBILITY);
        let saga = match turn {
            Some(_) => {
                let params =
                    instance_start::Params::new(&seen.instance, attempt);
                self.sagas.prepare::<InstanceStart>(&params).ok()
            }
            None => None,
        };
        let new = saga
            .as_ref()
            .map(|saga| StartSaga { saga: saga.new_saga().clone(), seen });
        let started = self
            .datastore
            .instance_start(
                id,
                attempt,
                opctx.user_id,
                request.clone(),
                claim_for,
                new,
            )
            .await;
        if let Err(db_queries::Error::KeyUsed) = started {
            return self.done_meanwhile(request.as_ref()).await;
        }
        let started =
            started.map_err(|error| refused(which, "started", error))?;
        match (started, saga, turn) {
            (Started::Saga(view), Some(saga), _) => {
                if let Err(error) = saga.run().await {
                    info!(self.log, "a start goes on after a while";
                        "instance" => %id, "error" => chain(&error));
                }
                self.activators.seen();
                return Ok(Once::Done(self.shown(*view)));
            }
            (Started::Claimed(claimed), _, Some(turn)) => {
                self.reconciler.look_now(claimed, turn);
                self.activators.seen();
            }
            (_, _, _) => self.activators.changed(),
        }
        Ok(Once::Done(self.view(id).await?))
    }

    /// Wants an instance not to run. Durable at the return; does not wait for
    /// more.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it is still being created.
    pub async fn instance_stop(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<InstanceView, Error> {
        let what = "stop the project's instances";
        let id = self.live_to(opctx, which, what).await?.instance.id;
        let stopped = self.datastore.instance_stop(id).await;
        stopped.map_err(|error| refused(which, "stopped", error))?;
        self.activators.changed();
        self.view(id).await
    }

    /// Resets the guest, now: no intent, and never repeated by the system.
    /// `aside` is called before the sled is waited for, which may take long.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: it does not run; `Unavailable`: its sled
    /// gave no answer, or has lost it.
    pub async fn instance_reboot(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<InstanceView, Error> {
        let what = "reboot the project's instances";
        let id = self.live_to(opctx, which, what).await?.instance.id;
        let vmm = self
            .datastore
            .instance_to_reboot(id)
            .await
            .map_err(|error| refused(which, "rebooted", error))?;
        aside()?;
        self.reboot(&vmm).await?;
        self.activators.changed();
        self.view(id).await
    }

    async fn reboot(&self, vmm: &Vmm) -> Result<(), Error> {
        // While this process may not act, no sled is asked.
        if !self.sleds.may_ask() {
            return Err(Error::Unavailable {
                message: "This server reboots nothing now. Ask again."
                    .to_string(),
                retry_after_secs: 1,
                source: None,
            });
        }
        let client = match self.sleds.reach(vmm.sled_id).await {
            Ok(Reach::Client(client)) => client,
            Ok(Reach::Expunged) => {
                self.observe(vmm, Observation::Fenced).await?;
                return Err(not_there());
            }
            Err(ReachError::Database(error)) => return Err(error.into()),
            Err(error @ ReachError::Address(_)) => {
                return Err(Error::internal(error));
            }
        };
        match client.vmm_put_state(vmm.id.0, RequestedState::Reboot).await {
            Ok(report) => self.observe(vmm, reported(&report)).await,
            Err(SledError::NoSuchVmm) => {
                // It leaves a tombstone before it is taken for lost: a late
                // order to make it may be on its way.
                let entombed = client.vmm_unregister(vmm.id.0).await;
                entombed.map_err(|error| self.no_answer(vmm, error))?;
                self.observe(vmm, Observation::Unknown).await?;
                self.activators.changed();
                Err(not_there())
            }
            Err(SledError::Refused { .. }) => Err(Error::InvalidRequest {
                message: "the guest is not running, so it cannot be rebooted"
                    .to_string(),
            }),
            Err(error) => Err(self.no_answer(vmm, error)),
        }
    }

    fn no_answer(&self, vmm: &Vmm, error: SledError) -> Error {
        info!(self.log, "a reboot got no answer";
            "vmm" => %vmm.id, "error" => chain(&error));
        Error::Unavailable {
            message: "The instance's host did not answer: it may or may not \
                      have rebooted."
                .to_string(),
            retry_after_secs: super::RETRY_AFTER_SECS,
            source: Some(Box::new(error)),
        }
    }

    async fn observe(
        &self,
        vmm: &Vmm,
        observation: Observation,
    ) -> Result<(), Error> {
        self.datastore
            .vmm_observe(
                vmm.sled_id,
                vmm.id,
                observation,
                self.tuning.boot_allowance(),
            )
            .await?;
        Ok(())
    }

    /// The id of an instance that is, or by id one that was.
    pub(super) async fn instance_ever(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<InstanceId, Error> {
        Ok(self.look_up(opctx, which).await?.instance.id)
    }

    /// The instance, not deleted.
    pub(super) async fn live(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<InstanceView, Error> {
        let view = self.look_up(opctx, which).await?;
        if view.instance.time_deleted.is_some() {
            return Err(Error::not_found("instance", &which.instance));
        }
        Ok(view)
    }

    /// The same, which the caller may change.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`: not to do `what`.
    pub(super) async fn live_to(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        what: &'static str,
    ) -> Result<InstanceView, Error> {
        let view = self.live(opctx, which).await?;
        let (project, action) =
            (view.instance.project_id, Action::ChangeContents);
        let asked = ("instance", &which.instance);
        self.may_in(opctx, project, action, what, asked)?;
        Ok(view)
    }

    /// The instance, if the caller may see its project, and, when a project is
    /// named, if it is in that.
    pub(super) async fn look_up(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<InstanceView, Error> {
        let id = match (&which.instance, &which.project) {
            (NameOrId::Id(id), _) => InstanceId(*id),
            (NameOrId::Name(_), None) => {
                return Err(Error::InvalidRequest {
                    message: format!(
                        "instance \"{}\" is given by name: name its project \
                         with ?project=, or give its id",
                        which.instance,
                    ),
                });
            }
            (NameOrId::Name(name), Some(project)) => {
                let project = self.project_view(opctx, project).await?;
                self.datastore
                    .instance_id_by_name(project.id, name.clone())
                    .await
                    .map_err(missing(which))?
            }
        };
        let hidden = || Error::not_found("instance", &which.instance);
        let view = self.views.of(id).await?.ok_or_else(hidden)?;
        let id = view.instance.project_id.0;
        let project = Resource::Project { id, silo: view.silo_id };
        opctx.authorize_seen(Action::View, project, "see instances", hidden)?;
        if let (NameOrId::Id(_), Some(project)) =
            (&which.instance, &which.project)
        {
            let project = self.project_view(opctx, project).await?;
            if project.id != view.instance.project_id {
                return Err(Error::not_found("instance", &which.instance));
            }
        }
        Ok(self.shown(view))
    }

    pub(super) async fn view(
        &self,
        id: InstanceId,
    ) -> Result<InstanceView, Error> {
        let view = self.views.of(id).await?;
        Ok(self.shown(view.ok_or(db_queries::Error::NotFound)?))
    }
}

/// What is too many of what a new instance was to come with.
fn too_many(limit: Limit) -> Error {
    match limit {
        Limit::GroupMembers => Error::invalid_value(
            "anti_affinity_groups",
            format!("one of them is full: {limit}"),
        ),
        Limit::InstanceGroups => {
            Error::invalid_value("anti_affinity_groups", limit.to_string())
        }
        Limit::InstanceDisks => {
            Error::invalid_value("disks", limit.to_string())
        }
        Limit::UserSshKeys => {
            Error::invalid_value("ssh_public_keys", limit.to_string())
        }
    }
}

fn not_of(instance: &Name, why: &str) -> Error {
    Error::invalid_value(
        "boot_disk",
        format!("{why}: attach it to instance \"{instance}\" first"),
    )
}

fn missing(
    which: &InstanceSelector,
) -> impl FnOnce(db_queries::Error) -> Error + use<> {
    about("instance", &which.instance)
}

fn not_there() -> Error {
    Error::Unavailable {
        message: "The instance's host no longer runs it: it has failed."
            .to_string(),
        retry_after_secs: super::RETRY_AFTER_SECS,
        source: None,
    }
}

/// Why an instance was not made, as far as the saga's failure says.
fn not_created(
    params: &instance_create::Params,
    saga: SagaId,
    failure: &SagaFailure,
) -> Error {
    let name = &params.new.name;
    match failure {
        SagaFailure::AlreadyExists => {
            Error::AlreadyExists { kind: "instance", name: name.to_string() }
        }
        SagaFailure::NotFound
        | SagaFailure::InUse
        | SagaFailure::DiskState { .. }
        | SagaFailure::BeingCopied => Error::Conflict {
            message: format!(
                "instance \"{name}\" was not created: something that it was \
                 to have was changed at the same time. Create it again.",
            ),
        },
        SagaFailure::TooMany { limit } => too_many(*limit),
        SagaFailure::StorageExceeded { exceeded } => Error::InvalidRequest {
            message: format!("instance \"{name}\" was not created: {exceeded}"),
        },
        SagaFailure::BlocksFailed { message } => Error::Unavailable {
            message: format!(
                "Instance \"{name}\" was not created: the contents of its \
                 disks could not be made: {message}",
            ),
            retry_after_secs: super::RETRY_AFTER_SECS,
            source: None,
        },
        SagaFailure::NoAnswer { chain } => Error::Unavailable {
            message: format!(
                "Instance \"{name}\" was not created: no host answers that \
                 could make the contents of its disks. Ask again.",
            ),
            retry_after_secs: super::RETRY_AFTER_SECS,
            source: Some(chain.clone().into()),
        },
        SagaFailure::KeyUsed
        | SagaFailure::Overtaken
        | SagaFailure::Start(_)
        | SagaFailure::Internal { .. } => Error::internal(format!(
            "instance_create {saga} failed: {failure:?}"
        )),
    }
}

fn not_begun(error: ExecError) -> Error {
    match error {
        ExecError::Unavailable(source) => Error::Unavailable {
            message: "The database cannot be reached at the moment. Look for \
                      the instance by its name before creating it again."
                .to_string(),
            retry_after_secs: super::RETRY_AFTER_SECS,
            source: Some(source),
        },
        ExecError::Create(source) => Error::internal(source),
        // It takes no attempt.
        error @ ExecError::Overtaken(_) => Error::internal(error),
        error @ (ExecError::Closed | ExecError::Busy) => Error::Unavailable {
            message: "This server takes no such request now. Ask again."
                .to_string(),
            retry_after_secs: 1,
            source: Some(Box::new(error)),
        },
    }
}

/// What a refusal says to who asked for the instance to be `verb`.
pub(super) fn refused(
    which: &InstanceSelector,
    verb: &str,
    error: db_queries::Error,
) -> Error {
    let db_queries::Error::Refused(refusal) = error else {
        return about("instance", &which.instance)(error);
    };
    let message =
        format!("instance \"{}\" cannot be {verb}: {refusal}", which.instance,);
    match refusal {
        Refusal::Creating | Refusal::NotStopped | Refusal::NotRunning => {
            Error::InvalidRequest { message }
        }
        Refusal::Deleted => Error::not_found("instance", &which.instance),
        Refusal::StillStopping
        | Refusal::NoRestartNeeded
        | Refusal::AttemptOvertaken
        | Refusal::OtherVmmLinked
        | Refusal::VmmEnded => Error::Conflict { message },
    }
}
