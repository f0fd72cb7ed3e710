//! Users of silos.

use crate::sql::{Keep, clock_timestamp, sql};
use crate::{ById, DataStore, Error, Page, password, session};
use chrono::{DateTime, Utc};
use db_model::schema::{
    api_token, device_auth_request, idempotency_key, role_assignment, silo,
    silo_user, silo_user_password,
};
use db_model::{
    FLEET_ID, RoleName, RoleResource, SiloId, SiloUser, SiloUserId, UserName,
};
use diesel::dsl::exists;
use diesel::sql_types::Timestamptz;
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// A silo's live user.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another silo's too.
    pub async fn user_view(
        &self,
        silo: SiloId,
        id: SiloUserId,
    ) -> Result<SiloUser, Error> {
        self.run(move |conn| {
            Ok(silo_user::table
                .find(id)
                .filter(silo_user::silo_id.eq(silo))
                .filter(silo_user::time_deleted.is_null())
                .select(SiloUser::as_select())
                .first(conn)?)
        })
        .await
    }

    /// A silo's live user of this name.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn user_named(
        &self,
        silo: SiloId,
        name: UserName,
    ) -> Result<SiloUser, Error> {
        self.run(move |conn| {
            Ok(silo_user::table
                .filter(silo_user::silo_id.eq(silo))
                .filter(silo_user::external_id.eq(&name))
                .filter(silo_user::time_deleted.is_null())
                .select(SiloUser::as_select())
                .first(conn)?)
        })
        .await
    }

    /// A silo's live users, or all silos', by id.
    pub async fn user_list(
        &self,
        of: Option<SiloId>,
        page: Page<ById>,
    ) -> Result<Vec<SiloUser>, Error> {
        self.run(move |conn| {
            let mut query = silo_user::table
                .filter(silo_user::time_deleted.is_null())
                .order(silo_user::id.asc())
                .limit(page.limit)
                .select(SiloUser::as_select())
                .into_boxed();
            if let Some(silo) = of {
                query = query.filter(silo_user::silo_id.eq(silo));
            }
            if let Some(after) = page.by.after {
                query = query.filter(silo_user::id.gt(SiloUserId(after)));
            }
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A new user, who has no role; with a password's hash, one who can log in
    /// by that.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; `NotFound`: the silo is gone.
    pub async fn user_create(
        &self,
        silo: SiloId,
        name: UserName,
        password_hash: Option<String>,
    ) -> Result<SiloUser, Error> {
        self.transaction(move |conn| {
            // Shared, so that the silo is not deleted meanwhile.
            let _: SiloId = silo::table
                .find(silo)
                .filter(silo::time_deleted.is_null())
                .select(silo::id)
                .for_share()
                .first(conn)?;
            let user = insert(conn, silo, &name)?;
            if let Some(hash) = &password_hash {
                password::insert(conn, user.id, hash, user.time_created)?;
            }
            Ok(user)
        })
        .await
    }

    /// Deletes a user, with its tokens, sessions, password and roles. What it
    /// made stays.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InUse`: it is the fleet's last admin.
    pub async fn user_delete(&self, id: SiloUserId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let _: SiloUserId = silo_user::table
                .find(id)
                .filter(silo_user::time_deleted.is_null())
                .select(silo_user::id)
                .for_update()
                .first(conn)?;
            if are_all_admins(conn, &[id])? {
                return Err(Error::InUse);
            }
            forget(conn, id)
        })
        .await
    }

    /// Has this user a role on the fleet?
    pub async fn user_is_of_fleet(
        &self,
        id: SiloUserId,
    ) -> Result<bool, Error> {
        self.run(move |conn| {
            let roles = role_assignment::table
                .filter(role_assignment::resource.eq(RoleResource::Fleet))
                .filter(role_assignment::resource_id.eq(FLEET_ID))
                .filter(role_assignment::silo_user_id.eq(id));
            Ok(diesel::select(exists(roles)).get_result(conn)?)
        })
        .await
    }

    /// Ends a user's sessions, and deletes its tokens.
    pub async fn user_logout(&self, id: SiloUserId) -> Result<(), Error> {
        self.transaction(move |conn| {
            // Whoever is just being given a token or a session holds the user:
            // none comes to light after this.
            let _: SiloUserId = silo_user::table
                .find(id)
                .select(silo_user::id)
                .for_update()
                .first(conn)?;
            session::end_all(conn, id)?;
            delete_tokens(conn, id)
        })
        .await
    }
}

/// Are all admins of the fleet among these? All of them are locked, so that two
/// do not take each other for who is left.
pub(crate) fn are_all_admins(
    conn: &mut PgConnection,
    users: &[SiloUserId],
) -> Result<bool, Error> {
    let admins: Vec<SiloUserId> = role_assignment::table
        .filter(role_assignment::resource.eq(RoleResource::Fleet))
        .filter(role_assignment::resource_id.eq(FLEET_ID))
        .filter(role_assignment::role_name.eq(RoleName::Admin))
        .order(role_assignment::silo_user_id.asc())
        .select(role_assignment::silo_user_id)
        .for_update()
        .load(conn)?;
    Ok(!admins.is_empty() && admins.iter().all(|id| users.contains(id)))
}

pub(crate) fn insert(
    conn: &mut PgConnection,
    silo: SiloId,
    name: &UserName,
) -> Result<SiloUser, Error> {
    let now: DateTime<Utc> =
        diesel::select(clock_timestamp()).get_result(conn)?;
    Ok(diesel::insert_into(silo_user::table)
        .values(SiloUser {
            id: SiloUserId::new_v4(),
            silo_id: silo,
            external_id: name.to_string(),
            time_created: now,
            time_modified: now,
            time_deleted: None,
        })
        .returning(SiloUser::as_returning())
        .kept()
        .get_result(conn)?)
}

fn delete_tokens(conn: &mut PgConnection, id: SiloUserId) -> Result<(), Error> {
    diesel::delete(api_token::table)
        .filter(api_token::silo_user_id.eq(id))
        .execute(conn)?;
    diesel::delete(device_auth_request::table)
        .filter(device_auth_request::silo_user_id.eq(id))
        .execute(conn)?;
    Ok(())
}

/// Marks a user as deleted, and leaves nothing by which it could come in.
pub(crate) fn forget(
    conn: &mut PgConnection,
    id: SiloUserId,
) -> Result<(), Error> {
    session::end_all(conn, id)?;
    delete_tokens(conn, id)?;
    diesel::delete(silo_user_password::table.find(id)).execute(conn)?;
    diesel::delete(role_assignment::table)
        .filter(role_assignment::silo_user_id.eq(id))
        .execute(conn)?;
    diesel::delete(idempotency_key::table)
        .filter(idempotency_key::silo_user_id.eq(id))
        .execute(conn)?;
    diesel::update(silo_user::table.find(id))
        .set(silo_user::time_deleted.eq(sql::<
            diesel::sql_types::Nullable<Timestamptz>,
        >("clock_timestamp()")))
        .kept()
        .execute(conn)?;
    Ok(())
}
