//! Login of devices (RFC 8628): a program that has no browser asks for two
//! codes, its user confirms the short one where there is a browser, and the
//! program is given a token for the long one.

use chrono::{DateTime, TimeDelta, Utc};
use db_model::{ApiTokenId, DeviceRequest, UserCode};
use db_queries::{
    DeviceConfirmed, DevicePoll, DevicePolling, NewDeviceRequest,
};
use uuid::Uuid;

use super::{App, Token};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;

/// How long a device waits for its user: who is at it needs a minute.
const LIFE: TimeDelta = TimeDelta::minutes(10);

/// How often a device is told to ask.
const INTERVAL_SECS: u32 = 5;

/// How often it may: what is sent at the right time may arrive a little late,
/// and the next one in time.
const POLLING: DevicePolling = DevicePolling {
    least: TimeDelta::seconds(3),
    again_within: TimeDelta::minutes(1),
};

/// How many devices wait at a time. Anybody may ask, so there must be an end:
/// so many are some 5 MiB.
const WAITING_MAX: i64 = 10_000;

/// How often another code is tried if one is taken, which is as good as never.
const CODE_TRIES: usize = 4;

/// A device that asks to be let in.
#[derive(Debug)]
pub struct DeviceWish {
    /// What it calls itself.
    pub client_id: Uuid,
    /// For how long it wants its token to be good.
    pub ttl_secs: Option<u32>,
}

/// What a device is told, once.
pub struct DeviceCodes {
    /// By which it asks for its token.
    pub device: Token,
    /// Which its user types.
    pub user: UserCode,
    /// For how long both are good.
    pub life: TimeDelta,
    /// How often it may ask.
    pub interval_secs: u32,
}

/// A token, to be shown once.
pub struct DeviceToken {
    /// Its secret.
    pub secret: Token,
    /// Its id.
    pub id: ApiTokenId,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// When it ends.
    pub expires: Option<DateTime<Utc>>,
}

/// What a device is told that asks for its token.
pub enum DeviceGrant {
    /// This is it.
    Token(DeviceToken),
    /// Not yet: ask again.
    Pending,
    /// The same; not so often.
    SlowDown,
    /// A user has said no.
    Denied,
    /// It waited for too long.
    Expired,
    /// There is no such device, or it was given its token before.
    Invalid,
}

impl App {
    /// A device wants to log in: the codes by which it may.
    ///
    /// # Errors
    ///
    /// `TooManyRequests`: too many wait.
    pub async fn device_request(
        &self,
        wish: DeviceWish,
    ) -> Result<DeviceCodes, Error> {
        let device = Token::device()?;
        for _ in 0..CODE_TRIES {
            let user = user_code()?;
            let new = NewDeviceRequest {
                client_id: wish.client_id,
                device_code_hash: device.hash(),
                user_code: user.clone(),
                ttl_secs: wish.ttl_secs.map(i64::from),
            };
            let kept = self
                .datastore
                .device_request_insert(new, LIFE, WAITING_MAX)
                .await;
            match kept {
                Err(db_queries::Error::AlreadyExists) => (),
                Err(error) => return Err(error.into()),
                Ok(false) => {
                    return Err(Error::TooManyRequests {
                        message: "Too many devices wait to be confirmed. \
                                  Nothing was done. Ask again in a minute."
                            .to_owned(),
                        retry_after_secs: 60,
                    });
                }
                Ok(true) => {
                    let (life, interval_secs) = (LIFE, INTERVAL_SECS);
                    return Ok(DeviceCodes {
                        device,
                        user,
                        life,
                        interval_secs,
                    });
                }
            }
        }
        Err(Error::internal("all codes that were tried are taken"))
    }

