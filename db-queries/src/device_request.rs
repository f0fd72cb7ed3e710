//! Devices that want to log in (RFC 8628): asked for by anybody, confirmed by a
//! user, and given a token when they next ask.
//!
//! A token is made under the lock of its user's row. Whoever ends what a user
//! has (`user_logout`, `user_delete`, `silo_delete`) takes the same lock, and
//! deletes what the user has confirmed: so no token comes to light after that.

use crate::sql::{Keep, clock_timestamp, sql, statement};
use crate::{DataStore, Error};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::schema::{
    api_token, console_session, device_auth_request, silo, silo_user,
};
use db_model::{
    ApiToken, ApiTokenId, AuthMethod, ConsoleSessionId, DeviceRequest,
    DeviceRequestId, SiloUserId, UserCode,
};
use diesel::dsl::{exists, select};
use diesel::sql_types::{BigInt, Timestamptz};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl,
    QueryableByName, RunQueryDsl, SelectableHelper,
};
use uuid::Uuid;

/// A device that asks to be let in.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewDeviceRequest {
    pub client_id: Uuid,
    pub device_code_hash: String,
    pub user_code: UserCode,
    pub ttl_secs: Option<i64>,
}

/// What came of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceConfirmed {
    /// The device gets its token when it next asks.
    Yes,
    /// No device waits under this code.
    NoCode,
    /// The token would be good for longer than this one may be, in seconds.
    TooLong(i64),
    /// What the user showed is good for nothing any more.
    LoggedOut,
}

/// What a device is told that asks for its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicePoll {
    /// Nobody knows this device, or not any more.
    Unknown,
    /// Nobody has confirmed it yet.
    Pending,
    /// The same, and it asks too often.
    TooSoon,
    /// A user has said no.
    Denied,
    /// It has waited for too long.
    Expired,
    /// It was given its token before.
    Used,
    /// This is its token, of this request.
    Token {
        /// Of what the token is made, with the device's own code.
        request: DeviceRequestId,
        /// The token's.
        id: ApiTokenId,
        /// When it was made.
        made: DateTime<Utc>,
        /// When it ends.
        expires: Option<DateTime<Utc>>,
    },
}

/// How devices may ask.
#[derive(Clone, Copy, Debug)]
pub struct DevicePolling {
    /// No oftener than this.
    pub least: TimeDelta,
    /// One whose answer was lost may ask for so long once more.
    pub again_within: TimeDelta,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
}

impl DataStore {
    /// Keeps a device's wish for as long as `life`, unless as many as `most`
    /// wait already; whether it does.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: another waits under that user code.
    pub async fn device_request_insert(
        &self,
        new: NewDeviceRequest,
        life: TimeDelta,
        most: i64,
    ) -> Result<bool, Error> {
        self.transaction(move |conn| {
            let now = now(conn)?;
            // Of many at once each may see one less than there are: it need not
            // be exact.
            let counted: Counted = statement(
                "SELECT count(*) AS waiting FROM ( \
                     SELECT id FROM device_auth_request \
                     WHERE time_expires > $1 LIMIT $2) AS w",
            )
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(most)
            .get_result(conn)?;
            if counted.waiting >= most {
                return Ok(false);
            }
            diesel::insert_into(device_auth_request::table)
                .values(DeviceRequest {
                    id: DeviceRequestId::new_v4(),
                    client_id: new.client_id,
                    device_code_hash: new.device_code_hash.clone(),
                    user_code: new.user_code.to_string(),
                    ttl_secs: new.ttl_secs,
                    time_created: now,
                    time_expires: now + life,
                    time_last_polled: None,
                    silo_user_id: None,
                    time_confirmed: None,
                    token_expires_by: None,
                    time_denied: None,
                    time_used: None,
                })
                .kept()
                .execute(conn)?;
            Ok(true)
        })
        .await
    }

