//! Users' SSH keys, and those that instances are given.
//!
//! What links an instance to a key that was deleted stays, and says nothing:
//! every reader looks for live keys alone. It goes with the instance.

use crate::sql::{Keep, clock_timestamp};
use crate::{ByNameOrId, DataStore, Error, Limit, Page};
use chrono::{DateTime, Utc};
use db_model::schema::{instance_ssh_key, silo_user, ssh_key};
use db_model::{
    InstanceId, MAX_USER_SSH_KEYS, NameOrId, NewSshKey, SiloUserId, SshKey,
    SshKeyId,
};
use diesel::dsl::{AsSelect, IntoBoxed, Select, now};
use diesel::pg::Pg;
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, QueryResult, RunQueryDsl,
    SelectableHelper,
};

type Keys<'a> = IntoBoxed<'a, Select<ssh_key::table, AsSelect<SshKey, Pg>>, Pg>;

impl DataStore {
    /// A user's key.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another user's too.
    pub async fn ssh_key_view(
        &self,
        user: SiloUserId,
        which: NameOrId,
    ) -> Result<SshKey, Error> {
        self.run(move |conn| {
            let query = live().filter(ssh_key::silo_user_id.eq(user));
            let query = match &which {
                NameOrId::Id(id) => query.filter(ssh_key::id.eq(*id)),
                NameOrId::Name(name) => query.filter(ssh_key::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A user's keys.
    pub async fn ssh_key_list(
        &self,
        user: SiloUserId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<SshKey>, Error> {
        self.run(move |conn| {
            let query = live().filter(ssh_key::silo_user_id.eq(user));
            Ok(paged(query, &page).load(conn)?)
        })
        .await
    }

    /// The keys that an instance was given, but for those deleted since.
    pub async fn ssh_key_list_of_instance(
        &self,
        instance: InstanceId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<SshKey>, Error> {
        self.run(move |conn| {
            let query = live().filter(
                ssh_key::id.eq_any(
                    instance_ssh_key::table
                        .filter(instance_ssh_key::instance_id.eq(instance))
                        .select(instance_ssh_key::ssh_key_id),
                ),
            );
            Ok(paged(query, &page).load(conn)?)
        })
        .await
    }

    /// A new key of a user, whose row is locked: two that come at once do not
    /// both have the last place.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; `TooMany`; `NotFound`: the user is gone.
    pub async fn ssh_key_create(
        &self,
        user: SiloUserId,
        new: NewSshKey,
    ) -> Result<SshKey, Error> {
        self.transaction(move |conn| {
            let at: DateTime<Utc> = silo_user::table
                .find(user)
                .filter(silo_user::time_deleted.is_null())
                .select(clock_timestamp())
                .for_update()
                .first(conn)?;
            let have: i64 = ssh_key::table
                .filter(ssh_key::silo_user_id.eq(user))
                .filter(ssh_key::time_deleted.is_null())
                .count()
                .get_result(conn)?;
            if have >= MAX_USER_SSH_KEYS {
                return Err(Error::TooMany(Limit::UserSshKeys));
            }
            Ok(diesel::insert_into(ssh_key::table)
                .values(&SshKey {
                    id: SshKeyId::new_v4(),
                    silo_user_id: user,
                    name: new.name.clone(),
                    description: new.description.clone(),
                    public_key: new.public_key.as_str().to_string(),
                    time_created: at,
                    time_modified: at,
                    time_deleted: None,
                })
                .returning(SshKey::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Deletes a key: no instance has it from now on.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn ssh_key_delete(&self, id: SshKeyId) -> Result<(), Error> {
        self.run(move |conn| {
            let key =
                ssh_key::table.find(id).filter(ssh_key::time_deleted.is_null());
            let deleted = diesel::update(key)
                .set(ssh_key::time_deleted.eq(now))
                .kept()
                .execute(conn)?;
            if deleted == 0 {
                return Err(Error::NotFound);
            }
            Ok(())
        })
        .await
    }
}

/// The keys that an instance was given, but for those deleted since, by name.
pub(crate) fn public_keys(
    conn: &mut PgConnection,
    id: InstanceId,
) -> QueryResult<Vec<String>> {
    instance_ssh_key::table
        .inner_join(ssh_key::table)
        .filter(instance_ssh_key::instance_id.eq(id))
        .filter(ssh_key::time_deleted.is_null())
        .order((ssh_key::name.asc(), ssh_key::id.asc()))
        .select(ssh_key::public_key)
        .load(conn)
}

/// Gives a new instance these keys, each of them once; all of them this user's,
/// if one is said.
///
/// # Errors
///
/// `NotFound`: a key is gone, or another's.
pub(crate) fn link(
    conn: &mut PgConnection,
    instance: InstanceId,
    user: Option<SiloUserId>,
    keys: &[SshKeyId],
) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    if let Some(user) = user {
        let own: i64 = ssh_key::table
            .filter(ssh_key::id.eq_any(keys))
            .filter(ssh_key::silo_user_id.eq(user))
            .count()
            .get_result(conn)?;
        if usize::try_from(own) != Ok(keys.len()) {
            return Err(Error::NotFound);
        }
    }
    let links: Vec<_> = keys
        .iter()
        .map(|key| {
            (
                instance_ssh_key::instance_id.eq(instance),
                instance_ssh_key::ssh_key_id.eq(*key),
            )
        })
        .collect();
    diesel::insert_into(instance_ssh_key::table).values(links).execute(conn)?;
    Ok(())
}

/// Takes all keys from an instance that is deleted.
pub(crate) fn unlink_all(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> QueryResult<()> {
    diesel::delete(
        instance_ssh_key::table
            .filter(instance_ssh_key::instance_id.eq(instance)),
    )
    .execute(conn)?;
    Ok(())
}

fn live<'a>() -> Keys<'a> {
    ssh_key::table
        .select(SshKey::as_select())
        .into_boxed()
        .filter(ssh_key::time_deleted.is_null())
}

fn paged<'a>(query: Keys<'a>, page: &Page<ByNameOrId>) -> Keys<'a> {
    let query = query.limit(page.limit);
    match page.by.clone() {
        ByNameOrId::Name { after, descending: false } => {
            let query = query.order((ssh_key::name.asc(), ssh_key::id.asc()));
            match after {
                Some(after) => query.filter(ssh_key::name.gt(after)),
                None => query,
            }
        }
        ByNameOrId::Name { after, descending: true } => {
            let query = query.order((ssh_key::name.desc(), ssh_key::id.asc()));
            match after {
                Some(after) => query.filter(ssh_key::name.lt(after)),
                None => query,
            }
        }
        ByNameOrId::Id { after } => {
            let query = query.order(ssh_key::id.asc());
            match after {
                Some(after) => query.filter(ssh_key::id.gt(after)),
                None => query,
            }
        }
    }
}
