//! Disks.
//!
//! What a disk is attached to is written with the instance's row locked, then
//! the disk's; so a reservation, which locks the instance too, finds its disks
//! at rest. Where a local disk's blocks are is written by reservations
//! (`crate::reservation`), and by deletion. How far a distributed one's are is
//! written by the sagas that make and finish them, with its row locked.

use crate::blocks::{let_go_of_local, let_go_of_store};
use crate::pagination::begun_at;
use crate::project::keep;
use crate::silo_quota::charge_storage;
use crate::sql::{Keep, clock_timestamp};
use crate::{ByNameOrId, DataStore, Error, Limit, Page, image, snapshot};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, requests};
use db_model::schema::{disk, instance, project, vmm};
use db_model::{
    BlockSize, BlocksId, BlocksOf, Disk, DiskBackend, DiskId, DiskState, Fence,
    ImageId, Instance, InstanceId, MAX_INSTANCE_DISKS, Name, NameOrId, NewDisk,
    NewDiskKind, NewSnapshot, ProjectId, SiloId, SledId, SnapshotId, VmmId,
};
use diesel::dsl::{AsSelect, IntoBoxed, Select, exists, select};
use diesel::pg::Pg;
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

type Disks<'a> = IntoBoxed<'a, Select<disk::table, AsSelect<Disk, Pg>>, Pg>;

