//! Silos, their users and tokens.

use crate::{DataStore, Error, role};
use db_model::schema::{
    api_token, role_assignment, silo, silo_quota, silo_user,
};
use db_model::{
    ApiToken, ApiTokenId, RoleAssignment, RoleName, RoleResource, Silo, SiloId,
    SiloQuota, SiloUser, SiloUserId,
};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    OptionalExtension, QueryDsl, RunQueryDsl, SelectableHelper,
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

    /// The silo of this name, made if it is not there, with a quota that it
    /// does not feel.
    pub async fn silo_ensure(&self, row: Silo) -> Result<Silo, Error> {
        self.transaction(move |conn| {
            let there: Option<Silo> = silo::table
                .filter(silo::name.eq(&row.name))
                .filter(silo::time_deleted.is_null())
                .select(Silo::as_select())
                .first(conn)
                .optional()?;
            match there {
                Some(there) => Ok(there),
                None => {
                    let made = diesel::insert_into(silo::table)
                        .values(&row)
                        .returning(Silo::as_returning())
                        .get_result(conn)?;
                    diesel::insert_into(silo_quota::table)
                        .values(SiloQuota::unfelt(row.id, row.time_created))
                        .execute(conn)?;
                    Ok(made)
                }
            }
        })
        .await
    }

    /// The user of this name in its silo, made if it is not there.
    pub async fn silo_user_ensure(
        &self,
        row: SiloUser,
    ) -> Result<SiloUser, Error> {
        self.transaction(move |conn| {
            let there: Option<SiloUser> = silo_user::table
                .filter(silo_user::silo_id.eq(row.silo_id))
                .filter(silo_user::external_id.eq(&row.external_id))
                .filter(silo_user::time_deleted.is_null())
                .select(SiloUser::as_select())
                .first(conn)
                .optional()?;
            match there {
                Some(there) => Ok(there),
                None => Ok(diesel::insert_into(silo_user::table)
                    .values(&row)
                    .returning(SiloUser::as_returning())
                    .get_result(conn)?),
            }
        })
        .await
    }

    /// A new token. Only its hash comes here.
    pub async fn api_token_insert(&self, row: ApiToken) -> Result<(), Error> {
        self.run(move |conn| {
            diesel::insert_into(api_token::table).values(&row).execute(conn)?;
            Ok(())
        })
        .await
    }
}
