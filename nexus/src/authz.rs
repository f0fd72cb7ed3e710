//! Who may do what, decided in one place.

use db_model::{RoleName, RoleResource, SiloId, SiloUserId};
use uuid::Uuid;

use crate::context::OpContext;
use crate::error::Error;

/// What is done to a [`Resource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Look at it, and at what is in it.
    View,
    /// Make something in it.
    Create,
    /// Change it.
    Change,
    /// Delete it.
    Delete,
    /// Look at who has which role on it.
    ViewPolicy,
    /// Change who has which role on it.
    ChangePolicy,
}

/// On what a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// What is nobody's but the operator's: sleds, silos, quotas.
    Fleet,
    /// A silo: its users, its settings, its projects.
    Silo(SiloId),
    /// A project, and what is in it.
    Project {
        /// Which.
        id: Uuid,
        /// Whose it is.
        silo: SiloId,
    },
    /// A user, its tokens, sessions and keys.
    User {
        /// Which.
        id: SiloUserId,
        /// Whose it is.
        silo: SiloId,
    },
}

/// The roles that a caller had when it asked.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    roles: Vec<(RoleResource, Uuid, RoleName)>,
}

impl Rights {
    /// Of somebody with these roles.
    pub fn new(roles: Vec<(RoleResource, Uuid, RoleName)>) -> Rights {
        Rights { roles }
    }

    fn has(&self, on: RoleResource, id: Uuid, at_least: RoleName) -> bool {
        self.roles.iter().any(|(resource, of, role)| {
            (*resource, *of) == (on, id) && *role <= at_least
        })
    }
}

impl OpContext {
    /// May the caller do this?
    ///
    /// # Errors
    ///
    /// `Forbidden`, saying that one may not `what`.
    pub fn authorize(
        &self,
        action: Action,
        on: Resource,
        what: &'static str,
    ) -> Result<(), Error> {
        if self.may(action, on) {
            Ok(())
        } else {
            Err(Error::Forbidden { action: what })
        }
    }

    /// Would [`OpContext::authorize`] allow it?
    pub fn may(&self, action: Action, on: Resource) -> bool {
        let least = match action {
            Action::View | Action::ViewPolicy => RoleName::Viewer,
            Action::Create => RoleName::LimitedCollaborator,
            Action::Change | Action::Delete => RoleName::Collaborator,
            Action::ChangePolicy => RoleName::Admin,
        };
        let fleet = |role| {
            self.rights.has(RoleResource::Fleet, db_model::FLEET_ID, role)
        };
        let silo =
            |id: SiloId, role| self.rights.has(RoleResource::Silo, id.0, role);
        match on {
            Resource::Fleet => fleet(least),
            Resource::Silo(id) => {
                let role = match action {
                    Action::View | Action::ViewPolicy => RoleName::Viewer,
                    Action::Create => RoleName::Collaborator,
                    Action::Change | Action::Delete | Action::ChangePolicy => {
                        RoleName::Admin
                    }
                };
                let own = id == self.silo_id && action == Action::View;
                own || silo(id, role) || fleet(role)
            }
            Resource::Project { id, silo: of } => {
                silo(of, least)
                    || self.rights.has(RoleResource::Project, id, least)
            }
            Resource::User { id, silo: of } => {
                id == self.user_id || silo(of, RoleName::Admin)
            }
        }
    }
}