impl DataStore {
    /// A silo's live disk: of this project, if one is said.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another silo's too.
    pub async fn disk_view(
        &self,
        silo: SiloId,
        within: Option<ProjectId>,
        which: NameOrId,
    ) -> Result<Disk, Error> {
        self.run(move |conn| {
            let query = disk::table
                .inner_join(project::table.on(project::id.eq(disk::project_id)))
                .filter(project::silo_id.eq(silo))
                .filter(disk::time_deleted.is_null())
                .select(Disk::as_select())
                .into_boxed();
            let query = match within {
                Some(project) => query.filter(disk::project_id.eq(project)),
                None => query,
            };
            let query = match &which {
                NameOrId::Id(id) => query.filter(disk::id.eq(*id)),
                NameOrId::Name(name) => query.filter(disk::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A project's disks.
    pub async fn disk_list(
        &self,
        project: ProjectId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Disk>, Error> {
        self.run(move |conn| {
            let query = disk::table
                .select(Disk::as_select())
                .into_boxed()
                .filter(disk::project_id.eq(project))
                .filter(disk::time_deleted.is_null());
            Ok(paged(query, &page).load(conn)?)
        })
        .await
    }

    /// An instance's disks.
    pub async fn disk_list_of_instance(
        &self,
        instance: InstanceId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Disk>, Error> {
        self.run(move |conn| {
            let query = disk::table
                .select(Disk::as_select())
                .into_boxed()
                .filter(disk::instance_id.eq(instance));
            Ok(paged(query, &page).load(conn)?)
        })
        .await
    }

    /// Those of a project's live disks that have one of these names.
    pub async fn disk_list_named(
        &self,
        project: ProjectId,
        names: Vec<Name>,
    ) -> Result<Vec<Disk>, Error> {
        self.run(move |conn| {
            Ok(disk::table
                .filter(disk::project_id.eq(project))
                .filter(disk::name.eq_any(&names))
                .filter(disk::time_deleted.is_null())
                .select(Disk::as_select())
                .load(conn)?)
        })
        .await
    }

    /// What a disk is attached to, if to anything.
    pub async fn disk_holder(
        &self,
        id: DiskId,
    ) -> Result<Option<Instance>, Error> {
        self.run(move |conn| {
            Ok(disk::table
                .find(id)
                .inner_join(
                    instance::table
                        .on(disk::instance_id.eq(instance::id.nullable())),
                )
                .select(Instance::as_select())
                .first(conn)
                .optional()?)
        })
        .await
    }

    /// An instance's disks, in the order in which it tries to boot from them:
    /// its boot disk first, and then by name. None but its project's.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such instance.
    pub async fn disks_to_boot(
        &self,
        instance: InstanceId,
    ) -> Result<Vec<Disk>, Error> {
        self.run(move |conn| to_boot(conn, instance)).await
    }

    /// A new distributed disk, whose blocks are to be made. Idempotent by id.
    /// Locks out the project's deletion. With `granted`, in that silo only.
    ///
    /// # Errors
    ///
    /// `NotFound`: the project is gone, or what it is to begin with, or they
    /// are another silo's;
    /// `AlreadyExists`; `StorageExceeded`; `Fenced`.
    pub async fn disk_insert(
        &self,
        fence: Fence,
        granted: Option<SiloId>,
        project: ProjectId,
        id: DiskId,
        new: NewDisk,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let there: bool =
                select(exists(disk::table.find(id))).get_result(conn)?;
            if there {
                return Ok(());
            }
            let (_, now) = keep(conn, granted, project)?;
            insert(conn, project, id, &new, now)?;
            charge(conn, project, [&new])
        })
        .await
    }

    /// A user begins to send a disk's blocks, or pauses. A disk that is in the
    /// state `to` already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `DiskState`: it is in neither.
    pub async fn disk_import_move(
        &self,
        id: DiskId,
        from: DiskState,
        to: DiskState,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there = lock(conn, id)?;
            if there.state == to {
                return Ok(());
            }
            if there.state != from {
                return Err(Error::DiskState(there.state));
            }
            set_state(conn, id, to)
        })
        .await
    }

    /// The last of a disk's blocks was sent; with them, a snapshot is to be made
    /// of it. Idempotent. With `granted`, of a disk of that project only.
    ///
    /// # Errors
    ///
    /// `NotFound`; `DiskState`: it is not being imported, or still being sent;
    /// for the snapshot, `AlreadyExists` and `StorageExceeded`; `Fenced`.
    pub async fn disk_finalize(
        &self,
        fence: Fence,
        granted: Option<(SiloId, ProjectId)>,
        id: DiskId,
        snapshot: Option<(SnapshotId, NewSnapshot)>,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let project = project_of(conn, id)?;
            if granted.is_some_and(|(_, granted)| granted != project) {
                return Err(Error::NotFound);
            }
            let silo = granted.map(|(silo, _)| silo);
            let (silo, now) = keep(conn, silo, project)?;
            let there = lock(conn, id)?;
            let ours = there.finalized_by == Some(fence.saga_id);
            match there.state {
                // What a saga that was given up has left is taken over.
                DiskState::ImportReady | DiskState::Finalizing => {
                    diesel::update(disk::table.find(id))
                        .set(disk::finalized_by.eq(fence.saga_id))
                        .kept()
                        .execute(conn)?;
                    set_state(conn, id, DiskState::Finalizing)?;
                }
                DiskState::Ready if ours => (),
                state @ (DiskState::Creating
                | DiskState::Ready
                | DiskState::ImportingFromBulkWrites
                | DiskState::Faulted) => return Err(Error::DiskState(state)),
            }
            let Some((snapshot, new)) = &snapshot else { return Ok(()) };
            snapshot::insert(conn, silo, &there, *snapshot, new, now)
        })
        .await
    }

    /// A disk is not finalized by this saga after all: to be finalized again, or
    /// with `lost` faulted. One that another has finalized, or that has an instance
    /// since, is as it was. Idempotent.
    pub async fn disk_finalize_undone(
        &self,
        fence: Fence,
        id: DiskId,
        lost: bool,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let there = match lock(conn, id) {
                Err(Error::NotFound) => return Ok(()),
                there => there?,
            };
            let ended =
                matches!(there.state, DiskState::Finalizing | DiskState::Ready);
            if !ended
                || there.finalized_by != Some(fence.saga_id)
                || there.instance_id.is_some()
            {
                return Ok(());
            }
            let state =
                if lost { DiskState::Faulted } else { DiskState::ImportReady };
            set_state(conn, id, state)
        })
        .await
    }

    /// A disk is finalized, and the snapshot that was made of it with that is
    /// there. Idempotent.
    ///
    /// # Errors
    ///
    /// `NotFound`: one of them is gone; `Fenced`.
    pub async fn disk_finalized(
        &self,
        fence: Fence,
        id: DiskId,
        snapshot: Option<SnapshotId>,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let there = lock(conn, id)?;
            if there.state == DiskState::Finalizing {
                set_state(conn, id, DiskState::Ready)?;
            }
            match snapshot {
                Some(snapshot) => snapshot::made(conn, snapshot),
                None => Ok(()),
            }
        })
        .await
    }

    /// A new local disk. Locks out the project's deletion.
    ///
    /// # Errors
    ///
    /// `NotFound`: the project is gone; `AlreadyExists`.
    pub async fn disk_create(
        &self,
        project: ProjectId,
        new: NewDisk,
    ) -> Result<Disk, Error> {
        self.transaction(move |conn| {
            let (_, now) = keep(conn, None, project)?;
            insert(conn, project, DiskId::new_v4(), &new, now)
        })
        .await
    }

    /// Deletes a disk that is attached to nothing. Its blocks, if it has any,
    /// are to be gone, and who waits for the quota that they took is woken.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InUse`; `DiskState`: a saga is at work on it; `BeingCopied`.
    pub async fn disk_delete(&self, id: DiskId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there = lock(conn, id)?;
            if there.instance_id.is_some() {
                return Err(Error::InUse);
            }
            // An operator may have given a saga up: then it is the user's.
            if !there.state.may_be_deleted()
                && crate::saga::may_work_on(conn, &[id.0])?
            {
                return Err(Error::DiskState(there.state));
            }
            if snapshot::is_being_made_of(conn, id)? {
                return Err(Error::BeingCopied);
            }
            delete(conn, &there)
        })
        .await
    }

    /// A user attaches a disk to an instance of its project. What fails to
    /// start is tried again with it.
    ///
    /// # Errors
    ///
    /// `NotFound`: its project has no such disk; `InUse`: it is attached to
    /// another instance; `DiskState`: its blocks are not there; `Refused`: the
    /// instance is deleted, or holds a place on a sled; `TooMany`.
    pub async fn disk_attach(
        &self,
        instance: InstanceId,
        id: DiskId,
    ) -> Result<(), Error> {
        self.lifecycle(None, instance, move |conn, facts| {
            let project = facts.instance.project_id;
            if !is_to_attach(conn, instance, project, id)? {
                return Ok((Changes::default(), ()));
            }
            let changes = requests::move_disk(facts)?;
            link(conn, instance, id)?;
            Ok((changes, ()))
        })
        .await
    }

    /// A user detaches a disk from an instance. What fails to start is tried
    /// again without it.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such disk; `InUse`: it is attached to another instance;
    /// `BootDisk`; `Refused`: the instance is deleted, or holds a place on a
    /// sled.
    pub async fn disk_detach(
        &self,
        instance: InstanceId,
        id: DiskId,
    ) -> Result<(), Error> {
        self.lifecycle(None, instance, move |conn, facts| {
            match lock(conn, id)?.instance_id {
                None => return Ok((Changes::default(), ())),
                Some(at) if at != instance => return Err(Error::InUse),
                Some(_) => (),
            }
            if facts.instance.boot_disk_id == Some(id) {
                return Err(Error::BootDisk);
            }
            let changes = requests::move_disk(facts)?;
            set_instance(conn, id, None)?;
            Ok((changes, ()))
        })
        .await
    }
}

