//! The audit log: handler, views and places.

use std::net::{IpAddr, Ipv4Addr};

use chrono::{DateTime, Utc};
use db_queries::ByTimeCompleted;
use dropshot::{HttpError, HttpResponseOk, ResultsPage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::handler::{Admitted, of_user};
use super::pagination::{Listing, Pages};
use super::types::{
    AuditLogEntry, AuditLogEntryActor, AuditLogEntryResult, AuditLogSelector,
    AuthMethod,
};

pub(super) type PagesByCompletion =
    Pages<AuditLogSelector, TimeAndIdSortMode, TimeAndIdPlace>;

/// How the audit log can be sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeAndIdSortMode {
    /// From the oldest to the newest.
    #[default]
    TimeAndIdAscending,
    /// From the newest to the oldest.
    TimeAndIdDescending,
}

/// A place in the audit log: after an entry, or before the first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeAndIdPlace {
    /// From the oldest to the newest.
    Ascending(Option<(DateTime<Utc>, Uuid)>),
    /// From the newest to the oldest.
    Descending(Option<(DateTime<Utc>, Uuid)>),
}

impl TimeAndIdPlace {
    fn after(&self, entry: &AuditLogEntry) -> Self {
        let at = Some((entry.time_completed, entry.id));
        match self {
            Self::Ascending(_) => Self::Ascending(at),
            Self::Descending(_) => Self::Descending(at),
        }
    }
}

impl From<TimeAndIdSortMode> for TimeAndIdPlace {
    fn from(sort_by: TimeAndIdSortMode) -> Self {
        match sort_by {
            TimeAndIdSortMode::TimeAndIdAscending => Self::Ascending(None),
            TimeAndIdSortMode::TimeAndIdDescending => Self::Descending(None),
        }
    }
}

impl From<TimeAndIdPlace> for ByTimeCompleted {
    fn from(place: TimeAndIdPlace) -> Self {
        match place {
            TimeAndIdPlace::Ascending(after) => {
                Self { descending: false, after }
            }
            TimeAndIdPlace::Descending(after) => {
                Self { descending: true, after }
            }
        }
    }
}

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByCompletion,
) -> Result<HttpResponseOk<ResultsPage<AuditLogEntry>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let AuditLogSelector { start_time, end_time } = list.within;
    let entries =
        app.audit_log_list(&opctx, start_time, end_time, list.page()).await?;
    list.answer(entries, AuditLogEntry::from, |at, entry| at.after(entry))
}

impl From<db_model::AuditLogEntry> for AuditLogEntry {
    fn from(row: db_model::AuditLogEntry) -> Self {
        let actor = match (row.silo_id, row.silo_user_id) {
            (Some(silo_id), Some(silo_user_id)) => {
                AuditLogEntryActor::SiloUser { silo_id, silo_user_id }
            }
            _ => AuditLogEntryActor::Unauthenticated,
        };
        let status = row.http_status.and_then(|n| u16::try_from(n).ok());
        let result = match (status, row.error_message) {
            (None, _) => AuditLogEntryResult::Unknown,
            (Some(http_status_code), None) => {
                AuditLogEntryResult::Success { http_status_code }
            }
            (Some(http_status_code), Some(error_message)) => {
                AuditLogEntryResult::Error {
                    http_status_code,
                    error_code: row.error_code,
                    error_message,
                }
            }
        };
        let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            id: row.id,
            time_started: row.time_started,
            time_completed: row.time_completed,
            request_id: row.request_id,
            request_uri: row.request_uri,
            operation_id: row.operation_id,
            // We wrote an address.
            source_ip: row.source_ip.parse().unwrap_or(unknown),
            user_agent: row.user_agent,
            actor,
            auth_method: row.auth_method.map(|method| match method {
                db_model::AuthMethod::SessionCookie => {
                    AuthMethod::SessionCookie
                }
                db_model::AuthMethod::AccessToken => AuthMethod::AccessToken,
            }),
            credential_id: row.credential_id,
            result,
        }
    }
}
