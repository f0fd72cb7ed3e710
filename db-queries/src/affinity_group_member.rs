//! Who is in an affinity or anti-affinity group. A deleted instance is in none:
//! it leaves them all as it is deleted.

use crate::affinity_group::{join, leave};
use crate::pagination::begun_at;
use crate::sql::statement;
use crate::{ByNameOrId, DataStore, Error, Page};
use db_model::lifecycle::{Changes, Facts, requests};
use db_model::schema::{affinity_group_member, instance, vmm};
use db_model::{
    AffinityGroup, AffinityGroupId, AffinityGroupKind, AffinityGroupMember,
    AffinityPolicy, Instance, InstanceId, Vmm, run_state,
};
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, PgConnection,
    QueryDsl, RunQueryDsl, SelectableHelper,
};

/// Failed members that one change of a group has looked at: few enough not to
/// race each other in vain, as when room is freed. Those that are left out are
/// looked at every few minutes anyhow.
const WOKEN_AT_ONCE: i64 = 8;

type MemberRow = (Instance, Option<Vmm>);

/// The statement that reads a group's members.
macro_rules! members {
    ($group:expr) => {
        affinity_group_member::table
            .inner_join(
                instance::table
                    .on(affinity_group_member::instance_id.eq(instance::id)),
            )
            .left_join(
                vmm::table.on(instance::active_vmm_id.eq(vmm::id.nullable())),
            )
            .filter(affinity_group_member::group_id.eq($group))
            .select((Instance::as_select(), Option::<Vmm>::as_select()))
    };
}

fn member((instance, vmm): MemberRow) -> AffinityGroupMember {
    AffinityGroupMember {
        id: instance.id,
        run_state: run_state(&instance, vmm.as_ref()),
        name: instance.name,
    }
}

impl DataStore {
    /// A group's members.
    pub async fn affinity_group_member_list(
        &self,
        group: AffinityGroupId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroupMember>, Error> {
        self.run(move |conn| {
            let query = members!(group).limit(page.limit).into_boxed();
            let query = begun_at!(query, page.by, instance);
            let rows: Vec<MemberRow> = query.load(conn)?;
            Ok(rows.into_iter().map(member).collect())
        })
        .await
    }

    /// A member of a group.
    ///
    /// # Errors
    ///
    /// `NotFound`: it is not in it.
    pub async fn affinity_group_member_view(
        &self,
        group: AffinityGroupId,
        id: InstanceId,
    ) -> Result<AffinityGroupMember, Error> {
        self.run(move |conn| {
            let row: MemberRow =
                members!(group).filter(instance::id.eq(id)).first(conn)?;
            Ok(member(row))
        })
        .await
    }

    /// An instance joins a group of its project. Idempotent. If the group means
    /// that its members share a sled, where they may start is another question
    /// from here on, and is asked again.
    ///
    /// # Errors
    ///
    /// `NotFound`: either is gone; `Refused(NotStopped)`: it holds a place on a
    /// sled; `TooMany`.
    pub async fn affinity_group_member_add(
        &self,
        group: &AffinityGroup,
        id: InstanceId,
    ) -> Result<(), Error> {
        let binds = group.kind == AffinityGroupKind::Affinity
            && group.policy == AffinityPolicy::Fail;
        let group = group.id;
        self.lifecycle(None, id, move |conn, facts| {
            if facts.instance.time_deleted.is_some() {
                return Err(Error::NotFound);
            }
            let project = facts.instance.project_id;
            if !join(conn, id, project, group)? || !binds {
                return Ok((Changes::default(), ()));
            }
            wake_members(conn, group)?;
            Ok((tried_again(facts), ()))
        })
        .await
    }

    /// An instance leaves a group. It may start now where it could not before,
    /// and so may those that it leaves behind.
    ///
    /// # Errors
    ///
    /// `NotFound`: it is not in it.
    pub async fn affinity_group_member_remove(
        &self,
        group: AffinityGroupId,
        id: InstanceId,
    ) -> Result<(), Error> {
        self.lifecycle(None, id, move |conn, facts| {
            if !leave(conn, id, group)? {
                return Err(Error::NotFound);
            }
            wake_members(conn, group)?;
            Ok((tried_again(facts), ()))
        })
        .await
    }
}

/// The instance's next start is due, if it has failed to start: also where only
/// a change was waited for.
fn tried_again(facts: &Facts) -> Changes {
    // What is refused here is what needs no retry.
    requests::retry_now(facts).unwrap_or_default()
}

/// Has failed starts of a group's members looked at: at most a few, longest
/// waiting first. Those that are locked at this moment are passed over, as
/// where room is freed.
pub(crate) fn wake_members(
    conn: &mut PgConnection,
    group: AffinityGroupId,
) -> Result<(), Error> {
    statement(
        "UPDATE instance \
         SET reconcile_at = clock_timestamp() \
         WHERE id IN ( \
             SELECT i.id \
             FROM affinity_group_member m \
             JOIN instance i ON i.id = m.instance_id \
             WHERE m.group_id = $1 \
               AND i.state = 'failed' \
               AND i.failed_starts > 0 \
               AND (i.auto_restart_policy IS NULL \
                    OR i.auto_restart_policy = 'best_effort') \
             ORDER BY i.time_state_updated, i.id \
             LIMIT $2 \
             FOR UPDATE OF i SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(group)
    .bind::<BigInt, _>(WOKEN_AT_ONCE)
    .execute(conn)?;
    Ok(())
}