fn paged<'a>(query: Disks<'a>, page: &Page<ByNameOrId>) -> Disks<'a> {
    let query = query.limit(page.limit);
    begun_at!(query, page.by, disk)
}

/// See [`DataStore::disks_to_boot`].
pub(crate) fn to_boot(
    conn: &mut PgConnection,
    of: InstanceId,
) -> Result<Vec<Disk>, Error> {
    let (project, boot): (ProjectId, Option<DiskId>) = instance::table
        .find(of)
        .select((instance::project_id, instance::boot_disk_id))
        .first(conn)?;
    let mut disks: Vec<Disk> = disk::table
        .filter(disk::instance_id.eq(of))
        .filter(disk::project_id.eq(project))
        .select(Disk::as_select())
        .load(conn)?;
    disks.sort_by(|a, b| {
        (Some(a.id) != boot, &a.name).cmp(&(Some(b.id) != boot, &b.name))
    });
    Ok(disks)
}

/// A disk of an instance that cannot be used now, if there is any: one whose
/// blocks are not there, or one that is being copied.
pub(crate) fn unavailable(
    conn: &mut PgConnection,
    of: InstanceId,
) -> Result<Option<Disk>, Error> {
    let disks: Vec<Disk> = disk::table
        .filter(disk::instance_id.eq(of))
        .filter(disk::backend.eq(DiskBackend::Distributed))
        .order(disk::name)
        .select(Disk::as_select())
        .load(conn)?;
    for disk in disks {
        if disk.state != DiskState::Ready
            || snapshot::is_being_made_of(conn, disk.id)?
        {
            return Ok(Some(disk));
        }
    }
    Ok(None)
}

