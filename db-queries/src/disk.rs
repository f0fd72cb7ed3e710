//! Local disks.
//!
//! What a disk is attached to is written with the instance's row locked, then
//! the disk's; so a reservation, which locks the instance too, finds its disks
//! at rest. Where its blocks are is written by reservations
//! (`crate::reservation`), and by deletion.

use crate::reservation::give_back;
use crate::waiting::{wake_quota, wake_room};
use crate::{ByNameOrId, DataStore, Error, Limit, Page};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, requests};
use db_model::schema::{disk, instance, project, vmm};
use db_model::{
    Disk, DiskId, Instance, InstanceId, MAX_INSTANCE_DISKS, Name, NameOrId,
    NewDisk, ProjectId, SiloId, SledId, VmmId,
};
use diesel::dsl::{AsSelect, IntoBoxed, Select, exists, select, sql};
use diesel::pg::Pg;
use diesel::sql_types::Timestamptz;
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

    /// A new disk. Locks out the project's deletion.
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
            let now: DateTime<Utc> = project::table
                .find(project)
                .filter(project::time_deleted.is_null())
                .select(sql::<Timestamptz>("clock_timestamp()"))
                .for_share()
                .first(conn)?;
            insert(conn, project, DiskId::new_v4(), &new, now)
        })
        .await
    }

    /// Deletes a disk that is attached to nothing. Its blocks, if it has any,
    /// are given back, and who waits for room there is woken.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InUse`.
    pub async fn disk_delete(&self, id: DiskId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there = lock(conn, id)?;
            if there.instance_id.is_some() {
                return Err(Error::InUse);
            }
            diesel::update(disk::table.find(id))
                .set((
                    disk::time_deleted.eq(diesel::dsl::now),
                    disk::sled_id.eq(None::<SledId>),
                    disk::allocated_by.eq(None::<VmmId>),
                ))
                .execute(conn)?;
            match there.sled_id {
                Some(sled) => free_blocks(conn, &there, sled),
                None => Ok(()),
            }
        })
        .await
    }

    /// A user attaches a disk to an instance of its project. What fails to
    /// start is tried again with it.
    ///
    /// # Errors
    ///
    /// `NotFound`: its project has no such disk; `InUse`: it is attached to
    /// another instance; `Refused`: the instance is deleted, or holds a place
    /// on a sled; `TooMany`.
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
    /// `Refused`: the instance is deleted, or holds a place on a sled.
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
            let changes = requests::move_disk(facts)?;
            set_instance(conn, id, None)?;
            Ok((changes, ()))
        })
        .await
    }
}

fn paged<'a>(query: Disks<'a>, page: &Page<ByNameOrId>) -> Disks<'a> {
    let query = query.limit(page.limit);
    match page.by.clone() {
        ByNameOrId::Name { after, descending: false } => {
            let query = query.order(disk::name.asc());
            match after {
                Some(after) => query.filter(disk::name.gt(after)),
                None => query,
            }
        }
        ByNameOrId::Name { after, descending: true } => {
            let query = query.order(disk::name.desc());
            match after {
                Some(after) => query.filter(disk::name.lt(after)),
                None => query,
            }
        }
        ByNameOrId::Id { after } => {
            let query = query.order(disk::id.asc());
            match after {
                Some(after) => query.filter(disk::id.gt(after)),
                None => query,
            }
        }
    }
}

/// Locks a live disk.
fn lock(conn: &mut PgConnection, id: DiskId) -> Result<Disk, Error> {
    Ok(disk::table
        .find(id)
        .filter(disk::time_deleted.is_null())
        .select(Disk::as_select())
        .for_update()
        .first(conn)?)
}

/// Gives back the blocks of a disk that is being deleted, and wakes who waited
/// for them.
fn free_blocks(
    conn: &mut PgConnection,
    was: &Disk,
    sled: SledId,
) -> Result<(), Error> {
    let silo: SiloId = project::table
        .find(was.project_id)
        .select(project::silo_id)
        .first(conn)?;
    give_back(conn, sled, Some(silo), (0, 0, was.size_bytes.to_i64()))?;
    wake_room(conn, sled)?;
    wake_quota(conn, silo)
}

/// A new disk, attached to nothing, with its blocks nowhere yet. The project's
/// row must be locked against deletion.
///
/// # Errors
///
/// `AlreadyExists`.
pub(crate) fn insert(
    conn: &mut PgConnection,
    project: ProjectId,
    id: DiskId,
    new: &NewDisk,
    now: DateTime<Utc>,
) -> Result<Disk, Error> {
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
        })
        .returning(Disk::as_returning())
        .get_result(conn)?)
}

/// Attaches a live disk of its project to a new instance.
///
/// # Errors
///
/// `NotFound`: no such disk; `InUse`: it is attached to another instance;
/// `TooMany`.
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
        None => Ok(true),
    }
}

/// Attaches a locked disk to an instance, whose row is locked or new.
fn link(
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

/// Attaches a locked disk to an instance, or to none.
fn set_instance(
    conn: &mut PgConnection,
    id: DiskId,
    instance: Option<InstanceId>,
) -> Result<(), Error> {
    diesel::update(disk::table.find(id))
        .set((
            disk::instance_id.eq(instance),
            disk::time_modified.eq(sql::<Timestamptz>("clock_timestamp()")),
        ))
        .execute(conn)?;
    Ok(())
}

/// The disks that were made with an instance which never came to be go with it.
/// They were never allocated.
pub(crate) fn delete_made_with(
    conn: &mut PgConnection,
    instance: InstanceId,
    time_created: DateTime<Utc>,
) -> Result<(), Error> {
    let none: Option<InstanceId> = None;
    diesel::update(
        disk::table
            .filter(disk::instance_id.eq(instance))
            .filter(disk::time_created.eq(time_created)),
    )
    .set((disk::instance_id.eq(none), disk::time_deleted.eq(diesel::dsl::now)))
    .execute(conn)?;
    Ok(())
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
        .execute(conn)?;
    Ok(())
}
