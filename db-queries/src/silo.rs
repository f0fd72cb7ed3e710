//! Silos, their users and tokens.

use crate::pagination::begun_at;
use crate::sql::{Keep, clock_timestamp, sql};
use crate::{ByNameOrId, DataStore, Error, Page, password, role, user};
use chrono::{DateTime, Utc};
use db_model::schema::{
    api_token, db_metadata, image, project, role_assignment, silo, silo_quota,
    silo_user,
};
use db_model::{
    ApiToken, ApiTokenId, FLEET_ID, NameOrId, NewSilo, RoleAssignment,
    RoleName, RoleResource, Silo, SiloId, SiloQuota, SiloUser, SiloUserId,
    UserName,
};
use diesel::dsl::{exists, select};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};
use serde_json::Value;
use uuid::Uuid;

/// Whom a credential speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Authenticated {
    pub user_id: SiloUserId,
    pub silo_id: SiloId,
    /// Of the token or the session.
    pub credential_id: Uuid,
    /// On what, and which.
    pub roles: Vec<(RoleResource, Uuid, RoleName)>,
}

impl DataStore {
    /// Whom the token with this hash speaks for.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is none, or it has expired, or its user or silo is
    /// gone.
    pub async fn authenticate(
        &self,
        token_hash: String,
    ) -> Result<Authenticated, Error> {
        self.run(move |conn| {
            let (credential, user_id, silo_id, mapped) = api_token::table
                .inner_join(silo_user::table.inner_join(silo::table))
                .filter(api_token::token_hash.eq(&token_hash))
                .filter(
                    api_token::time_expires.is_null().or(
                        api_token::time_expires
                            .assume_not_null()
                            .gt(diesel::dsl::now),
                    ),
                )
                .filter(silo_user::time_deleted.is_null())
                .filter(silo::time_deleted.is_null())
                .select((
                    api_token::id,
                    silo_user::id,
                    silo_user::silo_id,
                    silo::mapped_fleet_roles,
                ))
                .first::<(ApiTokenId, SiloUserId, SiloId, Value)>(conn)?;
            let roles = role::roles_of(conn, user_id, silo_id, &mapped)?;
            let credential_id = credential.0;
            Ok(Authenticated { user_id, silo_id, credential_id, roles })
        })
        .await
    }

