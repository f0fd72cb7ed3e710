//! Groups of users, and who vouches for users. There are none yet.

use chrono::{DateTime, Utc};
use db_model::{Name, NameOrId, SiloId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which group, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GroupPath {
    /// Id of the group.
    pub group_id: Uuid,
}

/// The silo in which to look.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct OptionalSiloSelector {
    /// Name or id of the silo; null means the caller's.
    pub silo: Option<NameOrId>,
}

/// Users who are given rights together.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Group {
    /// Never changes.
    pub id: Uuid,
    /// What to call it.
    pub display_name: String,
    /// The silo that it is of.
    pub silo_id: SiloId,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// Who vouches for users.
#[derive(Debug, JsonSchema, Serialize)]
pub struct IdentityProvider {
    /// Never changes.
    pub id: Uuid,
    /// Unique in the silo.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// How it is asked.
    pub provider_type: IdentityProviderType,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// How one who vouches for users is asked.
#[derive(Clone, Copy, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityProviderType {
    /// By SAML.
    Saml,
}
