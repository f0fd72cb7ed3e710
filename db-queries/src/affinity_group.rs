//! Affinity and anti-affinity groups, and how instances come into them and out.
//!
//! Membership is written with the instance's row locked, then the group's; so
//! a reservation, which locks the instance too, finds its groups at rest.

use crate::affinity_group_member::wake_members;
use crate::pagination::begun_at;
use crate::sql::{Keep, clock_timestamp};
use crate::{ByNameOrId, DataStore, Error, Limit, Page};
use chrono::{DateTime, Utc};
use db_model::lifecycle::Refusal;
use db_model::schema::{
    affinity_claim, affinity_group, affinity_group_member, instance, project,
    vmm,
};
use db_model::{
    AffinityGroup, AffinityGroupChange, AffinityGroupId, AffinityGroupKind,
    InstanceId, MAX_GROUP_MEMBERS, MAX_INSTANCE_GROUPS, NameOrId,
    NewAffinityGroup, ProjectId, SiloId,
};
use diesel::dsl::{exists, now, select};
use diesel::pg::Pg;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, JoinOnDsl, PgConnection,
    QueryDsl, RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// The live group, of this kind, of a silo: of one project, if one is
    /// named, which it must be where the group is called by name.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn affinity_group_view(
        &self,
        silo: SiloId,
        kind: AffinityGroupKind,
        within: Option<ProjectId>,
        which: NameOrId,
    ) -> Result<AffinityGroup, Error> {
        self.run(move |conn| {
            let query = affinity_group::table
                .inner_join(
                    project::table
                        .on(affinity_group::project_id.eq(project::id)),
                )
                .filter(project::silo_id.eq(silo))
                .filter(affinity_group::kind.eq(kind))
                .filter(affinity_group::time_deleted.is_null())
                .select(AffinityGroup::as_select())
                .into_boxed();
            let query = match within {
                Some(id) => query.filter(affinity_group::project_id.eq(id)),
                None => query,
            };
            let query = match &which {
                NameOrId::Id(id) => query.filter(affinity_group::id.eq(*id)),
                NameOrId::Name(name) => {
                    query.filter(affinity_group::name.eq(name))
                }
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A project's groups of this kind.
    pub async fn affinity_group_list(
        &self,
        project: ProjectId,
        kind: AffinityGroupKind,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroup>, Error> {
        self.run(move |conn| {
            let groups = affinity_group::table
                .into_boxed()
                .filter(affinity_group::project_id.eq(project))
                .filter(affinity_group::kind.eq(kind));
            load_page(conn, groups, &page)
        })
        .await
    }

    /// The groups of this kind that an instance is in.
    pub async fn instance_affinity_group_list(
        &self,
        instance: InstanceId,
        kind: AffinityGroupKind,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroup>, Error> {
        self.run(move |conn| {
            let of_instance = affinity_group_member::table
                .filter(affinity_group_member::instance_id.eq(instance))
                .select(affinity_group_member::group_id);
            let groups = affinity_group::table
                .into_boxed()
                .filter(affinity_group::id.eq_any(of_instance))
                .filter(affinity_group::kind.eq(kind));
            load_page(conn, groups, &page)
        })
        .await
    }

    /// A new group, with nobody in it. Locks out the project's deletion.
    ///
    /// # Errors
    ///
    /// `NotFound`: the project is gone; `AlreadyExists`.
    pub async fn affinity_group_create(
        &self,
        project_id: ProjectId,
        kind: AffinityGroupKind,
        new: NewAffinityGroup,
    ) -> Result<AffinityGroup, Error> {
        self.transaction(move |conn| {
            let at: DateTime<Utc> = project::table
                .find(project_id)
                .filter(project::time_deleted.is_null())
                .select(clock_timestamp())
                .for_share()
                .first(conn)?;
            Ok(diesel::insert_into(affinity_group::table)
                .values(&AffinityGroup {
                    id: AffinityGroupId::new_v4(),
                    project_id,
                    kind,
                    name: new.name.clone(),
                    description: new.description.clone(),
                    policy: new.policy,
                    time_created: at,
                    time_modified: at,
                    time_deleted: None,
                })
                .returning(AffinityGroup::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Changes what `change` names.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`: the new name is taken.
    pub async fn affinity_group_change(
        &self,
        id: AffinityGroupId,
        change: AffinityGroupChange,
    ) -> Result<AffinityGroup, Error> {
        self.transaction(move |conn| {
            let old = lock(conn, id)?;
            let AffinityGroupChange { name, description } = change.clone();
            Ok(diesel::update(affinity_group::table.find(id))
                .set((
                    affinity_group::name.eq(name.unwrap_or(old.name)),
                    affinity_group::description
                        .eq(description.unwrap_or(old.description)),
                    affinity_group::time_modified.eq(now),
                ))
                .returning(AffinityGroup::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Deletes a group. Its members stay where they are, and are in it no more:
    /// what it has kept from starting is looked at.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn affinity_group_delete(
        &self,
        id: AffinityGroupId,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            // From here on nobody joins it.
            lock(conn, id)?;
            wake_members(conn, id)?;
            diesel::delete(
                affinity_claim::table.filter(affinity_claim::group_id.eq(id)),
            )
            .execute(conn)?;
            diesel::delete(
                affinity_group_member::table
                    .filter(affinity_group_member::group_id.eq(id)),
            )
            .execute(conn)?;
            diesel::update(affinity_group::table.find(id))
                .set(affinity_group::time_deleted.eq(now))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }
}

/// Locks a live group.
fn lock(
    conn: &mut PgConnection,
    id: AffinityGroupId,
) -> Result<AffinityGroup, Error> {
    Ok(affinity_group::table
        .find(id)
        .filter(affinity_group::time_deleted.is_null())
        .select(AffinityGroup::as_select())
        .for_update()
        .first(conn)?)
}

/// The page of those of `groups` that live.
fn load_page(
    conn: &mut PgConnection,
    groups: affinity_group::BoxedQuery<'_, Pg>,
    page: &Page<ByNameOrId>,
) -> Result<Vec<AffinityGroup>, Error> {
    let query = groups
        .filter(affinity_group::time_deleted.is_null())
        .limit(page.limit)
        .select(AffinityGroup::as_select());
    let query = begun_at!(query, page.by, affinity_group);
    Ok(query.load(conn)?)
}

/// The instance joins a live group of its project. Idempotent; says whether it
/// was not in it yet. Its row must be locked, or be new.
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
) -> Result<bool, Error> {
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
        return Ok(false);
    }
    if is_placed(conn, instance)? {
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
        .kept()
        .execute(conn)?;
    Ok(true)
}

/// Does the instance hold a place on a sled? What does is linked to it, or was
/// abandoned and has not ended; by these it is found without a scan.
pub(crate) fn is_placed(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<bool, Error> {
    let linked =
        instance::table.find(id).filter(instance::active_vmm_id.is_not_null());
    let live = vmm::table
        .filter(vmm::instance_id.eq(id))
        .filter(vmm::time_ended.is_null());
    Ok(select(exists(linked).or(exists(live))).get_result(conn)?)
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