    /// The device that waits under this code to be confirmed or denied.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn device_request_view(
        &self,
        code: UserCode,
    ) -> Result<DeviceRequest, Error> {
        self.run(move |conn| {
            Ok(device_auth_request::table
                .filter(device_auth_request::user_code.eq(code.as_str()))
                .filter(device_auth_request::time_confirmed.is_null())
                .filter(device_auth_request::time_denied.is_null())
                .filter(device_auth_request::time_expires.gt(clock_timestamp()))
                .select(DeviceRequest::as_select())
                .first(conn)?)
        })
        .await
    }

    /// Lets the device that waits under this code in, as this user, who has
    /// shown `credential`. *Idempotency*: the same user may do it again.
    pub async fn device_request_confirm(
        &self,
        code: UserCode,
        user: SiloUserId,
        credential: (AuthMethod, Uuid),
    ) -> Result<DeviceConfirmed, Error> {
        self.transaction(move |conn| {
            let Some(max) = lock(conn, user)? else {
                return Ok(DeviceConfirmed::LoggedOut);
            };
            let now = now(conn)?;
            let expires = shown(conn, credential)?;
            let Some(expires) = expires else {
                return Ok(DeviceConfirmed::LoggedOut);
            };
            let row = device_auth_request::table
                .filter(device_auth_request::user_code.eq(code.as_str()))
                .filter(device_auth_request::time_expires.gt(now))
                .select(DeviceRequest::as_select())
                .for_update()
                .first(conn)
                .optional()?;
            let Some(row) = row.filter(|row| row.time_denied.is_none()) else {
                return Ok(DeviceConfirmed::NoCode);
            };
            if let Some(by) = row.silo_user_id {
                return Ok(match by == user {
                    true => DeviceConfirmed::Yes,
                    false => DeviceConfirmed::NoCode,
                });
            }
            let left = expires.map(|at| (at - now).num_seconds().max(0));
            let most = max.into_iter().chain(left).min();
            if let (Some(wanted), Some(most)) = (row.ttl_secs, most)
                && wanted > most
            {
                return Ok(DeviceConfirmed::TooLong(most));
            }
            diesel::update(device_auth_request::table.find(row.id))
                .set((
                    device_auth_request::silo_user_id.eq(user),
                    device_auth_request::time_confirmed.eq(now),
                    device_auth_request::token_expires_by.eq(expires),
                ))
                .kept()
                .execute(conn)?;
            Ok(DeviceConfirmed::Yes)
        })
        .await
    }

    /// Keeps the device that waits under this code out. *Idempotency*: it may
    /// be done again.
    ///
    /// # Errors
    ///
    /// `NotFound`: none waits under it.
    pub async fn device_request_deny(
        &self,
        code: UserCode,
    ) -> Result<(), Error> {
        self.run(move |conn| {
            let at = sql::<diesel::sql_types::Nullable<Timestamptz>>(
                "clock_timestamp()",
            );
            let denied = diesel::update(device_auth_request::table)
                .filter(device_auth_request::user_code.eq(code.as_str()))
                .filter(device_auth_request::time_confirmed.is_null())
                .filter(device_auth_request::time_expires.gt(clock_timestamp()))
                .set(device_auth_request::time_denied.eq(at))
                .kept()
                .execute(conn)?;
            if denied == 1 { Ok(()) } else { Err(Error::NotFound) }
        })
        .await
    }

    /// A device asks for its token, of which `hash_of` is told the request and
    /// says the hash. However often and from however many places it asks, it
    /// is one token.
    pub async fn device_request_poll(
        &self,
        client_id: Uuid,
        device_code_hash: String,
        polling: DevicePolling,
        hash_of: impl Fn(DeviceRequestId) -> String + Send + 'static,
    ) -> Result<DevicePoll, Error> {
        self.transaction(move |conn| {
            let row = device_auth_request::table
                .filter(
                    device_auth_request::device_code_hash.eq(&device_code_hash),
                )
                .filter(device_auth_request::client_id.eq(client_id))
                .select(DeviceRequest::as_select())
                .first(conn)
                .optional()?;
            let Some(row) = row else { return Ok(DevicePoll::Unknown) };
            match row.silo_user_id {
                Some(user) => {
                    let hash = hash_of(row.id);
                    token(conn, row.id, user, hash, polling.again_within)
                }
                None => wait(conn, &row, polling.least),
            }
        })
        .await
    }
}

fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    Ok(select(clock_timestamp()).get_result(conn)?)
}

