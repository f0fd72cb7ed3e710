//! Who asks.

use super::{App, Token};
use crate::authz::{Action, Rights};
use crate::context::{Credential, OpContext};
use crate::error::Error;
use db_model::{AuthMethod, Silo, SiloUser};
use std::sync::Arc;

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
        let id = who.credential_id;
        Ok(OpContext {
            user_id: who.user_id,
            silo_id: who.silo_id,
            credential: Credential { method: AuthMethod::AccessToken, id },
            rights: Arc::new(Rights::new(who.roles)),
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
        opctx.authorize(Action::View, opctx.oneself(), "see who one is")?;
        Ok(self.datastore.silo_user_view(opctx.user_id).await?)
    }
}
