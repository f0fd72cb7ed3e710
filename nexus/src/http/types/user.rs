//! Users of silos, and by what they show who they are, on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    ApiTokenId, ConsoleSessionId, Name, NameOrId, SiloId, SiloUserId, UserName,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::Password;
use crate::error::Error;

/// The user whose token came with the request.
#[derive(Debug, JsonSchema, Serialize)]
pub struct CurrentUser {
    /// The user's id.
    pub id: SiloUserId,
    /// What to call the user.
    pub display_name: String,
    /// The silo that the user belongs to.
    pub silo_id: SiloId,
    /// The name of that silo.
    pub silo_name: Name,
    /// May the user see the fleet, sleds for instance?
    pub fleet_viewer: bool,
    /// May the user administer the silo?
    pub silo_admin: bool,
    /// When the user was made.
    pub time_created: DateTime<Utc>,
    /// When the user was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A user of a silo.
#[derive(Debug, JsonSchema, Serialize)]
pub struct User {
    /// Never changes.
    pub id: SiloUserId,
    /// What to call the user.
    pub display_name: String,
    /// The silo that the user belongs to.
    pub silo_id: SiloId,
    /// When the user was made.
    pub time_created: DateTime<Utc>,
    /// When the user was last changed.
    pub time_modified: DateTime<Utc>,
}

/// Which user, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserPath {
    /// Id of the user.
    pub user_id: SiloUserId,
}

/// Whose users.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct UsersOf {
    /// A group. There are none: its members cannot be listed.
    pub group: Option<uuid::Uuid>,
}

/// Which silo.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloSelector {
    /// Name or id of the silo.
    pub silo: NameOrId,
}

/// A user to be made.
#[derive(Deserialize, JsonSchema)]
pub struct UserCreate {
    /// What the user logs in as; unique in its silo.
    pub external_id: UserName,
    /// The user's password, or none.
    pub password: UserPassword,
}

/// A password, or none.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode", content = "value")]
pub enum UserPassword {
    /// This one: 8 to 512 characters.
    Password(PasswordText),
    /// None: the user cannot log in by a password.
    LoginDisallowed,
}

impl TryFrom<UserPassword> for Option<Password> {
    type Error = Error;

    fn try_from(body: UserPassword) -> Result<Self, Error> {
        match body {
            UserPassword::Password(PasswordText(text)) => {
                Password::new(text).map(Some)
            }
            UserPassword::LoginDisallowed => Ok(None),
        }
    }
}

/// A password in clear text. Without `Debug`, so that it is in no log.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Password")]
pub struct PasswordText(#[schemars(length(max = 512))] pub String);

/// Who logs in.
#[derive(Deserialize, JsonSchema)]
pub struct UsernamePasswordCredentials {
    /// The user's name.
    pub username: UserName,
    /// The user's password.
    pub password: PasswordText,
}

/// To which silo one logs in, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct LoginPath {
    /// Name of the silo.
    pub silo_name: Name,
}

/// The header by which a browser is given a cookie, or loses it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SetCookie {
    /// The cookie and what holds of it.
    #[serde(rename = "set-cookie")]
    pub set_cookie: String,
}

/// A bearer token, but for the secret.
#[derive(Debug, JsonSchema, Serialize)]
pub struct DeviceAccessToken {
    /// Never changes, and is not the secret.
    pub id: ApiTokenId,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// From when on it is good for nothing. Null: it is good for ever.
    pub time_expires: Option<DateTime<Utc>>,
}

/// Which token, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TokenPath {
    /// Id of the token.
    pub token_id: ApiTokenId,
}

/// A user who is logged in to the console.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ConsoleSession {
    /// Never changes, and is not the secret.
    pub id: ConsoleSessionId,
    /// When the user logged in.
    pub time_created: DateTime<Utc>,
    /// When it was last used, within a minute.
    pub time_last_used: DateTime<Utc>,
}
