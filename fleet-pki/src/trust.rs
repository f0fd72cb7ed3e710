//! Whose signatures count, and who a certificate then says somebody is.

use crate::{Peer, PkiError};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// The certificates of a fleet's authority: one, or for the time of its
/// rotation two.
#[derive(Clone, Debug)]
pub struct Trust {
    pem: Arc<str>,
    roots: Arc<[CertificateDer<'static>]>,
}

/// Why a certificate says nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    /// It is of no authority that is trusted here, is not for this use, or is
    /// not of this time.
    #[error("the certificate is not one of this fleet's that is valid now")]
    Chain(#[source] webpki::Error),
    /// It names nobody, or several, or nobody of a fleet.
    #[error("the certificate names no member of a fleet")]
    Name,
}

impl From<Misfit> for Error {
    fn from(misfit: Misfit) -> Error {
        let error = match misfit {
            Misfit::Chain(webpki::Error::CertExpired { .. }) => {
                CertificateError::Expired
            }
            Misfit::Chain(webpki::Error::CertNotValidYet { .. }) => {
                CertificateError::NotValidYet
            }
            Misfit::Chain(webpki::Error::UnknownIssuer) => {
                CertificateError::UnknownIssuer
            }
            Misfit::Chain(_) => CertificateError::BadEncoding,
            Misfit::Name => CertificateError::NotValidForName,
        };
        Error::InvalidCertificate(error)
    }
}

impl Trust {
    /// Trusts the certificates of this text, and no other.
    ///
    /// # Errors
    ///
    /// There is none, or one of them can be nobody's authority.
    pub fn from_pem(pem: &str) -> Result<Trust, PkiError> {
        let roots = certificates(pem)?;
        if roots.iter().any(|root| anchor_from_trusted_cert(root).is_err()) {
            return Err(PkiError::NoPem("certificate of an authority"));
        }
        Ok(Trust { pem: pem.into(), roots: roots.into() })
    }

    /// The text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate of this public key.
    pub(crate) fn of_key(
        &self,
        public_key: &[u8],
    ) -> Option<&CertificateDer<'static>> {
        self.roots.iter().find(|root| has_key(root, public_key))
    }

    /// Who it is that shows this certificate to a server.
    pub(crate) fn client(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, Misfit> {
        self.verify(certificate, chain, now, KeyUsage::client_auth())
    }

    /// Who it is that shows this certificate to a client.
    pub(crate) fn server(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, Misfit> {
        self.verify(certificate, chain, now, KeyUsage::server_auth())
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<Peer, Misfit> {
        let member =
            EndEntityCert::try_from(certificate).map_err(Misfit::Chain)?;
        let anchors: Vec<_> = self
            .roots
            .iter()
            .filter_map(|root| anchor_from_trusted_cert(root).ok())
            .collect();
        member
            .verify_for_usage(
                provider().signature_verification_algorithms.all,
                &anchors,
                chain,
                now,
                usage,
                None,
                None,
            )
            .map_err(Misfit::Chain)?;
        let mut names = member.valid_uri_names();
        match (names.next(), names.next()) {
            (Some(name), None) => name.parse().map_err(|_| Misfit::Name),
            _ => Err(Misfit::Name),
        }
    }
}

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(PkiError::NoPem("certificate")),
    }
}

/// Is it the certificate of this public key (SubjectPublicKeyInfo, DER)?
pub(crate) fn has_key(
    certificate: &CertificateDer<'_>,
    public_key: &[u8],
) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|certificate| {
        certificate.subject_public_key_info().as_ref() == public_key
    })
}

/// The one crypto provider of this crate. Others in the process may use what
/// they like: nothing is installed for all.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
