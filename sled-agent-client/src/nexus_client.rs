//! The sled's side: telling Nexus.

use crate::error::Unreachable;
use crate::exchange::{Failure, exchange, from_json, member_client};
use crate::membership::{CertificateIssued, CertificateRequest};
use crate::nexus_types::{SledRegistration, SledStatus};
use crate::{NO_SUCH_VMM, SLED_UNKNOWN, Secret, Timeouts, VmmReport};
use fleet_pki::{Credentials, Peer};
use http::StatusCode;
use reqwest::Method;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

/// Why Nexus did not take what it was told.
#[derive(Debug, thiserror::Error)]
pub enum NexusError {
    /// None of the Nexuses gave an answer that says anything.
    #[error("no answer from Nexus")]
    Unreachable(#[source] Unreachable),
    /// This sled has to register first.
    #[error("Nexus does not know this sled")]
    SledUnknown,
    /// No VMM has this id, and none ever will: a definite answer.
    #[error("Nexus knows no such VMM")]
    NoSuchVmm,
    /// One of the two is wrong, in its code or its configuration (401: its
    /// secret).
    #[error("Nexus refused (HTTP {status}): {message}")]
    Refused {
        /// The HTTP status, a 4xx.
        status: u16,
        /// What Nexus said.
        message: String,
    },
}

impl NexusError {
    /// What there is to say before the first was asked.
    pub(crate) fn none_to_ask() -> NexusError {
        NexusError::Unreachable(Unreachable::Status {
            status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            message: "no Nexus to ask".to_string(),
        })
    }
}

/// Tells Nexus, over its internal API. Cheap to clone.
///
/// It knows several Nexuses, stays with one while that one answers, and asks
/// each of them once per call at most. Every call is idempotent.
#[derive(Clone, Debug)]
pub struct NexusClient {
    bases: Arc<[String]>,
    /// Where among `bases` the last answer came from.
    current: Arc<AtomicUsize>,
    secret: Secret,
    http: reqwest::Client,
}

impl NexusClient {
    /// A client for the Nexuses whose internal APIs are at `urls` (`https://…`),
    /// of one who shows these credentials. Opens no connection yet; whoever
    /// else is found there, by their certificate, is not spoken with.
    pub fn new(
        urls: &[String],
        secret: Secret,
        credentials: &Credentials,
        timeouts: Timeouts,
    ) -> Self {
        let bases =
            urls.iter().map(|url| url.trim_end_matches('/').to_string());
        Self {
            bases: bases.collect(),
            current: Arc::new(AtomicUsize::new(0)),
            secret,
            http: member_client(credentials, Peer::Nexus, timeouts),
        }
    }

    /// Says that this sled is there, and what it has.
    pub async fn sled_put(
        &self,
        sled_id: Uuid,
        sled: &SledRegistration,
    ) -> Result<SledStatus, NexusError> {
        let path = format!("/sleds/{sled_id}");
        let answer = self.ask(Method::PUT, &path, Some(sled)).await?;
        from_json(&answer).map_err(NexusError::Unreachable)
    }

    /// Says that this sled is still there.
    ///
    /// *Errors*: [`NexusError::SledUnknown`].
    pub async fn sled_heartbeat(
        &self,
        sled_id: Uuid,
        sled: &SledRegistration,
    ) -> Result<SledStatus, NexusError> {
        let path = format!("/sleds/{sled_id}/heartbeat");
        let answer = self.ask(Method::POST, &path, Some(sled)).await?;
        from_json(&answer).map_err(NexusError::Unreachable)
    }

    /// Says what a VMM is doing. An older report than Nexus has is taken and
    /// changes nothing.
    ///
    /// *Errors*: [`NexusError::NoSuchVmm`].
    pub async fn vmm_put(
        &self,
        sled_id: Uuid,
        report: &VmmReport,
    ) -> Result<(), NexusError> {
        let path = format!("/sleds/{sled_id}/vmms/{}", report.vmm_id);
        self.ask(Method::PUT, &path, Some(report)).await?;
        Ok(())
    }

    /// Asks for another certificate of this sled's.
    ///
    /// *Idempotency*: another one each time, and all of them are good.
    ///
    /// *Errors*: [`NexusError::Refused`]: the sled was removed from the fleet.
    pub async fn sled_certificate(
        &self,
        sled_id: Uuid,
        request: &CertificateRequest,
    ) -> Result<CertificateIssued, NexusError> {
        let path = format!("/sleds/{sled_id}/certificate");
        let answer = self.ask(Method::POST, &path, Some(request)).await?;
        from_json(&answer).map_err(NexusError::Unreachable)
    }

    /// Says that a sled is off, and for good. For operators.
    ///
    /// *Errors*: [`NexusError::SledUnknown`].
    pub async fn sled_expunge(&self, sled_id: Uuid) -> Result<(), NexusError> {
        let path = format!("/sleds/{sled_id}/expunge");
        self.ask(Method::POST, &path, None::<&()>).await?;
        Ok(())
    }

    /// Asks one Nexus after the other until one says anything.
    async fn ask<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Vec<u8>, NexusError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut nothing = NexusError::none_to_ask();
        let turns = self.bases.iter().enumerate().cycle().skip(first);
        for (at, base) in turns.take(self.bases.len()) {
            let mut request =
                self.http.request(method.clone(), format!("{base}{path}"));
            if let Some(body) = body {
                request = request.json(body);
            }
            match exchange(request, &self.secret).await {
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Unreachable(why)) => {
                    nothing = NexusError::Unreachable(why);
                }
                Err(Failure::Refused { status, code, message }) => {
                    self.current.store(at, Ordering::Relaxed);
                    let code = code.unwrap_or_default();
                    return Err(refused(status, &code, message));
                }
            }
        }
        Err(nothing)
    }
}

pub(crate) fn refused(
    status: StatusCode,
    code: &str,
    message: String,
) -> NexusError {
    match (status, code) {
        (StatusCode::NOT_FOUND, SLED_UNKNOWN) => NexusError::SledUnknown,
        (StatusCode::NOT_FOUND, NO_SUCH_VMM) => NexusError::NoSuchVmm,
        _ => NexusError::Refused { status: status.as_u16(), message },
    }
}
