//! Policies: who was given which role on what.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{
    FLEET_ID, NameOrId, RoleName, RoleResource, SiloId, SiloUserId,
};
use db_queries::Assignments;
use uuid::Uuid;

/// What a policy is of.
#[derive(Clone, Debug)]
pub enum PolicyOf {
    /// The fleet.
    Fleet,
    /// The caller's silo.
    OwnSilo,
    /// A silo.
    Silo(NameOrId),
    /// A project of the caller's silo.
    Project(NameOrId),
}

/// The same, found, and decided about.
struct Found {
    resource: RoleResource,
    id: Uuid,
    /// Whose users may have roles on it. `None`: any silo's.
    silo: Option<SiloId>,
}

/// More than any policy has that was set: what is kept is shown whole.
const ALL: i64 = 1024;

impl App {
    /// Who has which role.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`.
    pub async fn policy_view(
        &self,
        opctx: &OpContext,
        of: &PolicyOf,
    ) -> Result<Vec<(SiloUserId, RoleName)>, Error> {
        let what = "see who has which role here";
        let found = self.find(opctx, of, Action::ViewPolicy, what).await?;
        self.policy(&found).await
    }

    /// Has users have these roles, and no others, from their next requests on.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidValue`: one is no user who may have
    /// roles here, or the fleet would be left without an admin.
    pub async fn policy_update(
        &self,
        opctx: &OpContext,
        of: &PolicyOf,
        wanted: Assignments,
    ) -> Result<Vec<(SiloUserId, RoleName)>, Error> {
        let what = "change who has which role here";
        let found = self.find(opctx, of, Action::ChangePolicy, what).await?;
        let admin = wanted.iter().any(|(_, role)| *role == RoleName::Admin);
        if found.resource == RoleResource::Fleet && !admin {
            return Err(Error::invalid_value(
                FIELD,
                "the fleet would have no admin, and nobody could give it one: \
                 name at least one user with the role \"admin\"",
            ));
        }
        let Found { resource, id, silo } = found;
        let unknown =
            self.datastore.policy_replace(resource, id, silo, wanted).await;
        self.known.forget();
        let unknown =
            unknown.map_err(about(kind(resource), &NameOrId::Id(id)))?;
        if let Some(user) = unknown.first() {
            let whose = match silo {
                Some(_) => "of this silo",
                None => "of any silo",
            };
            return Err(Error::invalid_value(
                FIELD,
                format!("\"{user}\" is no user {whose}: name those that are"),
            ));
        }
        self.policy(&found).await
    }

    async fn policy(
        &self,
        of: &Found,
    ) -> Result<Vec<(SiloUserId, RoleName)>, Error> {
        Ok(self.datastore.policy_view(of.resource, of.id, ALL).await?)
    }

    async fn find(
        &self,
        opctx: &OpContext,
        of: &PolicyOf,
        action: Action,
        what: &'static str,
    ) -> Result<Found, Error> {
        let silo = match of {
            PolicyOf::Fleet => {
                opctx.authorize(action, Resource::Fleet, what)?;
                let resource = RoleResource::Fleet;
                return Ok(Found { resource, id: FLEET_ID, silo: None });
            }
            PolicyOf::Project(which) => {
                let found = self.project_to(opctx, which, action, what);
                let found: db_model::Project = found.await?;
                let (id, silo) = (found.id.0, Some(found.silo_id));
                return Ok(Found { resource: RoleResource::Project, id, silo });
            }
            PolicyOf::OwnSilo => opctx.silo_id,
            PolicyOf::Silo(which) => {
                self.datastore
                    .silo_quota_view(which.clone())
                    .await
                    .map_err(about("silo", which))?
                    .1
                    .silo_id
            }
        };
        let hidden = || match of {
            PolicyOf::Silo(which) => Error::not_found("silo", which),
            PolicyOf::Fleet | PolicyOf::OwnSilo | PolicyOf::Project(_) => {
                Error::not_found("silo", &NameOrId::Id(silo.0))
            }
        };
        opctx.authorize_seen(action, Resource::Silo(silo), what, hidden)?;
        let (resource, id) = (RoleResource::Silo, silo.0);
        Ok(Found { resource, id, silo: Some(silo) })
    }
}

fn kind(of: RoleResource) -> &'static str {
    match of {
        RoleResource::Fleet => "fleet",
        RoleResource::Silo => "silo",
        RoleResource::Project => "project",
    }
}

const FIELD: &str = "role_assignments";
