//! Tenants, their users, and the tokens that speak for the users.

use crate::schema::{
    api_token, console_session, silo, silo_quota, silo_user, silo_user_password,
};
use crate::{
    ApiTokenId, ByteCount, ConsoleSessionId, Name, SiloId, SiloUserId,
};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};

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
    pub discoverable: bool,
    pub mapped_fleet_roles: serde_json::Value,
    pub device_token_max_ttl_secs: Option<i64>,
}

/// What a silo may have at once, and what it has.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Queryable,
    QueryableByName,
    Selectable,
    Insertable,
)]
#[diesel(table_name = silo_quota)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SiloQuota {
    pub silo_id: SiloId,
    pub vcpus: i64,
    pub memory_bytes: ByteCount,
    pub storage_bytes: ByteCount,
    pub used_vcpus: i64,
    pub used_memory_bytes: ByteCount,
    pub used_storage_bytes: ByteCount,
    pub time_modified: DateTime<Utc>,
}

impl SiloQuota {
    /// A quota that is not felt, for a silo that was given none: 10^9 vCPUs,
    /// and 1 EiB of memory and of storage, which are numbers that a client in
    /// JavaScript can hold.
    pub fn unfelt(silo_id: SiloId, now: DateTime<Utc>) -> SiloQuota {
        let exbibyte = ByteCount::from_gib(1 << 30);
        SiloQuota {
            silo_id,
            vcpus: 1_000_000_000,
            memory_bytes: exbibyte,
            storage_bytes: exbibyte,
            used_vcpus: 0,
            used_memory_bytes: ByteCount::ZERO,
            used_storage_bytes: ByteCount::ZERO,
            time_modified: now,
        }
    }
}

/// What changes of a quota; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SiloQuotaChange {
    pub vcpus: Option<i64>,
    pub memory: Option<ByteCount>,
    pub storage: Option<ByteCount>,
}

/// A user of a silo.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = silo_user)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SiloUser {
    pub id: SiloUserId,
    pub silo_id: SiloId,
    pub external_id: String,
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

/// A console session as it is kept: hashed.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = console_session)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct ConsoleSession {
    pub id: ConsoleSessionId,
    pub silo_user_id: SiloUserId,
    pub token_hash: String,
    pub time_created: DateTime<Utc>,
    pub time_last_used: DateTime<Utc>,
}

/// A user's password as it is kept: hashed. Without `Debug`, so that it is in
/// no log.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = silo_user_password)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SiloUserPassword {
    pub silo_user_id: SiloUserId,
    pub hash: String,
    pub time_set: DateTime<Utc>,
}

/// A silo to be made.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewSilo {
    pub name: Name,
    pub description: String,
    pub discoverable: bool,
    pub mapped_fleet_roles: serde_json::Value,
    pub vcpus: i64,
    pub memory: ByteCount,
    pub storage: ByteCount,
}

impl NewSilo {
    /// Does no role in it come with one in the fleet?
    pub fn gives_no_fleet_roles(&self) -> bool {
        let mapped = self.mapped_fleet_roles.as_object();
        mapped.is_none_or(|roles| {
            roles.values().all(|r| r.as_array().is_none_or(Vec::is_empty))
        })
    }
}
