//! Tokens by which sleds join the fleet.

use crate::schema::sled_join_token;
use crate::{SledId, SledJoinTokenId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// A token that lets one sled join, once.
#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = sled_join_token)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SledJoinToken {
    pub id: SledJoinTokenId,
    pub token_hash: String,
    pub time_created: DateTime<Utc>,
    pub time_expires: DateTime<Utc>,
    pub sled_id: SledId,
    pub key_hash: Option<String>,
    pub time_used: Option<DateTime<Utc>>,
}
