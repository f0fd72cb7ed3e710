//! Console sessions: made by a login, and checked at each request.

use crate::role::roles_of;
use crate::silo::Authenticated;
use crate::sql::{Keep, clock_timestamp};
use crate::{ById, DataStore, Error, Page};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::schema::{console_session, silo, silo_user};
use db_model::{ConsoleSession, ConsoleSessionId, SiloId, SiloUserId};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};
use serde_json::Value;

/// For how long a session is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLife {
    /// Without being used.
    pub idle: TimeDelta,
    /// From its beginning on.
    pub absolute: TimeDelta,
}

impl DataStore {
    /// Whom the session whose cookie has this hash speaks for. That it is used
    /// is noted, but not oftener than each `note_every`: a page is many
    /// requests.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is none, or it has ended, or its user or silo is gone.
    pub async fn session_authenticate(
        &self,
        token_hash: String,
        life: SessionLife,
        note_every: TimeDelta,
    ) -> Result<Authenticated, Error> {
        self.run(move |conn| {
            let (session, now, user_id, silo_id, mapped) =
                console_session::table
                    .inner_join(silo_user::table.inner_join(silo::table))
                    .filter(console_session::token_hash.eq(&token_hash))
                    .filter(silo_user::time_deleted.is_null())
                    .filter(silo::time_deleted.is_null())
                    .select((
                        ConsoleSession::as_select(),
                        clock_timestamp(),
                        silo_user::id,
                        silo_user::silo_id,
                        silo::mapped_fleet_roles,
                    ))
                    .first::<(
                        ConsoleSession,
                        DateTime<Utc>,
                        SiloUserId,
                        SiloId,
                        Value,
                    )>(conn)?;
            if now - session.time_created >= life.absolute
                || now - session.time_last_used >= life.idle
            {
                return Err(Error::NotFound);
            }
            if now - session.time_last_used >= note_every {
                diesel::update(console_session::table.find(session.id))
                    .set(console_session::time_last_used.eq(now))
                    .kept()
                    .execute(conn)?;
            }
            Ok(Authenticated {
                user_id,
                silo_id,
                credential_id: session.id.0,
                roles: roles_of(conn, user_id, silo_id, &mapped)?,
            })
        })
        .await
    }

    /// Ends the session whose cookie has this hash, if there is one.
    pub async fn session_end(&self, token_hash: String) -> Result<(), Error> {
        self.run(move |conn| {
            diesel::delete(console_session::table)
                .filter(console_session::token_hash.eq(&token_hash))
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// A user's sessions that have not ended, by id.
    pub async fn session_list(
        &self,
        user: SiloUserId,
        life: SessionLife,
        page: Page<ById>,
    ) -> Result<Vec<ConsoleSession>, Error> {
        self.run(move |conn| {
            let now: DateTime<Utc> =
                diesel::select(clock_timestamp()).get_result(conn)?;
            let query = console_session::table
                .filter(console_session::silo_user_id.eq(user))
                .filter(console_session::time_created.gt(now - life.absolute))
                .filter(console_session::time_last_used.gt(now - life.idle))
                .order(console_session::id.asc())
                .limit(page.limit)
                .select(ConsoleSession::as_select())
                .into_boxed();
            let query = match page.by.after {
                Some(after) => query
                    .filter(console_session::id.gt(ConsoleSessionId(after))),
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }
}

/// A new session of a user who is locked.
pub(crate) fn insert(
    conn: &mut PgConnection,
    user: SiloUserId,
    token_hash: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    diesel::insert_into(console_session::table)
        .values(ConsoleSession {
            id: ConsoleSessionId::new_v4(),
            silo_user_id: user,
            token_hash: token_hash.to_owned(),
            time_created: now,
            time_last_used: now,
        })
        .kept()
        .execute(conn)?;
    Ok(())
}

/// Ends all sessions of a user.
pub(crate) fn end_all(
    conn: &mut PgConnection,
    user: SiloUserId,
) -> Result<(), Error> {
    diesel::delete(console_session::table)
        .filter(console_session::silo_user_id.eq(user))
        .execute(conn)?;
    Ok(())
}
