//! The sled's membership of its fleet: how it gets it, and how it keeps it.
//!
//! Without one nothing is served and nothing is told: the agent joins first,
//! with a key that it makes and keeps before it shows the token, so that a
//! token whose answer is lost, or that a crash takes from us, is as good with
//! the next try. At half of its life the certificate is replaced, with a new
//! key, while everything runs.

use crate::config::Config;
use crate::logger::chain;
use crate::store::Store;
use camino::Utf8Path;
use chrono::{DateTime, Utc};
use fleet_pki::{Credentials, Key, PkiError, Trust};
use serde::{Deserialize, Serialize};
use sled_agent_client::{
    CertificateIssued, CertificateRequest, JoinRequest, Joined, NexusClient,
    NexusError, Secret, SecretError, Timeouts, join,
};
use slog::{Logger, info, warn};
use std::time::Duration;
use uuid::Uuid;

/// Where it is kept, in the data directory.
pub const MEMBERSHIP_FILE: &str = "membership.json";

/// The first wait after no Nexus answered.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// After a renewal that failed: there are weeks for it.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);
/// The longest wait for the time to renew. The clock may be set meanwhile.
const RENEWAL_LOOK: Duration = Duration::from_secs(60 * 60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What stands in [`MEMBERSHIP_FILE`].
#[derive(Clone, Deserialize, Serialize)]
pub struct Membership {
    /// Who this sled is.
    pub sled_id: Uuid,
    /// What it shows with its requests, and asks of who asks it.
    pub secret: String,
    /// Its private key, in PEM.
    pub key: String,
    /// Its certificate.
    #[serde(flatten)]
    pub issued: CertificateIssued,
}

impl Membership {
    /// What to show, and whom to believe, when connecting.
    ///
    /// # Errors
    ///
    /// What is kept makes no sense.
    pub fn credentials(&self) -> Result<Credentials, PkiError> {
        let trust = Trust::from_pem(&self.issued.ca)?;
        let key = Key::from_pem(&self.key)?;
        Credentials::new(&self.issued.certificate, &key, trust)
    }

    /// What to show with requests.
    ///
    /// # Errors
    ///
    /// What is kept makes no sense.
    pub fn secret(&self) -> Result<Secret, SecretError> {
        Secret::new(&self.secret)
    }

    fn of(joined: Joined, key: &Key) -> Membership {
        Membership {
            sled_id: joined.sled_id,
            secret: joined.secret,
            key: key.to_pem(),
            issued: joined.issued,
        }
    }
}

/// The membership that is kept; or else a new one, once a Nexus lets this sled
/// join. `sled_id` is who it was before.
///
/// *Errors*: it may not join, or cannot know how.
pub(crate) async fn membership(
    config: &Config,
    store: &Store,
    sled_id: Option<Uuid>,
    log: &Logger,
) -> Result<Membership, Error> {
    if let Some(kept) = store.membership().await? {
        let is_over = kept.issued.time_expires <= Utc::now();
        if !is_over || config.join.is_empty() {
            if is_over {
                warn!(log, "this sled's certificate has run out, and nobody \
                    will speak with it: let it join again, by a token for \
                    this sled";
                    "sled_id" => %kept.sled_id,
                    "time_expires" => %kept.issued.time_expires);
            }
            return Ok(kept);
        }
    }
    let (Some(token), Some(ca)) = (&config.join_token_file, &config.ca_file)
    else {
        return Err(format!(
            "there is no {MEMBERSHIP_FILE} in {}, so this sled has to join: \
             give --join, --join-token-file (\"nexus-admin sled token \
             issue\" makes one) and --ca-file",
            config.data_dir
        )
        .into());
    };
    let token = Secret::from_file(token.as_std_path())
        .map_err(|error| format!("{token}: {}", chain(&error)))?;
    let trust = Trust::from_pem(&text(ca)?)
        .map_err(|error| format!("{ca}: {}", chain(&error)))?;
    let key = joining_key(store).await?;
    let request = JoinRequest { public_key: key.public_key_pem(), sled_id };
    let joined = joined(&config.join, &trust, &token, &request, log).await?;
    let membership = Membership::of(joined, &key);
    // An answer that makes no sense is found out before it is kept.
    membership.credentials()?;
    membership.secret()?;
    store.put_membership(&membership).await?;
    store.remove_joining_key().await?;
    info!(log, "joined the fleet"; "sled_id" => %membership.sled_id);
    Ok(membership)
}

async fn joining_key(store: &Store) -> Result<Key, Error> {
    if let Some(pem) = store.joining_key().await? {
        return Ok(Key::from_pem(&pem)?);
    }
    let key = Key::generate()?;
    store.put_joining_key(&key.to_pem()).await?;
    Ok(key)
}

/// Asks until somebody says yes or no.
async fn joined(
    urls: &[String],
    trust: &Trust,
    token: &Secret,
    request: &JoinRequest,
    log: &Logger,
) -> Result<Joined, Error> {
    let mut backoff = BACKOFF_MIN;
    loop {
        let times = Timeouts::default();
        match join(urls, trust.clone(), token, request, times).await {
            Ok(joined) => return Ok(joined),
            Err(NexusError::Refused { message, .. }) => {
                return Err(format!("this sled cannot join: {message}").into());
            }
            Err(
                error @ (NexusError::Unreachable(_)
                | NexusError::SledUnknown
                | NexusError::NoSuchVmm),
            ) => {
                warn!(log, "no Nexus lets this sled join yet";
                    "error" => chain(&error));
                tokio::time::sleep(backoff).await;
                backoff = BACKOFF_MAX.min(backoff * 2);
            }
        }
    }
}

fn text(path: &Utf8Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {path}: {error}").into())
}

/// Keeps the certificate from running out.
pub(crate) struct Renewal {
    pub(crate) membership: Membership,
    pub(crate) credentials: Credentials,
    pub(crate) store: Store,
    pub(crate) nexus: NexusClient,
    pub(crate) log: Logger,
}

impl Renewal {
    /// Never returns.
    pub(crate) async fn run(mut self) {
        loop {
            let rest = until(self.membership.issued.time_renew);
            if !rest.is_zero() {
                tokio::time::sleep(rest.min(RENEWAL_LOOK)).await;
                continue;
            }
            if let Err(error) = self.renew().await {
                warn!(self.log, "the certificate is not renewed yet";
                    "time_expires" => %self.membership.issued.time_expires,
                    "error" => chain(&*error));
                tokio::time::sleep(RENEWAL_RETRY).await;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let key = Key::generate()?;
        let request = CertificateRequest { public_key: key.public_key_pem() };
        let sled_id = self.membership.sled_id;
        let issued = self.nexus.sled_certificate(sled_id, &request).await?;
        let key = key.to_pem();
        let next = Membership { key, issued, ..self.membership.clone() };
        let credentials = next.credentials()?;
        // First kept, then shown. Who dies in between shows it after that.
        self.store.put_membership(&next).await?;
        self.credentials.replace(&credentials);
        info!(self.log, "the certificate is renewed";
            "time_expires" => %next.issued.time_expires);
        self.membership = next;
        Ok(())
    }
}

/// How long it is until then; nothing if it has been.
fn until(time: DateTime<Utc>) -> Duration {
    (time - Utc::now()).to_std().unwrap_or(Duration::ZERO)
}
