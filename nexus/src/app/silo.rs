//! Silos: tenants, as operators see them.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{NameOrId, NewSilo, Silo, SiloId};
use db_queries::{ByNameOrId, Page};

impl App {
    /// All silos.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn silo_list(
        &self,
        opctx: &OpContext,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Silo>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, "list silos")?;
        Ok(self.datastore.silo_list(page).await?)
    }

    /// Makes a silo, with its quota. Nobody is in it yet.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `AlreadyExists`.
    pub async fn silo_create(
        &self,
        opctx: &OpContext,
        new: NewSilo,
    ) -> Result<Silo, Error> {
        opctx.authorize(Action::Create, Resource::Fleet, "create silos")?;
        if !new.gives_no_fleet_roles() {
            let what = "create silos that give roles in the fleet";
            opctx.authorize(Action::ChangePolicy, Resource::Fleet, what)?;
        }
        let name = new.name.to_string();
        let created = self.datastore.silo_create(new).await;
        self.known.forget();
        created.map_err(|error| {
            let db_queries::Error::AlreadyExists = error else {
                return error.into();
            };
            Error::AlreadyExists { kind: "silo", name }
        })
    }

    /// A silo: any for who sees the fleet, its own for everybody.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_view(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<Silo, Error> {
        let silo = self.datastore.silo_view(which.clone()).await;
        let silo = silo.map_err(about("silo", which))?;
        let on = Resource::Silo(silo.id);
        opctx.authorize_seen(Action::View, on, "see the silo", || {
            Error::not_found("silo", which)
        })?;
        Ok(silo)
    }

    /// Deletes a silo that has nothing in it, and its users with it.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: there is something in it, or
    /// it is the caller's own.
    pub async fn silo_delete(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<(), Error> {
        let silo = self.silo_view(opctx, which).await?;
        opctx.authorize(Action::Delete, Resource::Fleet, "delete silos")?;
        if silo.id == opctx.silo_id {
            return Err(Error::InvalidRequest {
                message: format!(
                    "silo \"{}\" is your own: nobody would be left to undo \
                     that; ask as a user of another silo",
                    silo.name
                ),
            });
        }
        let deleted = self.datastore.silo_delete(silo.id).await;
        self.known.forget();
        deleted.map_err(|error| {
            let why = if let db_queries::Error::NotEmpty(kept) = &error {
                format!("still has {}: delete them", kept.join(" and "))
            } else if let db_queries::Error::InUse = &error {
                "has all admins of the fleet: give that role to a user of \
                 another silo"
                    .to_owned()
            } else {
                return about("silo", which)(error);
            };
            Error::InvalidRequest {
                message: format!("silo \"{}\" {why} first", silo.name),
            }
        })
    }

    /// How the caller's silo has its users show who they are.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn auth_settings_view(
        &self,
        opctx: &OpContext,
    ) -> Result<Silo, Error> {
        let what = "see the silo's settings";
        opctx.authorize(Action::View, opctx.own_silo(), what)?;
        let SiloId(id) = opctx.silo_id;
        Ok(self.datastore.silo_view(NameOrId::Id(id)).await?)
    }

    /// Changes for how long at most tokens of device logins are good.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn auth_settings_update(
        &self,
        opctx: &OpContext,
        max_ttl_secs: Option<i64>,
    ) -> Result<Silo, Error> {
        let what = "change the silo's settings";
        opctx.authorize(Action::Change, opctx.own_silo(), what)?;
        let changed =
            self.datastore.silo_set_token_max_ttl(opctx.silo_id, max_ttl_secs);
        Ok(changed.await?)
    }
}
