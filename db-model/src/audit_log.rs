//! The audit log: who changed what, or was refused.

use crate::AuthMethod;
use crate::schema::audit_log;
use chrono::{DateTime, Utc};
use diesel::{
    AsChangeset, Insertable, NullableExpressionMethods, Queryable, Selectable,
};
use uuid::Uuid;

/// What is known of a change before it is made.
#[derive(Clone, Debug, Insertable, serde::Serialize)]
#[diesel(table_name = audit_log)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct AuditLogBegin {
    pub id: Uuid,
    pub request_id: String,
    pub operation_id: String,
    pub request_uri: String,
    pub source_ip: String,
    pub user_agent: Option<String>,
    pub silo_id: Option<Uuid>,
    pub silo_user_id: Option<Uuid>,
    pub auth_method: Option<AuthMethod>,
    pub credential_id: Option<Uuid>,
}

/// Who did it, where that is known only when it is done: a login, say.
#[derive(Clone, Copy, Debug, AsChangeset)]
#[diesel(table_name = audit_log)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct AuditLogActor {
    pub silo_id: Uuid,
    pub silo_user_id: Uuid,
    pub auth_method: AuthMethod,
    pub credential_id: Uuid,
}

/// How a change was answered.
#[derive(Clone, Debug, AsChangeset, Insertable, serde::Serialize)]
#[diesel(table_name = audit_log)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct AuditLogEnd {
    pub resource_id: Option<Uuid>,
    pub http_status: Option<i64>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}

/// An entry that nothing changes any more.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = audit_log)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct AuditLogEntry {
    pub id: Uuid,
    pub time_started: DateTime<Utc>,
    #[diesel(select_expression = audit_log::time_completed.assume_not_null())]
    pub time_completed: DateTime<Utc>,
    pub request_id: String,
    pub operation_id: String,
    pub request_uri: String,
    pub source_ip: String,
    pub user_agent: Option<String>,
    pub silo_id: Option<Uuid>,
    pub silo_user_id: Option<Uuid>,
    pub auth_method: Option<AuthMethod>,
    pub credential_id: Option<Uuid>,
    pub http_status: Option<i64>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
}
