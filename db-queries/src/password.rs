//! Passwords of users, hashed, and how often they were guessed wrong.

use crate::sql::{Keep, clock_timestamp};
use crate::{DataStore, Error, session};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::schema::{login_guess, silo, silo_user, silo_user_password};
use db_model::{Name, SiloUserId, SiloUserPassword, UserName};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, RunQueryDsl,
};
use sha2::{Digest, Sha256};

/// Wrong guesses count for so long after the last. Who makes as many as the
/// delays between them allow, and then waits for that long, makes no more of
/// them a day than who goes on at the longest delay, of five minutes.
pub(crate) const GUESSES_COUNT_FOR: TimeDelta = TimeDelta::hours(1);

/// What came of the wish to try a password.
pub enum Guess {
    /// This is the hash to compare with. Until [`DataStore::password_right`] is
    /// called the try counts as wrong, whoever dies.
    Hash(SiloUserId, String),
    /// There is no such user, or it may not log in by a password; it counts all
    /// the same.
    Nobody,
    /// There have been so many wrong ones that the next has to wait.
    Wait(TimeDelta),
}

impl DataStore {
    /// The password of a user that is about to be guessed. `delay` says how long
    /// one must wait after so many wrong ones in a row.
    ///
    /// What it does, and so how long it takes, depends on whether there is such
    /// a user only after it is decided whether there may be a guess.
    pub async fn password_guess(
        &self,
        silo: Name,
        user: UserName,
        delay: fn(i64) -> TimeDelta,
    ) -> Result<Guess, Error> {
        self.transaction(move |conn| {
            let name_hash = name_hash(&silo, &user);
            let time = || clock_timestamp();
            // Written so that the row is there and locked: of many guesses at
            // once each counts before the next.
            let (failures, last, now): (i64, DateTime<Utc>, DateTime<Utc>) =
                diesel::insert_into(login_guess::table)
                    .values((
                        login_guess::name_hash.eq(&name_hash),
                        login_guess::failures.eq(0),
                        login_guess::time_last.eq(time()),
                    ))
                    .on_conflict(login_guess::name_hash)
                    .do_update()
                    .set(login_guess::failures.eq(login_guess::failures))
                    .returning((
                        login_guess::failures,
                        login_guess::time_last,
                        time(),
                    ))
                    .kept()
                    .get_result(conn)?;
            let count = now - last < GUESSES_COUNT_FOR;
            let failures = if count { failures } else { 0 };
            let wait = last + delay(failures) - now;
            if wait > TimeDelta::zero() {
                return Ok(Guess::Wait(wait));
            }
            diesel::update(login_guess::table.find(&name_hash))
                .set((
                    login_guess::failures.eq(failures + 1),
                    login_guess::time_last.eq(now),
                ))
                .kept()
                .execute(conn)?;
            let known = silo_user_password::table
                .inner_join(silo_user::table.inner_join(silo::table))
                .filter(silo::name.eq(&silo))
                .filter(silo::time_deleted.is_null())
                .filter(silo_user::external_id.eq(&user))
                .filter(silo_user::time_deleted.is_null())
                .select((silo_user::id, silo_user_password::hash))
                .first(conn)
                .optional()?;
            Ok(match known {
                Some((id, hash)) => Guess::Hash(id, hash),
                None => Guess::Nobody,
            })
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
                .select(clock_timestamp())
                .for_update()
                .first(conn)?;
            let hash = rehashed.as_ref().unwrap_or(&guessed);
            let still = diesel::update(silo_user_password::table.find(user))
                .filter(silo_user_password::hash.eq(&guessed))
                .set(silo_user_password::hash.eq(hash))
                .kept()
                .execute(conn)?;
            if still == 0 {
                return Err(Error::NotFound);
            }
            forget_guesses(conn, user)?;
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
                .select(clock_timestamp())
                .for_update()
                .first(conn)?;
            diesel::delete(silo_user_password::table.find(user))
                .execute(conn)?;
            if let Some(hash) = &hash {
                insert(conn, user, hash, now)?;
            }
            forget_guesses(conn, user)?;
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
        })
        .kept()
        .execute(conn)?;
    Ok(())
}

/// Whatever was guessed for this user counts no more.
fn forget_guesses(
    conn: &mut PgConnection,
    user: SiloUserId,
) -> Result<(), Error> {
    let (silo, name): (Name, UserName) = silo_user::table
        .inner_join(silo::table)
        .filter(silo_user::id.eq(user))
        .select((silo::name, silo_user::external_id))
        .first(conn)?;
    diesel::delete(login_guess::table.find(name_hash(&silo, &name)))
        .execute(conn)?;
    Ok(())
}

/// By which guesses for a name are counted.
fn name_hash(silo: &Name, user: &UserName) -> String {
    // No name has a slash, so no two pairs are hashed as the same text.
    let text = format!("{}/{}", silo.as_str(), user.as_str());
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
