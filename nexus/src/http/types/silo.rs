//! Silos on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use db_model::{ByteCount, Name, NewSilo, RoleName, SiloId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use super::nullable::Nullable;
use super::policy::FleetRole;
use crate::error::Error;

/// How the users of a silo show who they are.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SiloIdentityMode {
    /// By an identity provider (SAML); users come about when they log in. Not
    /// to be had here.
    SamlJit,
    /// By passwords that are kept here.
    LocalOnly,
    /// By an identity provider (SAML), which makes the users (SCIM). Not to be
    /// had here.
    SamlScim,
}

/// What roles in the fleet come with a role in a silo: by the latter.
pub type MappedFleetRoles = BTreeMap<String, BTreeSet<FleetRole>>;

/// A tenant.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Silo {
    /// Never changes.
    pub id: SiloId,
    /// Unique.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Is it named to those who have not logged in?
    pub discoverable: bool,
    /// How its users show who they are.
    pub identity_mode: SiloIdentityMode,
    /// What roles in the fleet come with a role in this silo.
    pub mapped_fleet_roles: MappedFleetRoles,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// What a new silo may have at once.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloQuotasCreate {
    /// vCPUs, zero or more.
    pub cpus: i64,
    /// Memory in bytes.
    pub memory: ByteCount,
    /// Storage in bytes.
    pub storage: ByteCount,
}

/// A silo to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloCreate {
    /// Unique.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// Is it named to those who have not logged in?
    pub discoverable: bool,
    /// How its users show who they are: "local_only".
    pub identity_mode: SiloIdentityMode,
    /// A group of its admins. There are no groups: leave it out.
    pub admin_group_name: Option<String>,
    /// What roles in the fleet come with a role in this silo. Only an admin of
    /// the fleet gives any.
    #[serde(default)]
    pub mapped_fleet_roles: MappedFleetRoles,
    /// What it may have at once.
    pub quotas: SiloQuotasCreate,
    /// Certificates of its own. This server has one for all: an empty list.
    pub tls_certificates: Vec<serde_json::Value>,
}

impl TryFrom<SiloCreate> for NewSilo {
    type Error = Error;

    fn try_from(body: SiloCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        if body.identity_mode != SiloIdentityMode::LocalOnly {
            return Err(Error::invalid_value(
                "identity_mode",
                "this server keeps its users itself: it must be \"local_only\"",
            ));
        }
        if body.admin_group_name.is_some() {
            return Err(Error::invalid_value(
                "admin_group_name",
                "this server has no groups: leave it out, and give roles to \
                 users by the silo's policy",
            ));
        }
        if !body.tls_certificates.is_empty() {
            return Err(Error::invalid_value(
                "tls_certificates",
                "this server has one certificate for all silos: it must be an \
                 empty list",
            ));
        }
        if body.quotas.cpus < 0 {
            return Err(Error::invalid_value(
                "quotas.cpus",
                format!(
                    "{} is negative: it must be 0 or more",
                    body.quotas.cpus
                ),
            ));
        }
        for role in body.mapped_fleet_roles.keys() {
            if !RoleName::ALL.iter().any(|known| known.as_str() == role) {
                let known: Vec<_> =
                    RoleName::ALL.iter().map(|role| role.as_str()).collect();
                return Err(Error::invalid_value(
                    "mapped_fleet_roles",
                    format!(
                        "\"{role}\" is no role in a silo: it must be one of {}",
                        known.join(", "),
                    ),
                ));
            }
        }
        let mapped_fleet_roles = serde_json::to_value(body.mapped_fleet_roles);
        Ok(Self {
            name: body.name,
            description: body.description,
            discoverable: body.discoverable,
            mapped_fleet_roles: mapped_fleet_roles.map_err(Error::internal)?,
            vcpus: body.quotas.cpus,
            memory: body.quotas.memory,
            storage: body.quotas.storage,
        })
    }
}

/// How the users of a silo show who they are.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SiloAuthSettings {
    /// The silo.
    pub silo_id: SiloId,
    /// For how many seconds at most the token of a device login is good. Null:
    /// for ever.
    pub device_token_max_ttl_seconds: Option<u32>,
}

/// What is to change of how the users of a silo show who they are.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloAuthSettingsUpdate {
    /// For how many seconds at most the token of a device login is to be good:
    /// 1 or more. Null: for ever.
    pub device_token_max_ttl_seconds: Nullable<NonZeroU32>,
}
