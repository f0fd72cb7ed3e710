//! How a sled becomes a member of the fleet, and stays one:
//!
//! - `POST /join` at Nexus's join address, with a one-time token as the bearer
//!   token and a [`JoinRequest`], answered by [`Joined`]: by who has no
//!   certificate yet;
//! - `POST /sleds/{sled_id}/certificate` at its internal API, with a
//!   [`CertificateRequest`], answered by [`CertificateIssued`].

use crate::exchange::{Failure, exchange, from_json, http_client};
use crate::nexus_client::{NexusError, refused};
use crate::{Secret, Timeouts};
use chrono::{DateTime, Utc};
use fleet_pki::Trust;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a sled says that wants to join.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct JoinRequest {
    /// Its public key: P-256, as SubjectPublicKeyInfo in PEM.
    pub public_key: String,
    /// Who it is, if it was somebody already: then it is to be that sled and
    /// no other.
    #[serde(default)]
    pub sled_id: Option<Uuid>,
}

/// What a sled is given that has joined.
#[derive(Clone, Deserialize, JsonSchema, Serialize)]
pub struct Joined {
    /// Who it is from now on.
    pub sled_id: Uuid,
    /// What it shows with its requests.
    pub secret: String,
    /// What it shows when it connects.
    #[serde(flatten)]
    pub issued: CertificateIssued,
}

/// What a sled says that wants another certificate.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct CertificateRequest {
    /// Its public key: P-256, as SubjectPublicKeyInfo in PEM.
    pub public_key: String,
}

/// A certificate that was made.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct CertificateIssued {
    /// It, in PEM.
    pub certificate: String,
    /// The certificates of the fleet's authority, in PEM: whom to believe.
    pub ca: String,
    /// From when on to ask for the next.
    pub time_renew: DateTime<Utc>,
    /// Until when it is good.
    pub time_expires: DateTime<Utc>,
}

/// Joins the fleet, at whichever of these Nexuses answers first: `urls` are
/// their join addresses (`https://…`). Whoever is none of `trust` is told
/// nothing, not the token either.
///
/// *Idempotency*: the token goes with the first key that it came with. With
/// that one it may be repeated until it expires; the answer is as good as the
/// first.
///
/// *Errors*: [`NexusError::Refused`]: the token is not, or no longer, good for
/// this.
pub async fn join(
    urls: &[String],
    trust: Trust,
    token: &Secret,
    request: &JoinRequest,
    timeouts: Timeouts,
) -> Result<Joined, NexusError> {
    let tls = fleet_pki::first_contact_client_config(trust)
        .expect("TLS 1.3 is what the provider that is named there has");
    let http = http_client(tls, timeouts);
    let mut nothing = NexusError::none_to_ask();
    for url in urls {
        let url = format!("{}/join", url.trim_end_matches('/'));
        match exchange(http.post(url).json(request), token).await {
            Ok(answer) => {
                return from_json(&answer).map_err(NexusError::Unreachable);
            }
            Err(Failure::Unreachable(why)) => {
                nothing = NexusError::Unreachable(why);
            }
            Err(Failure::Refused { status, code, message }) => {
                let code = code.unwrap_or_default();
                return Err(refused(status, &code, message));
            }
        }
    }
    Err(nothing)
}