/// Locks a live user; for how long its tokens are good at most, in seconds.
fn lock(
    conn: &mut PgConnection,
    user: SiloUserId,
) -> Result<Option<Option<i64>>, Error> {
    let silo = silo_user::table
        .find(user)
        .filter(silo_user::time_deleted.is_null())
        .select(silo_user::silo_id)
        .for_update()
        .first::<db_model::SiloId>(conn)
        .optional()?;
    let Some(silo) = silo else { return Ok(None) };
    let max = silo::table
        .find(silo)
        .select(silo::device_token_max_ttl_secs)
        .first(conn)?;
    Ok(Some(max))
}

/// Is this still there? And if it is, when does it end, if that binds what it
/// confirms?
fn shown(
    conn: &mut PgConnection,
    (method, id): (AuthMethod, Uuid),
) -> Result<Option<Option<DateTime<Utc>>>, Error> {
    match method {
        AuthMethod::AccessToken => Ok(api_token::table
            .find(ApiTokenId(id))
            .select(api_token::time_expires)
            .first(conn)
            .optional()?),
        AuthMethod::SessionCookie => {
            let session = console_session::table.find(ConsoleSessionId(id));
            let there = select(exists(session)).get_result::<bool>(conn)?;
            Ok(there.then_some(None))
        }
    }
}

/// Nobody has confirmed it, at least not yet.
fn wait(
    conn: &mut PgConnection,
    row: &DeviceRequest,
    least: TimeDelta,
) -> Result<DevicePoll, Error> {
    let now = now(conn)?;
    if row.time_expires <= now {
        return Ok(DevicePoll::Expired);
    }
    if row.time_denied.is_some() {
        return Ok(DevicePoll::Denied);
    }
    // Whoever asks too often is not written down each time: so it is answered
    // once each `least`, and costs little in between.
    if row.time_last_polled.is_some_and(|last| now - last < least) {
        return Ok(DevicePoll::TooSoon);
    }
    diesel::update(device_auth_request::table.find(row.id))
        .set(device_auth_request::time_last_polled.eq(now))
        .kept()
        .execute(conn)?;
    Ok(DevicePoll::Pending)
}

/// A user has confirmed it: its token is made, once.
fn token(
    conn: &mut PgConnection,
    id: DeviceRequestId,
    user: SiloUserId,
    token_hash: String,
    again_within: TimeDelta,
) -> Result<DevicePoll, Error> {
    let Some(max) = lock(conn, user)? else { return Ok(DevicePoll::Unknown) };
    let now = now(conn)?;
    // Whoever had the lock before may have logged the user out, or have made
    // the token.
    let row = device_auth_request::table
        .find(id)
        .select(DeviceRequest::as_select())
        .for_update()
        .first(conn)
        .optional()?;
    let Some(row) = row else { return Ok(DevicePoll::Unknown) };
    if let Some(used) = row.time_used {
        let made = api_token::table
            .filter(api_token::token_hash.eq(&token_hash))
            .select(ApiToken::as_select())
            .first(conn)
            .optional()?;
        let made = made.filter(|_| now - used < again_within);
        return Ok(made.map_or(DevicePoll::Used, |token| given(id, &token)));
    }
    if row.time_expires <= now {
        return Ok(DevicePoll::Expired);
    }
    let ends = row.ttl_secs.into_iter().chain(max).min();
    let ends = ends.and_then(TimeDelta::try_seconds).map(|ttl| now + ttl);
    let ends = ends.into_iter().chain(row.token_expires_by).min();
    if ends.is_some_and(|at| at <= now) {
        return Ok(DevicePoll::Expired);
    }
    let made = ApiToken {
        id: ApiTokenId::new_v4(),
        silo_user_id: user,
        token_hash,
        time_created: now,
        time_expires: ends,
    };
    diesel::insert_into(api_token::table).values(&made).kept().execute(conn)?;
    diesel::update(device_auth_request::table.find(id))
        .set(device_auth_request::time_used.eq(now))
        .kept()
        .execute(conn)?;
    Ok(given(id, &made))
}

fn given(request: DeviceRequestId, token: &ApiToken) -> DevicePoll {
    DevicePoll::Token {
        request,
        id: token.id,
        made: token.time_created,
        expires: token.time_expires,
    }
}
