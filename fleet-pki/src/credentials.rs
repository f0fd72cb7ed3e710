//! What a member shows, and whom it believes: replaced while it runs.

use crate::trust::{certificates, has_key, provider};
use crate::{Key, PkiError, Trust};
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, pki_types::CertificateDer};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A member's key, its certificate, and whom it trusts. Clones are the same
/// credentials: what replaces one replaces all, from the next connection on.
#[derive(Clone)]
pub struct Credentials(Arc<RwLock<Now>>);

#[derive(Clone)]
struct Now {
    shown: Arc<CertifiedKey>,
    trust: Trust,
}

impl Credentials {
    /// Credentials of `key`, whose certificate (PEM, a chain) that is.
    ///
    /// # Errors
    ///
    /// It is none, or of another key.
    pub fn new(
        certificate: &str,
        key: &Key,
        trust: Trust,
    ) -> Result<Credentials, PkiError> {
        let shown = Arc::new(certified(certificate, key)?);
        Ok(Credentials(Arc::new(RwLock::new(Now { shown, trust }))))
    }

    /// Takes the place of what was shown and believed so far. Connections that
    /// stand stay as they are.
    pub fn replace(&self, new: &Credentials) {
        let new = new.now();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    pub(crate) fn trust(&self) -> Trust {
        self.now().trust
    }

    fn now(&self) -> Now {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().shown)
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.now().shown)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(pem: &str, key: &Key) -> Result<CertifiedKey, PkiError> {
    let chain: Vec<CertificateDer<'static>> = certificates(pem)?;
    let fits = chain.first().is_some_and(|c| has_key(c, &key.public_key()));
    if !fits {
        return Err(PkiError::Mismatch);
    }
    let key = provider().key_provider.load_private_key(key.der())?;
    Ok(CertifiedKey::new(chain, key))
}
