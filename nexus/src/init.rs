//! What a new database needs before anybody can ask for anything: the first
//! silo and the first user, who may make all others.

use crate::app::{Hasher, Password, Token};
use crate::error::Error as NexusError;
use db_model::{ByteCount, Name, NewSilo, UserName};
use db_queries::{DataStore, Error};
use serde::Serialize;

/// What was made, to be shown once. Without `Debug`, so that it is in no log.
#[derive(Serialize)]
pub struct FirstAdmin {
    /// The silo's name.
    pub silo: Name,
    /// The user's.
    pub user: UserName,
    /// The user's password, if nobody chose one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A token of the user's that does not expire.
    pub token: String,
}

/// Why there is no first admin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There are silos, and so there is somebody who can make users.
    #[error(
        "this database has been set up already: ask an admin for a user, or \
         use \"nexus-admin user\" if nobody can log in"
    )]
    Again,
    /// The password is not acceptable, or something went wrong inside.
    #[error(transparent)]
    Refused(#[from] NexusError),
    /// The database did not do it.
    #[error("the database did not do it")]
    Database(#[from] Error),
}

/// Makes the first silo, and its first user: an admin of the silo and of the
/// fleet. Without a password it is given one that nobody can guess.
///
/// # Errors
///
/// See [`InitError`]. Nothing is made then.
pub async fn init(
    datastore: &DataStore,
    silo: Name,
    user: UserName,
    password: Option<String>,
) -> Result<FirstAdmin, InitError> {
    let made_up = match password {
        Some(_) => None,
        None => Some(Token::password()?.expose().to_owned()),
    };
    let text = password.or_else(|| made_up.clone()).unwrap_or_default();
    let hash = Hasher::default().hash(Password::new(text)?).await?;
    let token = Token::generate()?;
    let exbibyte = ByteCount::from_gib(1 << 30);
    let new = NewSilo {
        description: format!("The silo \"{silo}\""),
        name: silo.clone(),
        discoverable: true,
        mapped_fleet_roles: serde_json::json!({}),
        // So large that they are not felt, and a client in JavaScript can hold
        // them.
        vcpus: 1_000_000_000,
        memory: exbibyte,
        storage: exbibyte,
    };
    let made =
        datastore.first_admin(new, user.clone(), hash, token.hash()).await;
    match made {
        Ok(()) => Ok(FirstAdmin {
            silo,
            user,
            password: made_up,
            token: token.expose().to_owned(),
        }),
        Err(Error::AlreadyExists) => Err(InitError::Again),
        Err(error) => Err(error.into()),
    }
}