/// Locks a live disk.
pub(crate) fn lock(conn: &mut PgConnection, id: DiskId) -> Result<Disk, Error> {
    Ok(disk::table
        .find(id)
        .filter(disk::time_deleted.is_null())
        .select(Disk::as_select())
        .for_update()
        .first(conn)?)
}

fn silo_of(
    conn: &mut PgConnection,
    project: ProjectId,
) -> Result<SiloId, Error> {
    Ok(project::table.find(project).select(project::silo_id).first(conn)?)
}

fn project_of(conn: &mut PgConnection, id: DiskId) -> Result<ProjectId, Error> {
    Ok(disk::table.find(id).select(disk::project_id).first(conn)?)
}

/// What a live disk is attached to at the moment.
pub(crate) fn attached_to(
    conn: &mut PgConnection,
    id: DiskId,
) -> Result<Option<InstanceId>, Error> {
    Ok(disk::table
        .find(id)
        .filter(disk::time_deleted.is_null())
        .select(disk::instance_id)
        .first(conn)?)
}

/// Charges the project's silo for new distributed disks: for local ones it is
/// charged when they are allocated.
///
/// # Errors
///
/// `StorageExceeded`.
pub(crate) fn charge<'a>(
    conn: &mut PgConnection,
    project: ProjectId,
    new: impl IntoIterator<Item = &'a NewDisk>,
) -> Result<(), Error> {
    let silo = silo_of(conn, project)?;
    for new in new {
        if new.kind.backend() == DiskBackend::Distributed {
            charge_storage(conn, silo, new.size)?;
        }
    }
    Ok(())
}

/// Deletes a locked disk, and lets go of its blocks.
fn delete(conn: &mut PgConnection, was: &Disk) -> Result<(), Error> {
    diesel::update(disk::table.find(was.id))
        .set((
            disk::time_deleted.eq(diesel::dsl::now),
            disk::instance_id.eq(None::<InstanceId>),
            disk::sled_id.eq(None::<SledId>),
            disk::allocated_by.eq(None::<VmmId>),
            disk::blocks_id.eq(None::<BlocksId>),
        ))
        .kept()
        .execute(conn)?;
    let silo = silo_of(conn, was.project_id)?;
    let (blocks, _) = was.blocks();
    match (was.backend, was.sled_id) {
        (DiskBackend::Distributed, _) => {
            let_go_of_store(conn, BlocksOf::Disk(was.id), silo, was.size_bytes)
        }
        (DiskBackend::Local, Some(sled)) => {
            let_go_of_local(conn, blocks, sled, silo, was.size_bytes)
        }
        (DiskBackend::Local, None) => Ok(()),
    }
}

