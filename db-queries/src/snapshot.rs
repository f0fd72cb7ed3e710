//! Snapshots of disks.
//!
//! A snapshot is made of a disk that nobody writes to: its row is written with
//! the instance that the disk is attached to locked, then the disk, and while it
//! is not made no instance with that disk gets a place on a sled
//! (`crate::reservation`).

use crate::blocks::let_go_of_store;
use crate::pagination::begun_at;
use crate::project::keep;
use crate::silo_quota::charge_storage;
use crate::sql::Keep;
use crate::{ByNameOrId, DataStore, Error, Page, disk, facts};
use chrono::{DateTime, Utc};
use db_model::lifecycle::requests;
use db_model::schema::{project, snapshot};
use db_model::{
    BlocksOf, Disk, DiskId, DiskState, Fence, InstanceId, NameOrId,
    NewSnapshot, ProjectId, SiloId, Snapshot, SnapshotId,
};
use diesel::dsl::{exists, select};
use diesel::{
    ExpressionMethods, JoinOnDsl, OptionalExtension, PgConnection, QueryDsl,
    RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// A silo's live snapshot: of this project, if one is said.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another silo's too.
    pub async fn snapshot_view(
        &self,
        silo: SiloId,
        within: Option<ProjectId>,
        which: NameOrId,
    ) -> Result<Snapshot, Error> {
        self.run(move |conn| {
            let query = snapshot::table
                .inner_join(
                    project::table.on(project::id.eq(snapshot::project_id)),
                )
                .filter(project::silo_id.eq(silo))
                .filter(snapshot::time_deleted.is_null())
                .select(Snapshot::as_select())
                .into_boxed();
            let query = match within {
                Some(project) => query.filter(snapshot::project_id.eq(project)),
                None => query,
            };
            let query = match &which {
                NameOrId::Id(id) => query.filter(snapshot::id.eq(*id)),
                NameOrId::Name(name) => query.filter(snapshot::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A project's snapshots.
    pub async fn snapshot_list(
        &self,
        project: ProjectId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Snapshot>, Error> {
        self.run(move |conn| {
            let query = snapshot::table
                .filter(snapshot::project_id.eq(project))
                .filter(snapshot::time_deleted.is_null())
                .limit(page.limit)
                .select(Snapshot::as_select())
                .into_boxed();
            let query = begun_at!(query, page.by, snapshot);
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A snapshot that is to be made of a disk at rest. Idempotent by id. Locks
    /// out the project's deletion. With `granted`, in that silo only.
    ///
    /// # Errors
    ///
    /// `NotFound`: the project is gone, or the disk, or another's; `AlreadyExists`; `InUse`:
    /// the disk's instance is not stopped; `DiskState`: its blocks are not all
    /// there; `StorageExceeded`.
    pub async fn snapshot_insert(
        &self,
        fence: Fence,
        granted: Option<SiloId>,
        project: ProjectId,
        id: SnapshotId,
        new: NewSnapshot,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            if is_there(conn, id)? {
                return Ok(());
            }
            let (silo, now) = keep(conn, granted, project)?;
            let of = lock_at_rest(conn, new.disk_id)?;
            if of.project_id != project {
                return Err(Error::NotFound);
            }
            if of.state != DiskState::Ready {
                return Err(Error::DiskState(of.state));
            }
            insert(conn, silo, &of, id, &new, now)
        })
        .await
    }

    /// Deletes a snapshot. Disks and images that were made from it stay.
    ///
    /// # Errors
    ///
    /// `NotFound`; `BeingCopied`: it is still being made.
    pub async fn snapshot_delete(&self, id: SnapshotId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there = lock(conn, id)?;
            if !there.made
                && crate::saga::may_work_on(conn, &[id.0, there.disk_id.0])?
            {
                return Err(Error::BeingCopied);
            }
            delete(conn, &there)
        })
        .await
    }
}

/// Locks a disk, and the instance that it is attached to, which holds no place
/// on a sled.
///
/// # Errors
///
/// `NotFound`; `InUse`: the instance holds a place, or the disk has just been
/// attached or detached.
fn lock_at_rest(conn: &mut PgConnection, id: DiskId) -> Result<Disk, Error> {
    let attached: Option<InstanceId> = disk::attached_to(conn, id)?;
    if let Some(instance) = attached {
        let facts = facts::lock(conn, instance)?;
        requests::move_disk(&facts).map_err(|_| Error::InUse)?;
    }
    let there = disk::lock(conn, id)?;
    if there.instance_id == attached { Ok(there) } else { Err(Error::InUse) }
}

fn is_there(conn: &mut PgConnection, id: SnapshotId) -> Result<bool, Error> {
    Ok(select(exists(snapshot::table.find(id))).get_result(conn)?)
}

/// A new snapshot of a locked disk, charged to the silo. Idempotent by id.
pub(crate) fn insert(
    conn: &mut PgConnection,
    silo: SiloId,
    of: &Disk,
    id: SnapshotId,
    new: &NewSnapshot,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if is_there(conn, id)? {
        return Ok(());
    }
    diesel::insert_into(snapshot::table)
        .values(&Snapshot {
            id,
            project_id: of.project_id,
            name: new.name.clone(),
            description: new.description.clone(),
            size_bytes: of.size_bytes,
            block_size: of.block_size,
            disk_id: of.id,
            made: false,
            time_created: now,
            time_modified: now,
            time_deleted: None,
        })
        .kept()
        .execute(conn)?;
    charge_storage(conn, silo, of.size_bytes)
}

/// Locks a live snapshot.
fn lock(conn: &mut PgConnection, id: SnapshotId) -> Result<Snapshot, Error> {
    Ok(snapshot::table
        .find(id)
        .filter(snapshot::time_deleted.is_null())
        .select(Snapshot::as_select())
        .for_update()
        .first(conn)?)
}

/// Is a disk being copied?
pub(crate) fn is_being_made_of(
    conn: &mut PgConnection,
    id: DiskId,
) -> Result<bool, Error> {
    Ok(select(exists(
        snapshot::table
            .filter(snapshot::disk_id.eq(id))
            .filter(diesel::dsl::not(snapshot::made))
            .filter(snapshot::time_deleted.is_null()),
    ))
    .get_result(conn)?)
}

/// A snapshot that is not made yet is still to be.
pub(crate) fn is_wanted(
    conn: &mut PgConnection,
    id: SnapshotId,
) -> Result<(), Error> {
    lock(conn, id).map(|_| ())
}

/// A snapshot's blocks are there.
pub(crate) fn made(
    conn: &mut PgConnection,
    id: SnapshotId,
) -> Result<(), Error> {
    lock(conn, id)?;
    diesel::update(snapshot::table.find(id))
        .set(snapshot::made.eq(true))
        .kept()
        .execute(conn)?;
    Ok(())
}

/// Deletes a snapshot that was not to be, if it is there.
pub(crate) fn unmake(
    conn: &mut PgConnection,
    id: SnapshotId,
) -> Result<(), Error> {
    match lock(conn, id) {
        Ok(there) => delete(conn, &there),
        Err(Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

fn delete(conn: &mut PgConnection, was: &Snapshot) -> Result<(), Error> {
    diesel::update(snapshot::table.find(was.id))
        .set(snapshot::time_deleted.eq(diesel::dsl::now))
        .kept()
        .execute(conn)?;
    let silo: SiloId = project::table
        .find(was.project_id)
        .select(project::silo_id)
        .first(conn)?;
    let_go_of_store(conn, BlocksOf::Snapshot(was.id), silo, was.size_bytes)
}

/// What a new disk of a snapshot of this silo is like.
pub(crate) fn source(
    conn: &mut PgConnection,
    silo: SiloId,
    id: SnapshotId,
) -> Result<Snapshot, Error> {
    let there: Option<Snapshot> = snapshot::table
        .inner_join(project::table.on(project::id.eq(snapshot::project_id)))
        .filter(snapshot::id.eq(id))
        .filter(project::silo_id.eq(silo))
        .filter(snapshot::time_deleted.is_null())
        .filter(snapshot::made)
        .select(Snapshot::as_select())
        .first(conn)
        .optional()?;
    there.ok_or(Error::NotFound)
}
