//! Requests that are done once, however often they are made.

use crate::schema::idempotency_key;
use crate::{InstanceId, SiloUserId};
use chrono::{DateTime, Utc};
use diesel::{Queryable, Selectable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A request that its user has given a key, by which a repeat of it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see the row")]
pub struct KeyedRequest {
    pub silo_user_id: SiloUserId,
    pub key_hash: String,
    pub request_hash: String,
}

/// What became of such a request. The row is written with what the request did,
/// so that where there is none nothing was done.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = idempotency_key)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct IdempotencyKey {
    pub id: Uuid,
    pub silo_user_id: SiloUserId,
    pub key_hash: String,
    pub request_hash: String,
    pub instance_id: InstanceId,
    pub answer: Option<serde_json::Value>,
    pub time_created: DateTime<Utc>,
}
