//! Local disks.
//!
//! What a disk is attached to is written with the instance's row locked, then
//! the disk's; so a reservation, which locks the instance too, finds its disks
//! at rest. Where its blocks are is written by reservations
//! (`crate::reservation`), and by deletion.

use crate::{Error, Limit};
use chrono::{DateTime, Utc};
use db_model::lifecycle::Refusal;
use db_model::schema::{disk, sled_reservation};
use db_model::{
    Disk, DiskId, InstanceId, MAX_INSTANCE_DISKS, NewDisk, ProjectId,
};
use diesel::dsl::{exists, select};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

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
) -> Result<(), Error> {
    diesel::insert_into(disk::table)
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
        .execute(conn)?;
    Ok(())
}

/// Attaches a live disk of the instance's project. Idempotent. The instance's
/// row must be locked, or be new.
///
/// # Errors
///
/// `NotFound`: no such disk; `InUse`: it is attached to another instance;
/// `Refused(NotStopped)`: the instance holds a place on a sled; `TooMany`.
pub(crate) fn attach(
    conn: &mut PgConnection,
    instance: InstanceId,
    project: ProjectId,
    id: DiskId,
) -> Result<(), Error> {
    let there: Disk = disk::table
        .find(id)
        .filter(disk::project_id.eq(project))
        .filter(disk::time_deleted.is_null())
        .select(Disk::as_select())
        .for_update()
        .first(conn)?;
    match there.instance_id {
        Some(at) if at == instance => return Ok(()),
        Some(_) => return Err(Error::InUse),
        None => (),
    }
    not_placed(conn, instance)?;
    let disks: i64 = disk::table
        .filter(disk::instance_id.eq(instance))
        .count()
        .get_result(conn)?;
    if disks >= MAX_INSTANCE_DISKS {
        return Err(Error::TooMany(Limit::InstanceDisks));
    }
    diesel::update(disk::table.find(id))
        .set((
            disk::instance_id.eq(instance),
            disk::time_modified.eq(diesel::dsl::now),
        ))
        .execute(conn)?;
    Ok(())
}

/// Detaches a disk from the instance. Its blocks stay where they are. The
/// instance's row must be locked.
///
/// # Errors
///
/// `NotFound`: it is not attached to it; `Refused(NotStopped)`: the instance
/// holds a place on a sled.
pub(crate) fn detach(
    conn: &mut PgConnection,
    instance: InstanceId,
    id: DiskId,
) -> Result<(), Error> {
    not_placed(conn, instance)?;
    let none: Option<InstanceId> = None;
    let hit = diesel::update(disk::table.find(id))
        .filter(disk::instance_id.eq(instance))
        .set((
            disk::instance_id.eq(none),
            disk::time_modified.eq(diesel::dsl::now),
        ))
        .execute(conn)?;
    if hit == 1 { Ok(()) } else { Err(Error::NotFound) }
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

/// The disks of a deleted instance are attached to nothing.
pub(crate) fn detach_all(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), Error> {
    let none: Option<InstanceId> = None;
    diesel::update(disk::table.filter(disk::instance_id.eq(instance)))
        .set((
            disk::instance_id.eq(none),
            disk::time_modified.eq(diesel::dsl::now),
        ))
        .execute(conn)?;
    Ok(())
}

fn not_placed(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), Error> {
    let placed: bool = select(exists(
        sled_reservation::table
            .filter(sled_reservation::instance_id.eq(instance)),
    ))
    .get_result(conn)?;
    if placed { Err(Error::Refused(Refusal::NotStopped)) } else { Ok(()) }
}
