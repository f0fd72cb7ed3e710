//! SSH keys on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    Name, NameOrId, NewSshKey, SiloUserId, SshKeyId, SshPublicKeyError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use crate::error::Error;

/// Which SSH key, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SshKeyPath {
    /// Name or id of the key.
    pub ssh_key: NameOrId,
}

/// A user's SSH public key.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SshKey {
    /// Never changes.
    pub id: SshKeyId,
    /// Unique among its user's keys.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Whose it is.
    pub silo_user_id: SiloUserId,
    /// The key, as a line of `authorized_keys`.
    pub public_key: String,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// An SSH key to be kept.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SshKeyCreate {
    /// Unique among its user's keys.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// The public key, as it stands in a file that ends in `.pub`: one line.
    pub public_key: String,
}

impl TryFrom<SshKeyCreate> for NewSshKey {
    type Error = Error;

    fn try_from(body: SshKeyCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        let refused = |error: SshPublicKeyError| {
            Error::invalid_value("public_key", error.to_string())
        };
        Ok(Self {
            name: body.name,
            description: body.description,
            public_key: body.public_key.parse().map_err(refused)?,
        })
    }
}
