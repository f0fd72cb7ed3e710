//! The first silo, its first user, and a token for it: what a new database
//! needs before anybody can ask for anything.

use crate::app::Token;
use chrono::Utc;
use db_model::{
    ApiToken, ApiTokenId, Name, Silo, SiloId, SiloUser, SiloUserId,
};
use db_queries::{DataStore, Error};
use serde::Serialize;

/// What was made, or was there. The token is new each time.
#[derive(Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bootstrapped {
    pub silo: String,
    pub user: String,
    pub token: String,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The database did not do it.
    #[error("the database did not do it")]
    Database(#[from] Error),
    /// The token would say more than was asked for.
    #[error("user \"{0}\" is a fleet admin: choose another name")]
    IsFleetAdmin(String),
    /// The system has no randomness to give.
    #[error("there is no randomness")]
    Random(#[from] getrandom::Error),
}

/// Makes the silo and the user (a fleet admin) if they are not there, and a
/// token for the user, which is shown here and never again.
///
/// # Errors
///
/// See [`BootstrapError`].
pub async fn bootstrap(
    datastore: &DataStore,
    silo: Name,
    user: &str,
    fleet_admin: bool,
) -> Result<Bootstrapped, BootstrapError> {
    let now = Utc::now();
    let silo = datastore
        .silo_ensure(Silo {
            id: SiloId::new_v4(),
            description: format!("The silo \"{silo}\""),
            name: silo,
            time_created: now,
            time_modified: now,
            time_deleted: None,
        })
        .await?;
    let user = datastore
        .silo_user_ensure(SiloUser {
            id: SiloUserId::new_v4(),
            silo_id: silo.id,
            external_id: user.to_string(),
            fleet_admin,
            time_created: now,
            time_modified: now,
            time_deleted: None,
        })
        .await?;
    if user.fleet_admin && !fleet_admin {
        return Err(BootstrapError::IsFleetAdmin(user.external_id));
    }
    let token = Token::generate()?;
    datastore
        .api_token_insert(ApiToken {
            id: ApiTokenId::new_v4(),
            silo_user_id: user.id,
            token_hash: token.hash(),
            time_created: now,
            time_expires: None,
        })
        .await?;
    Ok(Bootstrapped {
        silo: silo.name.to_string(),
        user: user.external_id,
        token: token.expose().to_string(),
    })
}