    /// Gives a user a role, if it does not have it.
    pub async fn role_ensure(&self, row: RoleAssignment) -> Result<(), Error> {
        self.run(move |conn| {
            diesel::insert_into(role_assignment::table)
                .values(&row)
                .on_conflict_do_nothing()
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// A user and its silo.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_user_view(
        &self,
        id: SiloUserId,
    ) -> Result<(SiloUser, Silo), Error> {
        self.run(move |conn| {
            Ok(silo_user::table
                .inner_join(silo::table)
                .filter(silo_user::id.eq(id))
                .select((SiloUser::as_select(), Silo::as_select()))
                .first(conn)?)
        })
        .await
    }

    /// A live silo.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_view(&self, which: NameOrId) -> Result<Silo, Error> {
        self.run(move |conn| {
            let query = silo::table
                .filter(silo::time_deleted.is_null())
                .select(Silo::as_select())
                .into_boxed();
            let query = match &which {
                NameOrId::Id(id) => query.filter(silo::id.eq(*id)),
                NameOrId::Name(name) => query.filter(silo::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// The live silos.
    pub async fn silo_list(
        &self,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Silo>, Error> {
        self.run(move |conn| {
            let query = silo::table
                .filter(silo::time_deleted.is_null())
                .limit(page.limit)
                .select(Silo::as_select())
                .into_boxed();
            let query = begun_at!(query, page.by, silo);
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A new silo, with its quota.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`.
    pub async fn silo_create(&self, new: NewSilo) -> Result<Silo, Error> {
        self.transaction(move |conn| insert(conn, &new)).await
    }

    /// Deletes a silo, and with it its users, their tokens, sessions, passwords
    /// and roles.
    ///
    /// # Errors
    ///
    /// `NotFound`; `NotEmpty`; `InUse`: all admins of the fleet are in it.
    pub async fn silo_delete(&self, id: SiloId) -> Result<(), Error> {
        self.transaction(move |conn| {
            // Locked against a project that is just being made in it.
            let _: SiloId = silo::table
                .find(id)
                .filter(silo::time_deleted.is_null())
                .select(silo::id)
                .for_update()
                .first(conn)?;
            let mut kept = Vec::new();
            let projects = project::table
                .filter(project::silo_id.eq(id))
                .filter(project::time_deleted.is_null());
            if select(exists(projects)).get_result(conn)? {
                kept.push("projects");
            }
            let images = image::table
                .filter(image::silo_id.eq(id))
                .filter(image::time_deleted.is_null());
            if select(exists(images)).get_result(conn)? {
                kept.push("images");
            }
            if !kept.is_empty() {
                return Err(Error::NotEmpty(kept));
            }
            let users: Vec<SiloUserId> = silo_user::table
                .filter(silo_user::silo_id.eq(id))
                .filter(silo_user::time_deleted.is_null())
                .order(silo_user::id.asc())
                .select(silo_user::id)
                .for_update()
                .load(conn)?;
            if user::are_all_admins(conn, &users)? {
                return Err(Error::InUse);
            }
            for user in users {
                user::forget(conn, user)?;
            }
            diesel::update(silo::table.find(id))
                .set(silo::time_deleted.eq(sql("clock_timestamp()")))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// For how long at most a token of a device login is good in a silo, in
    /// seconds.
    pub async fn silo_set_token_max_ttl(
        &self,
        id: SiloId,
        secs: Option<i64>,
    ) -> Result<Silo, Error> {
        self.run(move |conn| {
            Ok(diesel::update(silo::table.find(id))
                .set((
                    silo::device_token_max_ttl_secs.eq(secs),
                    silo::time_modified.eq(clock_timestamp()),
                ))
                .returning(Silo::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// The first silo, its first user, who may do everything in it and in the
    /// fleet, with a password and a token: all or nothing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: there is a silo already.
    pub async fn first_admin(
        &self,
        new: NewSilo,
        name: UserName,
        password_hash: String,
        token_hash: String,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            // Of two at once one waits here for the other, and then finds it.
            diesel::update(db_metadata::table)
                .set(db_metadata::time_modified.eq(clock_timestamp()))
                .kept()
                .execute(conn)?;
            let there = silo::table.filter(silo::time_deleted.is_null());
            if select(exists(there)).get_result(conn)? {
                return Err(Error::AlreadyExists);
            }
            let silo = insert(conn, &new)?;
            let user = user::insert(conn, silo.id, &name)?;
            let now = user.time_created;
            password::insert(conn, user.id, &password_hash, now)?;
            for (resource, resource_id) in [
                (RoleResource::Fleet, FLEET_ID),
                (RoleResource::Silo, silo.id.0),
            ] {
                diesel::insert_into(role_assignment::table)
                    .values(RoleAssignment {
                        resource,
                        resource_id,
                        silo_user_id: user.id,
                        role_name: RoleName::Admin,
                        time_created: user.time_created,
                    })
                    .kept()
                    .execute(conn)?;
            }
            diesel::insert_into(api_token::table)
                .values(ApiToken {
                    id: ApiTokenId::new_v4(),
                    silo_user_id: user.id,
                    token_hash: token_hash.clone(),
                    time_created: user.time_created,
                    time_expires: None,
                })
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// A new token. Only its hash comes here.
    pub async fn api_token_insert(&self, row: ApiToken) -> Result<(), Error> {
        self.run(move |conn| {
            diesel::insert_into(api_token::table)
                .values(&row)
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }
}

fn insert(conn: &mut PgConnection, new: &NewSilo) -> Result<Silo, Error> {
    let now: DateTime<Utc> = select(clock_timestamp()).get_result(conn)?;
    let silo = diesel::insert_into(silo::table)
        .values(&Silo {
            id: SiloId::new_v4(),
            name: new.name.clone(),
            description: new.description.clone(),
            time_created: now,
            time_modified: now,
            time_deleted: None,
            discoverable: new.discoverable,
            mapped_fleet_roles: new.mapped_fleet_roles.clone(),
            device_token_max_ttl_secs: None,
        })
        .returning(Silo::as_returning())
        .get_result::<Silo>(conn)?;
    diesel::insert_into(silo_quota::table)
        .values(SiloQuota {
            silo_id: silo.id,
            vcpus: new.vcpus,
            memory_bytes: new.memory,
            storage_bytes: new.storage,
            ..SiloQuota::unfelt(silo.id, now)
        })
        .kept()
        .execute(conn)?;
    Ok(silo)
}
