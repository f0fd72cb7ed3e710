//! Login of devices: handlers, and answers as RFC 8628 has them.

use db_model::UserCode;
use dropshot::{
    Body, ClientErrorStatusCode, HttpError, HttpResponseUpdatedNoContent,
};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::extract::{Form, TypedBody};
use super::handler::{Admitted, Request, admitted, of_user};
use super::origin::asked;
use super::types::{
    DeviceAccessTokenGrant, DeviceAccessTokenRequest, DeviceAuthRequest,
    DeviceAuthVerify, DeviceAuthorization,
};
use crate::app::{DeviceGrant, DeviceWish};
use crate::error::Error;

/// The one way in which devices are let in.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The page on which users say which device they mean.
pub(super) const VERIFY: &str = "/device/verify";

/// What the RFCs call what is wrong.
const ERRORS: [&str; 6] = [
    "authorization_pending",
    "slow_down",
    "access_denied",
    "expired_token",
    "invalid_grant",
    "unsupported_grant_type",
];

pub(super) async fn request(
    rqctx: Admitted,
    body: Form<DeviceAuthRequest>,
) -> Result<Response<Body>, HttpError> {
    let DeviceAuthRequest { client_id, ttl_seconds } = body.into_inner()?;
    let ttl_secs = ttl_seconds.map(std::num::NonZeroU32::get);
    let wish = DeviceWish { client_id, ttl_secs };
    let codes = rqctx.context().app.device_request(wish).await?;
    json_answer(&DeviceAuthorization {
        device_code: codes.device.expose().to_owned(),
        user_code: codes.user.to_string(),
        verification_uri: verification_uri(&rqctx),
        expires_in: codes.life.num_seconds(),
        interval: codes.interval_secs,
    })
}

pub(super) async fn token(
    rqctx: Admitted,
    body: Form<DeviceAccessTokenRequest>,
) -> Result<Response<Body>, HttpError> {
    let body = body.into_inner()?;
    if body.grant_type != GRANT_TYPE {
        return Err(refused(
            "unsupported_grant_type",
            format!("grant_type: it must be \"{GRANT_TYPE}\""),
        ));
    }
    let app = &rqctx.context().app;
    let grant = app.device_token(body.client_id, &body.device_code).await?;
    let (error, message) = match grant {
        DeviceGrant::Token(token) => {
            // Nothing was begun: a device asks every five seconds and mostly
            // in vain, and that it was let in has an entry since before.
            let secret = token.secret.expose();
            rqctx.done_by(app.authenticate(secret).await);
            let ends = token.expires;
            return json_answer(&DeviceAccessTokenGrant {
                access_token: token.secret.expose().to_owned(),
                token_type: "bearer",
                token_id: token.id,
                time_expires: ends,
                expires_in: ends.map(|at| (at - token.made).num_seconds()),
            });
        }
        DeviceGrant::Pending => (
            "authorization_pending",
            "no user has let this device in yet: ask again",
        ),
        DeviceGrant::SlowDown => (
            "slow_down",
            "no user has let this device in yet: ask again, and not so often",
        ),
        DeviceGrant::Denied => {
            ("access_denied", "a user has kept this device out")
        }
        DeviceGrant::Expired => (
            "expired_token",
            "the device has waited for too long: let it ask for new codes",
        ),
        DeviceGrant::Invalid => (
            "invalid_grant",
            "no device waits under this device_code and client_id, or it was \
             given its token before, or its user is gone or was logged out: \
             let it ask for new codes",
        ),
    };
    Err(refused(error, message.to_owned()))
}

pub(super) async fn confirm(
    rqctx: Admitted,
    body: TypedBody<DeviceAuthVerify>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let code = user_code(&body.into_inner().user_code)?;
    app.device_confirm(&opctx, &code).await?;
    Ok(HttpResponseUpdatedNoContent())
}

/// The code that somebody typed. What is none is not repeated: it may be
/// something that is kept secret for longer.
pub(super) fn user_code(text: &str) -> Result<UserCode, Error> {
    text.parse().map_err(|why| {
        Error::invalid_value("user_code", format!("this is none: {why}"))
    })
}

/// Runs a device's request, and says what is wrong as the RFCs have it said,
/// beside what all our refusals say.
pub(super) async fn oauth<A>(
    rqctx: Request,
    handler: impl FnOnce(Admitted) -> A + Send + 'static,
) -> Result<Response<Body>, HttpError>
where
    A: Future<Output = Result<Response<Body>, HttpError>> + Send + 'static,
{
    let request_id = rqctx.request_id.clone();
    let refusal = match admitted(rqctx, handler).await {
        Err(refusal) => refusal,
        answer => return answer,
    };
    let code = refusal.error_code.as_deref().unwrap_or_default();
    let status = refusal.status_code.as_status();
    let error = match status {
        _ if ERRORS.contains(&code) => code,
        // Who cannot be served now is not to give up.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            "slow_down"
        }
        _ if status.is_server_error() => "server_error",
        _ => "invalid_request",
    };
    let mut answer = json_answer(&json!({
        "error": error,
        "error_description": refusal.external_message,
        "error_code": code,
        "message": refusal.external_message,
        "request_id": request_id,
    }))?;
    *answer.status_mut() = status;
    if let Some(headers) = refusal.headers {
        answer.headers_mut().extend(*headers);
    }
    Ok(answer)
}

fn refused(error: &str, message: String) -> HttpError {
    let status = ClientErrorStatusCode::BAD_REQUEST;
    HttpError::for_client_error(Some(error.to_owned()), status, message)
}

/// JSON that nobody is to keep.
fn json_answer(body: &impl Serialize) -> Result<Response<Body>, HttpError> {
    let body = serde_json::to_vec(body).map_err(Error::internal)?;
    Ok(Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .header(CACHE_CONTROL, "no-store")
        .body(body.into())
        .map_err(Error::internal)?)
}

/// Where the user finds the page, seen from where the device has found us.
fn verification_uri(rqctx: &Admitted) -> String {
    let tls = rqctx.server.using_tls()
        || rqctx.context().app.session_config().secure_cookie;
    let scheme = if tls { "https" } else { "http" };
    let request = &rqctx.request;
    let here = match asked(request.headers(), request.uri()) {
        Some(here) => here.to_string(),
        None => rqctx.server.local_addr.to_string(),
    };
    format!("{scheme}://{here}{VERIFY}")
}
