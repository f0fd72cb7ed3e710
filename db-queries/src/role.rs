//! Who has which role on what.

use crate::sql::clock_timestamp;
use crate::{DataStore, Error};
use chrono::{DateTime, Utc};
use db_model::schema::{project, role_assignment, silo, silo_user};
use db_model::{
    FLEET_ID, ProjectId, RoleAssignment, RoleName, RoleResource, SiloId,
    SiloUserId,
};
use diesel::dsl::select;
use diesel::{ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// A role on something: on what, on which, and which role.
pub type Role = (RoleResource, Uuid, RoleName);

/// Who is to have which role on something.
pub type Assignments = BTreeSet<(SiloUserId, RoleName)>;

impl DataStore {
    /// The roles that users have on something, at most `limit`. Those of
    /// deleted users do not count.
    pub async fn policy_view(
        &self,
        resource: RoleResource,
        id: Uuid,
        limit: i64,
    ) -> Result<Vec<(SiloUserId, RoleName)>, Error> {
        self.run(move |conn| {
            Ok(role_assignment::table
                .inner_join(silo_user::table)
                .filter(role_assignment::resource.eq(resource))
                .filter(role_assignment::resource_id.eq(id))
                .filter(silo_user::time_deleted.is_null())
                .order((
                    role_assignment::silo_user_id,
                    role_assignment::role_name,
                ))
                .limit(limit)
                .select((
                    role_assignment::silo_user_id,
                    role_assignment::role_name,
                ))
                .load(conn)?)
        })
        .await
    }

    /// Has users have these roles on something, and no others. They must be
    /// live users: of this silo, or with none said of any. Says who of them is
    /// not; then nothing is changed.
    ///
    /// # Errors
    ///
    /// `NotFound`: what the roles are to be on is gone.
    pub async fn policy_replace(
        &self,
        resource: RoleResource,
        id: Uuid,
        of: Option<SiloId>,
        wanted: Assignments,
    ) -> Result<Vec<SiloUserId>, Error> {
        self.transaction(move |conn| {
            lock(conn, resource, id)?;
            let users: BTreeSet<_> = wanted.iter().map(|(u, _)| *u).collect();
            let query = silo_user::table
                .inner_join(silo::table)
                .filter(silo_user::id.eq_any(&users))
                .filter(silo_user::time_deleted.is_null())
                .filter(silo::time_deleted.is_null())
                .select(silo_user::id)
                .into_boxed();
            let query = match of {
                Some(silo) => query.filter(silo_user::silo_id.eq(silo)),
                None => query,
            };
            let there: HashSet<SiloUserId> =
                query.load(conn)?.into_iter().collect();
            let unknown: Vec<_> = users
                .into_iter()
                .filter(|user| !there.contains(user))
                .collect();
            if !unknown.is_empty() {
                return Ok(unknown);
            }
            delete_all(conn, resource, id)?;
            let now: DateTime<Utc> =
                select(clock_timestamp()).get_result(conn)?;
            let rows: Vec<_> = wanted
                .iter()
                .map(|(silo_user_id, role_name)| RoleAssignment {
                    resource,
                    resource_id: id,
                    silo_user_id: *silo_user_id,
                    role_name: *role_name,
                    time_created: now,
                })
                .collect();
            diesel::insert_into(role_assignment::table)
                .values(&rows)
                .execute(conn)?;
            Ok(Vec::new())
        })
        .await
    }
}

/// Locks what roles are on, so that of two who replace them one is whole and
/// last. The fleet has no row; it has an admin always, whose row serves.
fn lock(
    conn: &mut PgConnection,
    resource: RoleResource,
    id: Uuid,
) -> Result<(), Error> {
    match resource {
        RoleResource::Fleet => {
            let _: Vec<SiloUserId> = role_assignment::table
                .filter(role_assignment::resource.eq(resource))
                .filter(role_assignment::resource_id.eq(id))
                .order((
                    role_assignment::silo_user_id,
                    role_assignment::role_name,
                ))
                .select(role_assignment::silo_user_id)
                .for_update()
                .load(conn)?;
        }
        RoleResource::Silo => {
            let _: SiloId = silo::table
                .find(SiloId(id))
                .filter(silo::time_deleted.is_null())
                .select(silo::id)
                .for_update()
                .first(conn)?;
        }
        RoleResource::Project => {
            let _: ProjectId = project::table
                .find(ProjectId(id))
                .filter(project::time_deleted.is_null())
                .select(project::id)
                .for_update()
                .first(conn)?;
        }
    }
    Ok(())
}

/// Takes all roles on something from all who have any.
pub(crate) fn delete_all(
    conn: &mut PgConnection,
    resource: RoleResource,
    id: Uuid,
) -> Result<(), Error> {
    diesel::delete(
        role_assignment::table
            .filter(role_assignment::resource.eq(resource))
            .filter(role_assignment::resource_id.eq(id)),
    )
    .execute(conn)?;
    Ok(())
}

/// All roles of a user, those too that its silo gives on the fleet to who has
/// a role on the silo (`mapped`, as the silo's row has it).
pub(crate) fn roles_of(
    conn: &mut PgConnection,
    user: SiloUserId,
    silo: SiloId,
    mapped: &Value,
) -> Result<Vec<Role>, Error> {
    let mut roles: Vec<Role> = role_assignment::table
        .filter(role_assignment::silo_user_id.eq(user))
        .select((
            role_assignment::resource,
            role_assignment::resource_id,
            role_assignment::role_name,
        ))
        .load(conn)?;
    let on_silo: Vec<_> = roles
        .iter()
        .filter(|(on, id, _)| (*on, *id) == (RoleResource::Silo, silo.0))
        .map(|(.., role)| *role)
        .collect();
    for role in on_silo {
        roles.extend(
            on_fleet(mapped, role)
                .into_iter()
                .map(|role| (RoleResource::Fleet, FLEET_ID, role)),
        );
    }
    Ok(roles)
}

/// What a silo gives on the fleet to who has this role on it. What makes no
/// sense gives nothing.
fn on_fleet(mapped: &Value, role: RoleName) -> Vec<RoleName> {
    let given = mapped.get(role.as_str()).and_then(Value::as_array);
    given
        .into_iter()
        .flatten()
        .filter_map(|name| match name.as_str()? {
            "admin" => Some(RoleName::Admin),
            "collaborator" => Some(RoleName::Collaborator),
            "viewer" => Some(RoleName::Viewer),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_silo_maps_its_roles_to_the_fleet_s_and_nonsense_to_nothing() {
        let mapped = json!({
            "admin": ["viewer", "collaborator"],
            "viewer": ["limited_collaborator", "root", 7],
            "collaborator": "admin",
        });
        for (role, given) in [
            (RoleName::Admin, vec![RoleName::Viewer, RoleName::Collaborator]),
            (RoleName::Collaborator, vec![]),
            (RoleName::LimitedCollaborator, vec![]),
            (RoleName::Viewer, vec![]),
        ] {
            assert_eq!(on_fleet(&mapped, role), given, "{role:?}");
        }
        assert_eq!(on_fleet(&json!(null), RoleName::Admin), vec![]);
    }
}
