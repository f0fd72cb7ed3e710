//! Who is asking.

use chrono::{DateTime, Utc};
use db_model::{Name, SiloId, SiloUserId};
use schemars::JsonSchema;
use serde::Serialize;

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
