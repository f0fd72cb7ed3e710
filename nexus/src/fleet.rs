//! The fleet as this Nexus is a member of it: the authority that it has a copy
//! of, the secret that all others are made of, and its own certificate.

use crate::config::Config;
use crate::error::Error;
use chrono::{TimeDelta, Utc};
use db_model::SledId;
use fleet_pki::{
    Authority, Credentials, DirError, Peer, PkiError, SERVER_LIFE, SLED_LIFE,
};
use sha2::{Digest, Sha256};
use sled_agent_client::{CertificateIssued, Secret, SecretError};
use std::fmt;
use std::sync::Arc;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    authority: Arc<Authority>,
    secret: Secret,
    credentials: Credentials,
}

/// Why this is no member of a fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The authority is not to be had.
    #[error("the fleet's CA cannot be used")]
    Authority(#[from] DirError),
    /// The secret is not to be had.
    #[error("the fleet's secret cannot be used")]
    Secret(#[from] SecretError),
    /// It gives no certificate.
    #[error("the fleet's CA makes no certificate")]
    Certificate(#[from] PkiError),
}

/// A sled's public key, known to be one that can be signed.
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key that a request holds, in PEM.
    ///
    /// # Errors
    ///
    /// `InvalidValue`: it is none.
    pub fn read(pem: &str) -> Result<PublicKey, Error> {
        let key = fleet_pki::public_key(pem).map_err(|_| {
            let right =
                "it must be a P-256 key, as SubjectPublicKeyInfo in PEM";
            Error::invalid_value("public_key", right)
        })?;
        Ok(PublicKey(key))
    }

    /// By what it is known again, however it was written down.
    pub fn hash(&self) -> String {
        Sha256::digest(&self.0).iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fleet(..)")
    }
}

impl Fleet {
    /// The fleet whose authority and secret a configuration names.
    ///
    /// # Errors
    ///
    /// See [`FleetError`].
    pub fn open(config: &Config) -> Result<Fleet, FleetError> {
        let secret = Secret::from_file(config.sled_secret_file.as_std_path())?;
        let authority = fleet_pki::load(config.pki_dir.as_std_path())?;
        Ok(Fleet::new(authority, secret)?)
    }

    /// The fleet of this authority and this secret.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn new(
        authority: Authority,
        secret: Secret,
    ) -> Result<Fleet, PkiError> {
        let credentials = authority.credentials(Peer::Nexus, SERVER_LIFE)?;
        Ok(Fleet { authority: Arc::new(authority), secret, credentials })
    }

    /// What this process shows, and whom it believes.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What sleds' secrets are made of, and what an operator shows.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// From here on this process shows a new certificate, of a new key.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give. The old one stays.
    pub fn renew(&self) -> Result<(), PkiError> {
        let new = self.authority.credentials(Peer::Nexus, SERVER_LIFE)?;
        self.credentials.replace(&new);
        Ok(())
    }

    /// A certificate for a sled, whose public key that is.
    ///
    /// # Errors
    ///
    /// None that is expected.
    pub fn issue(
        &self,
        sled: SledId,
        public_key: &PublicKey,
    ) -> Result<CertificateIssued, Error> {
        let certificate = self
            .authority
            .issue(Peer::Sled(sled.0), &public_key.0, SLED_LIFE)
            .map_err(Error::internal)?;
        let now = Utc::now();
        let life = TimeDelta::from_std(SLED_LIFE).map_err(Error::internal)?;
        Ok(CertificateIssued {
            certificate,
            ca: self.authority.trust().pem().to_owned(),
            time_renew: now + life / 2,
            time_expires: now + life,
        })
    }
}
