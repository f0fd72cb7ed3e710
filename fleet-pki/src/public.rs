//! What a server shows to the world: a certificate that some other authority
//! made, for a host name that users know.

use crate::PkiError;
use crate::trust::{certificates, provider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A certificate and its key. Clones are the same: what replaces one replaces
/// all, from the next connection on.
#[derive(Clone)]
pub struct PublicCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl PublicCertificate {
    /// The certificate (PEM, with those between it and its authority) and the
    /// key to it (PEM), of any kind that TLS knows.
    ///
    /// # Errors
    ///
    /// They are none, or do not belong together.
    pub fn new(
        certificate: &str,
        key: &str,
    ) -> Result<PublicCertificate, PkiError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| PkiError::NoPem("private key"))?;
        let shown = CertifiedKey::from_der(chain, key, &provider())?;
        Ok(PublicCertificate(Arc::new(RwLock::new(Arc::new(shown)))))
    }

    /// Takes the place of what was shown so far.
    pub fn replace(&self, new: &PublicCertificate) {
        let new = new.now();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn now(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicCertificate(..)")
    }
}

impl ResolvesServerCert for PublicCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}
