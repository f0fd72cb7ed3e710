//! Who asks.

use super::{App, Token};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{Silo, SiloUser};

impl App {
    /// Whom a token speaks for.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`.
    pub async fn authenticate(&self, token: &str) -> Result<OpContext, Error> {
        let hash = Token::shown(token).hash();
        let who = match self.datastore.authenticate(hash).await {
            Err(db_queries::Error::NotFound) => {
                return Err(Error::Unauthenticated);
            }
            who => who?,
        };
        Ok(OpContext {
            user_id: who.user_id,
            silo_id: who.silo_id,
            fleet_admin: who.fleet_admin,
        })
    }

    /// The caller and its silo.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn current_user(
        &self,
        opctx: &OpContext,
    ) -> Result<(SiloUser, Silo), Error> {
        Ok(self.datastore.silo_user_view(opctx.user_id).await?)
    }
}

impl OpContext {
    /// May the caller look at what is the fleet's?
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub fn may_see_fleet(&self) -> Result<(), Error> {
        self.require_fleet_admin("see what the fleet has")
    }

    /// # Errors
    ///
    /// `Forbidden`, saying that one may not `action`.
    pub(super) fn require_fleet_admin(
        &self,
        action: &'static str,
    ) -> Result<(), Error> {
        if self.fleet_admin { Ok(()) } else { Err(Error::Forbidden { action }) }
    }
}
