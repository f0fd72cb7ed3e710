//! Tenants, their users, and the tokens that speak for the users.

use crate::schema::{api_token, silo, silo_user};
use crate::{ApiTokenId, Name, SiloId, SiloUserId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// A tenant. Nothing of one silo is seen by another.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = silo)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Silo {
    pub id: SiloId,
    pub name: Name,
    pub description: String,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// A user of a silo.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = silo_user)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SiloUser {
    pub id: SiloUserId,
    pub silo_id: SiloId,
    pub external_id: String,
    pub fleet_admin: bool,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// A bearer token as it is kept: hashed.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = api_token)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct ApiToken {
    pub id: ApiTokenId,
    pub silo_user_id: SiloUserId,
    pub token_hash: String,
    pub time_created: DateTime<Utc>,
    pub time_expires: Option<DateTime<Utc>>,
}
