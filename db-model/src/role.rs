//! Roles, and the ways to show who one is.

use crate::SiloUserId;
use crate::schema::role_assignment;
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};
use uuid::Uuid;

/// The id that the fleet has as what a role is on: there is one fleet.
pub const FLEET_ID: Uuid = Uuid::nil();

sql_enum! {
    /// What a role is on.
    pub enum RoleResource: RoleResourceSql {
        /// All that the operator has.
        Fleet = "fleet",
        /// A tenant.
        Silo = "silo",
        /// A project of a tenant.
        Project = "project",
    }
}

sql_enum! {
    /// A role, from the one that may most to the one that may least. The fleet
    /// has no limited collaborators.
    pub enum RoleName: RoleNameSql {
        /// Everything, also who else may what.
        Admin = "admin",
        /// Changes everything, but not who may what.
        Collaborator = "collaborator",
        /// Makes and changes what runs, but not the networks it runs in.
        LimitedCollaborator = "limited_collaborator",
        /// Looks.
        Viewer = "viewer",
    }
}

sql_enum! {
    /// How a request shows who asks.
    pub enum AuthMethod: AuthMethodSql {
        /// The cookie of a console session.
        SessionCookie = "session_cookie",
        /// A bearer token.
        AccessToken = "access_token",
    }
}

/// A user's role on something.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Queryable, Selectable, Insertable,
)]
#[diesel(table_name = role_assignment)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct RoleAssignment {
    pub resource: RoleResource,
    pub resource_id: Uuid,
    pub silo_user_id: SiloUserId,
    pub role_name: RoleName,
    pub time_created: DateTime<Utc>,
}
