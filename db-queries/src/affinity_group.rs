//! Affinity and anti-affinity groups, and who is in them.
//!
//! Membership is written with the instance's row locked, then the group's; so
//! a reservation, which locks the instance too, finds its groups at rest.

use crate::{Error, Limit};
use db_model::lifecycle::Refusal;
use db_model::schema::{
    affinity_claim, affinity_group, affinity_group_member, sled_reservation,
};
use db_model::{
    AffinityGroupId, AffinityGroupKind, InstanceId, MAX_GROUP_MEMBERS,
    MAX_INSTANCE_GROUPS, ProjectId,
};
use diesel::dsl::{exists, select};
use diesel::{ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl};

/// The instance joins a live group of its project. Idempotent. Its row must be
/// locked, or be new.
///
/// # Errors
///
/// `NotFound`: no such group; `Refused(NotStopped)`: it holds a place on a sled,
/// of which the group knows nothing; `TooMany`.
pub(crate) fn join(
    conn: &mut PgConnection,
    instance: InstanceId,
    project: ProjectId,
    group: AffinityGroupId,
) -> Result<(), Error> {
    let kind: AffinityGroupKind = affinity_group::table
        .find(group)
        .filter(affinity_group::project_id.eq(project))
        .filter(affinity_group::time_deleted.is_null())
        .select(affinity_group::kind)
        .for_update()
        .first(conn)?;
    let is_member: bool =
        select(exists(affinity_group_member::table.find((group, instance))))
            .get_result(conn)?;
    if is_member {
        return Ok(());
    }
    let placed: bool = select(exists(
        sled_reservation::table
            .filter(sled_reservation::instance_id.eq(instance)),
    ))
    .get_result(conn)?;
    if placed {
        return Err(Error::Refused(Refusal::NotStopped));
    }
    let members: i64 = affinity_group_member::table
        .filter(affinity_group_member::group_id.eq(group))
        .count()
        .get_result(conn)?;
    if members >= MAX_GROUP_MEMBERS {
        return Err(Error::TooMany(Limit::GroupMembers));
    }
    let groups: i64 = affinity_group_member::table
        .inner_join(affinity_group::table)
        .filter(affinity_group_member::instance_id.eq(instance))
        .filter(affinity_group::kind.eq(kind))
        .count()
        .get_result(conn)?;
    if groups >= MAX_INSTANCE_GROUPS {
        return Err(Error::TooMany(Limit::InstanceGroups));
    }
    diesel::insert_into(affinity_group_member::table)
        .values((
            affinity_group_member::group_id.eq(group),
            affinity_group_member::instance_id.eq(instance),
        ))
        .execute(conn)?;
    Ok(())
}

/// The instance leaves a group, and so does its VMM. Says whether it was in it.
pub(crate) fn leave(
    conn: &mut PgConnection,
    instance: InstanceId,
    group: AffinityGroupId,
) -> Result<bool, Error> {
    diesel::delete(
        affinity_claim::table
            .filter(affinity_claim::group_id.eq(group))
            .filter(affinity_claim::instance_id.eq(instance)),
    )
    .execute(conn)?;
    let left =
        diesel::delete(affinity_group_member::table.find((group, instance)))
            .execute(conn)?;
    Ok(left == 1)
}

/// A deleted instance leaves its groups. What may run of it still, does so in
/// their eyes, too: claims go with reservations.
pub(crate) fn leave_all(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<(), Error> {
    diesel::delete(
        affinity_group_member::table
            .filter(affinity_group_member::instance_id.eq(instance)),
    )
    .execute(conn)?;
    Ok(())
}
