//! The audit log on the wire.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Of which time.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct AuditLogSelector {
    /// Entries that were completed then or later.
    pub start_time: DateTime<Utc>,
    /// Entries that were completed before.
    pub end_time: Option<DateTime<Utc>>,
}

/// A change, or one that was refused. Never changes.
#[derive(Debug, JsonSchema, Serialize)]
pub struct AuditLogEntry {
    /// Never changes.
    pub id: Uuid,
    /// When it was known who asks.
    pub time_started: DateTime<Utc>,
    /// When it was about to be answered, or given up.
    pub time_completed: DateTime<Utc>,
    /// The `x-request-id` of its answer.
    pub request_id: String,
    /// Path and query, at most 512 characters of them.
    pub request_uri: String,
    /// Which operation, as in `project_create`.
    pub operation_id: String,
    /// Who sent it; what a trusted proxy says, if one did.
    pub source_ip: IpAddr,
    /// What the client says it is, at most 255 characters of it.
    pub user_agent: Option<String>,
    /// Who asked.
    pub actor: AuditLogEntryActor,
    /// By what the actor showed who it is.
    pub auth_method: Option<AuthMethod>,
    /// Which token or session that was.
    pub credential_id: Option<Uuid>,
    /// What was answered.
    pub result: AuditLogEntryResult,
}

/// Who asked.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AuditLogEntryActor {
    /// A user.
    SiloUser {
        /// Which.
        silo_user_id: Uuid,
        /// Whose it is.
        silo_id: Uuid,
    },
    /// Nobody known.
    Unauthenticated,
}

/// How one shows who one is.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// The cookie of a console session.
    SessionCookie,
    /// A bearer token.
    AccessToken,
}

/// What was answered.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AuditLogEntryResult {
    /// It is done.
    Success {
        /// HTTP status.
        http_status_code: u16,
    },
    /// It is refused, or failed.
    Error {
        /// HTTP status.
        http_status_code: u16,
        /// For programs.
        error_code: Option<String>,
        /// For people, at most 1024 characters of it.
        error_message: String,
    },
    /// Who answered could not write down what, or died. It may be done.
    Unknown,
}