    /// A device asks for its token.
    ///
    /// *Idempotency*: whoever asks again within a minute, since the answer was
    /// lost, is given the same token again.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn device_token(
        &self,
        client_id: Uuid,
        device_code: &str,
    ) -> Result<DeviceGrant, Error> {
        let device = Token::shown(device_code);
        let hash = device.hash();
        let again = Token::shown(device_code);
        let poll = self
            .datastore
            .device_request_poll(client_id, hash, POLLING, move |request| {
                again.of_device(request).hash()
            })
            .await?;
        Ok(match poll {
            DevicePoll::Unknown | DevicePoll::Used => DeviceGrant::Invalid,
            DevicePoll::Pending => DeviceGrant::Pending,
            DevicePoll::TooSoon => DeviceGrant::SlowDown,
            DevicePoll::Denied => DeviceGrant::Denied,
            DevicePoll::Expired => DeviceGrant::Expired,
            DevicePoll::Token { request, id, made, expires } => {
                let secret = device.of_device(request);
                DeviceGrant::Token(DeviceToken { secret, id, made, expires })
            }
        })
    }

    /// The device that waits under this code, and how long its token may be
    /// good at most, in seconds, for the caller.
    ///
    /// # Errors
    ///
    /// `NotThere`: none waits; `TooManyRequests`: the caller guesses.
    pub async fn device_view(
        &self,
        opctx: &OpContext,
        code: &UserCode,
    ) -> Result<(DeviceRequest, Option<i64>), Error> {
        opctx.authorize(Action::Change, opctx.oneself(), "let a device in")?;
        self.guess_code(opctx)?;
        let row = self.datastore.device_request_view(code.clone()).await;
        let row = row.map_err(|error| no_code(error, code))?;
        self.user_codes.right(&opctx.user_id);
        let (_, silo) = self.datastore.silo_user_view(opctx.user_id).await?;
        Ok((row, silo.device_token_max_ttl_secs))
    }

    /// Lets the device that waits under this code in, as the caller.
    ///
    /// # Errors
    ///
    /// `NotThere`: none waits; `InvalidRequest`: it wants a token for longer
    /// than the caller may give; `TooManyRequests`: the caller guesses.
    pub async fn device_confirm(
        &self,
        opctx: &OpContext,
        code: &UserCode,
    ) -> Result<(), Error> {
        opctx.authorize(Action::Change, opctx.oneself(), "let a device in")?;
        self.guess_code(opctx)?;
        let (user, shown) = (opctx.user_id, opctx.credential);
        let confirmed = self
            .datastore
            .device_request_confirm(
                code.clone(),
                user,
                (shown.method, shown.id),
            )
            .await?;
        match confirmed {
            DeviceConfirmed::NoCode => {
                Err(no_code(db_queries::Error::NotFound, code))
            }
            DeviceConfirmed::LoggedOut => Err(Error::Unauthenticated),
            DeviceConfirmed::Yes => {
                self.user_codes.right(&user);
                Ok(())
            }
            DeviceConfirmed::TooLong(secs) => {
                self.user_codes.right(&user);
                Err(Error::InvalidRequest {
                    message: format!(
                        "the device wants a token for longer than you may give \
                         it: at most {secs} seconds. Let it ask again for less, \
                         or for no time in particular, by leaving out \
                         \"ttl_seconds\""
                    ),
                })
            }
        }
    }

    /// Keeps the device that waits under this code out.
    ///
    /// # Errors
    ///
    /// `NotThere`: none waits; `TooManyRequests`: the caller guesses.
    pub async fn device_deny(
        &self,
        opctx: &OpContext,
        code: &UserCode,
    ) -> Result<(), Error> {
        opctx.authorize(
            Action::Change,
            opctx.oneself(),
            "keep a device out",
        )?;
        self.guess_code(opctx)?;
        let denied = self.datastore.device_request_deny(code.clone()).await;
        denied.map_err(|error| no_code(error, code))?;
        self.user_codes.right(&opctx.user_id);
        Ok(())
    }

    fn guess_code(&self, opctx: &OpContext) -> Result<(), Error> {
        self.user_codes.guess(opctx.user_id).map_err(|wait| {
            let secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            Error::TooManyRequests {
                message: "There were too many wrong codes. Nothing was tried. \
                          Wait, and try again."
                    .to_owned(),
                retry_after_secs: secs.saturating_add(1),
            }
        })
    }
}

fn no_code(error: db_queries::Error, code: &UserCode) -> Error {
    let db_queries::Error::NotFound = error else { return error.into() };
    Error::NotThere {
        message: format!(
            "no device waits under the code \"{code}\": it may have been \
             mistyped, or be too old, or have been used"
        ),
    }
}

fn user_code() -> Result<UserCode, Error> {
    // They nearly always suffice: one in sixteen is thrown away.
    let mut bytes = [0_u8; 16];
    loop {
        getrandom::fill(&mut bytes).map_err(Error::internal)?;
        if let Some(code) = UserCode::from_random(&bytes) {
            return Ok(code);
        }
    }
}
