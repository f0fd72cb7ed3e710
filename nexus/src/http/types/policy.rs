//! Who has which role on something, on the wire.

use std::collections::BTreeSet;

use db_model::{RoleName, SiloUserId};
use db_queries::Assignments;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

/// The most users and roles that a policy names.
pub const MAX_ROLE_ASSIGNMENTS: usize = 64;

/// Who was given which role on this, and on nothing else: a role on what it is
/// in may give more.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "{R}Policy")]
pub struct Policy<R> {
    /// At most 64.
    pub role_assignments: Vec<RoleAssignment<R>>,
}

/// A user's role.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[schemars(rename = "{R}RoleAssignment")]
pub struct RoleAssignment<R> {
    /// Whose role it is.
    pub identity_id: Uuid,
    /// What that is: a user.
    pub identity_type: IdentityType,
    /// Which role.
    pub role_name: R,
}

/// What may have a role.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityType {
    /// A user of a silo.
    SiloUser,
    /// A group of users. There are none here, so none has a role.
    SiloGroup,
}

/// A role on the fleet.
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum FleetRole {
    Admin,
    Collaborator,
    Viewer,
}

/// A role on a silo, and by that on its projects.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum SiloRole {
    Admin,
    Collaborator,
    LimitedCollaborator,
    Viewer,
}

/// A role on a project.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ProjectRole {
    Admin,
    Collaborator,
    LimitedCollaborator,
    Viewer,
}

/// A kind of role: the same as a [`RoleName`], as far as there are such.
pub trait Role: Sized {
    /// As it is kept.
    fn kept(&self) -> RoleName;

    /// As it is shown. `None`: what this is on has no such role.
    fn shown(kept: RoleName) -> Option<Self>;
}

impl Role for FleetRole {
    fn kept(&self) -> RoleName {
        match self {
            FleetRole::Admin => RoleName::Admin,
            FleetRole::Collaborator => RoleName::Collaborator,
            FleetRole::Viewer => RoleName::Viewer,
        }
    }

    fn shown(kept: RoleName) -> Option<Self> {
        match kept {
            RoleName::Admin => Some(FleetRole::Admin),
            RoleName::Collaborator => Some(FleetRole::Collaborator),
            RoleName::LimitedCollaborator => None,
            RoleName::Viewer => Some(FleetRole::Viewer),
        }
    }
}

macro_rules! four_roles {
    ($role:ident) => {
        impl Role for $role {
            fn kept(&self) -> RoleName {
                match self {
                    $role::Admin => RoleName::Admin,
                    $role::Collaborator => RoleName::Collaborator,
                    $role::LimitedCollaborator => RoleName::LimitedCollaborator,
                    $role::Viewer => RoleName::Viewer,
                }
            }

            fn shown(kept: RoleName) -> Option<Self> {
                Some(match kept {
                    RoleName::Admin => $role::Admin,
                    RoleName::Collaborator => $role::Collaborator,
                    RoleName::LimitedCollaborator => $role::LimitedCollaborator,
                    RoleName::Viewer => $role::Viewer,
                })
            }
        }
    };
}

four_roles!(SiloRole);
four_roles!(ProjectRole);

impl<R: Role> From<Vec<(SiloUserId, RoleName)>> for Policy<R> {
    fn from(kept: Vec<(SiloUserId, RoleName)>) -> Self {
        let shown = kept.into_iter().filter_map(|(user, role)| {
            Some(RoleAssignment {
                identity_id: user.0,
                identity_type: IdentityType::SiloUser,
                role_name: R::shown(role)?,
            })
        });
        Policy { role_assignments: shown.collect() }
    }
}

impl<R: Role> TryFrom<Policy<R>> for Assignments {
    type Error = Error;

    fn try_from(body: Policy<R>) -> Result<Self, Error> {
        let count = body.role_assignments.len();
        let wrong = |why: String| Error::invalid_value(FIELD, why);
        if count > MAX_ROLE_ASSIGNMENTS {
            return Err(wrong(format!(
                "{count} are too many: at most {MAX_ROLE_ASSIGNMENTS}",
            )));
        }
        let mut wanted = BTreeSet::new();
        for given in &body.role_assignments {
            if let IdentityType::SiloGroup = given.identity_type {
                return Err(wrong(format!(
                    "\"{}\" is given a role as a silo_group: there are no \
                     groups here, so give it to each silo_user",
                    given.identity_id,
                )));
            }
            wanted.insert((
                SiloUserId(given.identity_id),
                given.role_name.kept(),
            ));
        }
        Ok(wanted)
    }
}

const FIELD: &str = "role_assignments";