fn set_state(
    conn: &mut PgConnection,
    id: DiskId,
    state: DiskState,
) -> Result<(), Error> {
    diesel::update(disk::table.find(id))
        .set((disk::state.eq(state), disk::time_modified.eq(clock_timestamp())))
        .kept()
        .execute(conn)?;
    Ok(())
}

/// A disk whose blocks are being made is still to be.
pub(crate) fn is_wanted(
    conn: &mut PgConnection,
    id: DiskId,
) -> Result<(), Error> {
    lock(conn, id).map(|_| ())
}

/// A disk's blocks are there, as far as `state` says.
pub(crate) fn made(
    conn: &mut PgConnection,
    id: DiskId,
    state: DiskState,
) -> Result<(), Error> {
    if lock(conn, id)?.state != DiskState::Creating {
        return Ok(());
    }
    set_state(conn, id, state)
}

/// Deletes a disk that was not to be, if it is there and has no instance yet.
pub(crate) fn unmake(conn: &mut PgConnection, id: DiskId) -> Result<(), Error> {
    match lock(conn, id) {
        Ok(there) if there.instance_id.is_none() => delete(conn, &there),
        Ok(_) | Err(Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a new disk begins with, as its row says it.
struct Begins {
    state: DiskState,
    block_size: BlockSize,
    snapshot: Option<SnapshotId>,
    image: Option<ImageId>,
}

/// Nothing begins with what its silo does not have, or, of images, with what
/// is another project's.
fn begins(
    conn: &mut PgConnection,
    project: ProjectId,
    kind: NewDiskKind,
) -> Result<Begins, Error> {
    let blank = |state, block_size| Begins {
        state,
        block_size,
        snapshot: None,
        image: None,
    };
    Ok(match kind {
        NewDiskKind::Local => blank(DiskState::Ready, BlockSize::LOCAL),
        NewDiskKind::Blank { block_size }
        | NewDiskKind::Import { block_size } => {
            blank(DiskState::Creating, block_size)
        }
        NewDiskKind::Snapshot { id, .. } => {
            let silo = silo_of(conn, project)?;
            let block_size = snapshot::source(conn, silo, id)?.block_size;
            let begins = blank(DiskState::Creating, block_size);
            Begins { snapshot: Some(id), ..begins }
        }
        NewDiskKind::Image { id, .. } => {
            let silo = silo_of(conn, project)?;
            let there = image::source(conn, silo, project, id)?;
            let begins = blank(DiskState::Creating, there.block_size);
            Begins { image: Some(id), ..begins }
        }
    })
}

/// A new disk, attached to nothing, with its blocks nowhere yet. The project's
/// row must be locked against deletion, and the quota be charged.
///
/// # Errors
///
/// `AlreadyExists`; `NotFound`: what it is to begin with is gone.
pub(crate) fn insert(
    conn: &mut PgConnection,
    project: ProjectId,
    id: DiskId,
    new: &NewDisk,
    now: DateTime<Utc>,
) -> Result<Disk, Error> {
    let begins = begins(conn, project, new.kind)?;
    Ok(diesel::insert_into(disk::table)
        .values(&Disk {
            id,
            project_id: project,
            name: new.name.clone(),
            description: new.description.clone(),
            size_bytes: new.size,
            time_created: now,
            time_modified: now,
            time_deleted: None,
            instance_id: None,
            sled_id: None,
            allocated_by: None,
            backend: new.kind.backend(),
            state: begins.state,
            block_size: begins.block_size,
            read_only: new.kind.read_only(),
            blocks_id: None,
            snapshot_id: begins.snapshot,
            image_id: begins.image,
            finalized_by: None,
        })
        .returning(Disk::as_returning())
        .kept()
        .get_result(conn)?)
}

/// Attaches a live disk of its project to a new instance.
///
/// # Errors
///
/// `NotFound`: no such disk; `InUse`: it is attached to another instance;
/// `DiskState`: its blocks are not there; `TooMany`.
pub(crate) fn attach(
    conn: &mut PgConnection,
    instance: InstanceId,
    project: ProjectId,
    id: DiskId,
) -> Result<(), Error> {
    if is_to_attach(conn, instance, project, id)? {
        link(conn, instance, id)?;
    }
    Ok(())
}

/// Locks a live disk of the instance's project that is to be attached to it.
/// Says whether it is not already.
fn is_to_attach(
    conn: &mut PgConnection,
    instance: InstanceId,
    project: ProjectId,
    id: DiskId,
) -> Result<bool, Error> {
    let there = lock(conn, id)?;
    if there.project_id != project {
        return Err(Error::NotFound);
    }
    match there.instance_id {
        Some(at) if at == instance => Ok(false),
        Some(_) => Err(Error::InUse),
        None if there.state == DiskState::Ready => Ok(true),
        None => Err(Error::DiskState(there.state)),
    }
}

/// Attaches a locked disk to an instance, whose row is locked or new.
pub(crate) fn link(
    conn: &mut PgConnection,
    instance: InstanceId,
    id: DiskId,
) -> Result<(), Error> {
    let disks: i64 = disk::table
        .filter(disk::instance_id.eq(instance))
        .count()
        .get_result(conn)?;
    if disks >= MAX_INSTANCE_DISKS {
        return Err(Error::TooMany(Limit::InstanceDisks));
    }
    set_instance(conn, id, Some(instance))
}

/// Checks that a disk is attached to an instance, whose row is locked.
///
/// # Errors
///
/// `InUse`: it is not.
pub(crate) fn is_of(
    conn: &mut PgConnection,
    id: DiskId,
    instance: InstanceId,
) -> Result<(), Error> {
    let attached: bool = select(exists(
        disk::table.find(id).filter(disk::instance_id.eq(instance)),
    ))
    .get_result(conn)?;
    if attached { Ok(()) } else { Err(Error::InUse) }
}

/// Attaches a locked disk to an instance, or to none.
fn set_instance(
    conn: &mut PgConnection,
    id: DiskId,
    instance: Option<InstanceId>,
) -> Result<(), Error> {
    diesel::update(disk::table.find(id))
        .set((
            disk::instance_id.eq(instance),
            disk::time_modified.eq(clock_timestamp()),
        ))
        .kept()
        .execute(conn)?;
    Ok(())
}

/// The disks that were made with an instance which never came to be go with it.
pub(crate) fn delete_made_with(
    conn: &mut PgConnection,
    instance: InstanceId,
    time_created: DateTime<Utc>,
) -> Result<(), Error> {
    let made: Vec<Disk> = disk::table
        .filter(disk::instance_id.eq(instance))
        .filter(disk::time_created.eq(time_created))
        .order(disk::id)
        .select(Disk::as_select())
        .for_update()
        .load(conn)?;
    made.iter().try_for_each(|disk| delete(conn, disk))
}

/// The disks of a deleted instance are attached to nothing. While something of
/// it may run, at a host that does not answer, they stay as they are: nobody
/// else is to write to them. Whoever destroys it asks again.
pub(crate) fn detach_all(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), Error> {
    let may_run: bool = select(exists(
        vmm::table
            .filter(vmm::instance_id.eq(instance))
            .filter(vmm::time_ended.is_null())
            .filter(vmm::may_run),
    ))
    .get_result(conn)?;
    if may_run {
        return Ok(());
    }
    let none: Option<InstanceId> = None;
    diesel::update(disk::table.filter(disk::instance_id.eq(instance)))
        .set((
            disk::instance_id.eq(none),
            disk::time_modified.eq(diesel::dsl::now),
        ))
        .kept()
        .execute(conn)?;
    Ok(())
}
