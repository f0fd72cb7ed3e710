//! One HTTP request and what came of it: what both clients share.

use crate::error::Unreachable;
use crate::{RECOVERING, Secret, Timeouts, WRONG_SLED};
use dropshot::HttpErrorResponseBody;
use fleet_pki::{Credentials, Peer};
use http::StatusCode;
use reqwest::{RequestBuilder, Response};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// What is read of an answer. The longest is the list of a sled's VMMs, of some
/// hundred bytes each.
const BODY_MAX_BYTES: usize = 16 << 20;

/// How long a connection is kept that nobody uses. Less than the 30 s after which
/// the servers of both sides hang up (hyper's, between two requests), so that no
/// request is sent just then.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// An answer that is not the one hoped for.
pub(crate) enum Failure {
    /// We do not know.
    Unreachable(Unreachable),
    /// A 4xx, with its `error_code`.
    Refused { status: StatusCode, code: Option<String>, message: String },
}

/// The HTTP client of a member that shows these credentials, and speaks with
/// `whom` alone.
pub(crate) fn member_client(
    credentials: &Credentials,
    whom: Peer,
    timeouts: Timeouts,
) -> reqwest::Client {
    let tls = fleet_pki::client_config(credentials, whom)
        .expect("TLS 1.3 is what the provider that is named there has");
    http_client(tls, timeouts)
}

/// An HTTP client over this TLS: never without it, no proxy from the
/// environment, no redirects, bounded in time, handshake included.
pub(crate) fn http_client(
    tls: ClientConfig,
    timeouts: Timeouts,
) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.request)
        .pool_idle_timeout(IDLE_MAX)
        .build()
        .expect("TLS is there already, and no proxy or resolver is wanted")
}

/// What a body says.
pub(crate) fn from_json<T: DeserializeOwned>(
    body: &[u8],
) -> Result<T, Unreachable> {
    serde_json::from_slice(body).map_err(Unreachable::Undecodable)
}

/// Sends `request`, and returns the body of a 2xx.
pub(crate) async fn exchange(
    request: RequestBuilder,
    secret: &Secret,
) -> Result<Vec<u8>, Failure> {
    let response = send(request, secret).await?;
    let status = response.status();
    let body = body(response).await?;
    if status.is_success() {
        return Ok(body);
    }
    Err(failure(status, &body))
}

/// Sends `request`, and returns the answer that agrees to speak another
/// protocol.
pub(crate) async fn upgrade(
    request: RequestBuilder,
    secret: &Secret,
) -> Result<Response, Failure> {
    let response = send(request, secret).await?;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    Err(failure(status, &body(response).await?))
}

async fn send(
    request: RequestBuilder,
    secret: &Secret,
) -> Result<Response, Failure> {
    request.bearer_auth(secret.expose()).send().await.map_err(cut_off)
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(cut_off)? {
        body.extend_from_slice(&part);
        if body.len() > BODY_MAX_BYTES {
            let why = Unreachable::TooLong(BODY_MAX_BYTES);
            return Err(Failure::Unreachable(why));
        }
    }
    Ok(body)
}

fn cut_off(error: reqwest::Error) -> Failure {
    Failure::Unreachable(Unreachable::Exchange(error))
}

/// What an answer other than a 2xx means. Only a 4xx that says what it is
/// can be a refusal; 408 and 429 are the server being busy.
fn failure(status: StatusCode, body: &[u8]) -> Failure {
    let (code, message) =
        match serde_json::from_slice::<HttpErrorResponseBody>(body) {
            Ok(body) => (body.error_code, body.message),
            Err(_) => (None, "an answer without a message".to_string()),
        };
    let busy = status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS;
    if code.as_deref() == Some(WRONG_SLED) {
        return Failure::Unreachable(Unreachable::WrongSled(message));
    }
    if status.is_client_error() && !busy && code.as_deref() != Some(RECOVERING)
    {
        return Failure::Refused { status, code, message };
    }
    Failure::Unreachable(Unreachable::Status {
        status: status.as_u16(),
        message,
    })
}
