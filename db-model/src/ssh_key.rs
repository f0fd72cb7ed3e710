//! Users' SSH public keys.

use crate::schema::ssh_key;
use crate::{Name, SiloUserId, SshKeyId, SshPublicKey};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// Keys that an instance may be given.
pub const MAX_INSTANCE_SSH_KEYS: usize = 8;

/// Keys that a user may have.
pub const MAX_USER_SSH_KEYS: i64 = 100;

/// A user's public key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = ssh_key)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SshKey {
    pub id: SshKeyId,
    pub silo_user_id: SiloUserId,
    pub name: Name,
    pub description: String,
    pub public_key: String,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// What a user says of a new key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewSshKey {
    pub name: Name,
    pub description: String,
    pub public_key: SshPublicKey,
}
