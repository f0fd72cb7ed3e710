//! Login of devices, on the wire.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use db_model::ApiTokenId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A device that wants to log in.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DeviceAuthRequest {
    /// What the device calls itself.
    pub client_id: Uuid,
    /// For how long its token is to be good. Left out: for as long as the silo
    /// allows.
    pub ttl_seconds: Option<NonZeroU32>,
}

/// What a device that wants to log in is told.
#[derive(Serialize)]
pub struct DeviceAuthorization {
    /// By which it asks for its token.
    pub device_code: String,
    /// Which its user types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// For how many seconds both codes are good.
    pub expires_in: i64,
    /// How many seconds it is to wait between two questions.
    pub interval: u32,
}

/// A device that asks for its token. Without `Debug`, so that its code is in no
/// log.
#[derive(Deserialize, JsonSchema)]
pub struct DeviceAccessTokenRequest {
    /// `urn:ietf:params:oauth:grant-type:device_code`.
    pub grant_type: String,
    /// What it was told.
    pub device_code: String,
    /// What it called itself.
    pub client_id: Uuid,
}

/// A device's token. Without `Debug`, so that it is in no log.
#[derive(Serialize)]
pub struct DeviceAccessTokenGrant {
    /// The token.
    pub access_token: String,
    /// `bearer`.
    pub token_type: &'static str,
    /// Its id, which is no secret.
    pub token_id: ApiTokenId,
    /// When it ends.
    pub time_expires: Option<DateTime<Utc>>,
    /// The same, in seconds from when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
}

/// Which device is let in.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DeviceAuthVerify {
    /// What it has told its user.
    pub user_code: String,
}
