//! The first silo, its first user, and a token for it: what a new database
//! needs before anybody can ask for anything.

use crate::app::Token;
use chrono::Utc;
use db_model::{
    ApiToken, ApiTokenId, FLEET_ID, Name, RoleAssignment, RoleName,
    RoleResource, Silo, SiloId, SiloUser, SiloUserId,
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
            discoverable: true,
            mapped_fleet_roles: serde_json::json!({}),
            device_token_max_ttl_secs: None,
        })
        .await?;
    let user = datastore
        .silo_user_ensure(SiloUser {
            id: SiloUserId::new_v4(),
            silo_id: silo.id,
            external_id: user.to_string(),
            time_created: now,
            time_modified: now,
            time_deleted: None,
        })
        .await?;
    let role = |resource, resource_id| RoleAssignment {
        resource,
        resource_id,
        silo_user_id: user.id,
        role_name: RoleName::Admin,
        time_created: now,
    };
    datastore.role_ensure(role(RoleResource::Silo, silo.id.0)).await?;
    if fleet_admin {
        datastore.role_ensure(role(RoleResource::Fleet, FLEET_ID)).await?;
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
