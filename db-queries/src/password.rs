//! Passwords of users, hashed, and how often they were guessed wrong.

use crate::{DataStore, Error, session};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::schema::{silo, silo_user, silo_user_password};
use db_model::{Name, SiloUserId, SiloUserPassword, UserName};
use diesel::dsl::sql;
use diesel::sql_types::Timestamptz;
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

/// What came of the wish to try a password.
pub enum Guess {
    /// This is the hash to compare with. Until [`DataStore::password_right`] is
    /// called the try counts as wrong, whoever dies.
    Hash(SiloUserId, String),
    /// There have been so many wrong ones that the next has to wait.
    Wait(TimeDelta),
}

impl DataStore {
    /// The password of a user that is about to be guessed. `delay` says how long
    /// one must wait after so many wrong ones in a row.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no such user, or it may not log in by a password.
    pub async fn password_guess(
        &self,
        silo: Name,
        user: UserName,
        delay: fn(i64) -> TimeDelta,
    ) -> Result<Guess, Error> {
        self.transaction(move |conn| {
            let id: SiloUserId = silo_user::table
                .inner_join(silo::table)
                .filter(silo::name.eq(&silo))
                .filter(silo::time_deleted.is_null())
                .filter(silo_user::external_id.eq(&user))
                .filter(silo_user::time_deleted.is_null())
                .select(silo_user::id)
                .first(conn)?;
            // The row is locked, so that of many guesses at once each counts
            // before the next.
            let (row, now) = silo_user_password::table
                .find(id)
                .select((
                    SiloUserPassword::as_select(),
                    sql::<Timestamptz>("clock_timestamp()"),
                ))
                .for_update()
                .first::<(SiloUserPassword, DateTime<Utc>)>(conn)?;
            if let Some(last) = row.time_last_failure {
                let wait = last + delay(row.failures) - now;
                if wait > TimeDelta::zero() {
                    return Ok(Guess::Wait(wait));
                }
            }
            diesel::update(silo_user_password::table.find(row.silo_user_id))
                .set((
                    silo_user_password::failures.eq(row.failures + 1),
                    silo_user_password::time_last_failure.eq(now),
                ))
                .execute(conn)?;
            Ok(Guess::Hash(row.silo_user_id, row.hash))
        })
        .await
    }

    /// It was guessed right, so a session begins; only the hash of its cookie
    /// comes here. With `rehashed`, that is kept of the password from now on.
    ///
    /// # Errors
    ///
    /// `NotFound`: the user is gone, or that is not its password any more.
    pub async fn password_right(
        &self,
        user: SiloUserId,
        guessed: String,
        rehashed: Option<String>,
        token_hash: String,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            // Whoever sets another password, or deletes the user, locks it too.
            let now: DateTime<Utc> = silo_user::table
                .find(user)
                .filter(silo_user::time_deleted.is_null())
                .select(sql::<Timestamptz>("clock_timestamp()"))
                .for_update()
                .first(conn)?;
            let hash = rehashed.as_ref().unwrap_or(&guessed);
            let still = diesel::update(silo_user_password::table.find(user))
                .filter(silo_user_password::hash.eq(&guessed))
                .set((
                    silo_user_password::failures.eq(0),
                    silo_user_password::time_last_failure
                        .eq(None::<DateTime<Utc>>),
                    silo_user_password::hash.eq(hash),
                ))
                .execute(conn)?;
            if still == 0 {
                return Err(Error::NotFound);
            }
            session::insert(conn, user, &token_hash, now)
        })
        .await
    }

    /// Sets a user's password, or takes it away; either way whoever was logged
    /// in by the old one is not any more. Tokens stay.
    ///
    /// # Errors
    ///
    /// `NotFound`: the user is gone.
    pub async fn password_set(
        &self,
        user: SiloUserId,
        hash: Option<String>,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            let now: DateTime<Utc> = silo_user::table
                .find(user)
                .filter(silo_user::time_deleted.is_null())
                .select(sql::<Timestamptz>("clock_timestamp()"))
                .for_update()
                .first(conn)?;
            diesel::delete(silo_user_password::table.find(user))
                .execute(conn)?;
            if let Some(hash) = &hash {
                insert(conn, user, hash, now)?;
            }
            session::end_all(conn, user)
        })
        .await
    }
}

pub(crate) fn insert(
    conn: &mut PgConnection,
    user: SiloUserId,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    diesel::insert_into(silo_user_password::table)
        .values(SiloUserPassword {
            silo_user_id: user,
            hash: hash.to_owned(),
            time_set: now,
            failures: 0,
            time_last_failure: None,
        })
        .execute(conn)?;
    Ok(())
}
