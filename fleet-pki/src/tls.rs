//! What the members of a fleet speak with each other.

use crate::trust::provider;
use crate::{Credentials, Peer, PkiError, PublicCertificate, Trust};
use rustls::client::Resumption;
use rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    Error, PeerIncompatible, ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;

/// All that is spoken: websockets need it, and one protocol is enough.
const HTTP: &[u8] = b"http/1.1";

/// What a server asks of who connects.
type Accepts = fn(Peer) -> bool;

/// A server that shows `own`, and takes connections of those members alone
/// that it `accepts`.
///
/// # Errors
///
/// None that is expected.
pub fn server_config(
    own: &Credentials,
    accepts: Accepts,
) -> Result<ServerConfig, PkiError> {
    let members = Members { own: own.clone(), accepts };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(members))
        .with_cert_resolver(Arc::new(own.clone()));
    Ok(without_memory(config))
}

/// A server that shows `own` to whoever connects: to those who are no members
/// yet.
///
/// # Errors
///
/// None that is expected.
pub fn first_contact_server_config(
    own: &Credentials,
) -> Result<ServerConfig, PkiError> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(own.clone()));
    Ok(without_memory(config))
}

/// A server for the world, that shows what is not of the fleet's authority.
/// Users' programs may be old, so it takes TLS 1.2 too.
///
/// # Errors
///
/// None that is expected.
pub fn public_server_config(
    shown: &PublicCertificate,
) -> Result<ServerConfig, PkiError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown.clone()));
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// A client that shows `own`, and speaks with `whom` and nobody else, wherever
/// that is.
///
/// # Errors
///
/// None that is expected.
pub fn client_config(
    own: &Credentials,
    whom: Peer,
) -> Result<ClientConfig, PkiError> {
    let meant = Meant { trusts: Trusts::As(own.clone()), whom };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(meant))
        .with_client_cert_resolver(Arc::new(own.clone()));
    Ok(without_memory_or_name(config))
}

/// A client that has nothing to show yet, and speaks with a Nexus of this
/// `trust` and nobody else.
///
/// # Errors
///
/// None that is expected.
pub fn first_contact_client_config(
    trust: Trust,
) -> Result<ClientConfig, PkiError> {
    let meant = Meant { trusts: Trusts::This(trust), whom: Peer::Nexus };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(meant))
        .with_no_client_auth();
    Ok(without_memory_or_name(config))
}

/// A session that is taken up again is not checked again.
fn without_memory(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![HTTP.to_vec()];
    config
}

/// The name that was asked for is nothing that anybody goes by.
fn without_memory_or_name(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![HTTP.to_vec()];
    config
}

/// Checks who connects.
struct Members {
    own: Credentials,
    accepts: Accepts,
}

/// Checks who answers.
struct Meant {
    trusts: Trusts,
    whom: Peer,
}

enum Trusts {
    As(Credentials),
    This(Trust),
}

impl Trusts {
    fn now(&self) -> Trust {
        match self {
            Trusts::As(own) => own.trust(),
            Trusts::This(trust) => trust.clone(),
        }
    }
}

fn not_you() -> Error {
    Error::InvalidCertificate(CertificateError::NotValidForName)
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members(..)")
    }
}

impl fmt::Debug for Meant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meant({})", self.whom)
    }
}

impl ClientCertVerifier for Members {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whoever has a certificate has one.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let peer = self.own.trust().client(certificate, chain, now)?;
        if !(self.accepts)(peer) {
            return Err(not_you());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Meant {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let peer = self.trusts.now().server(certificate, chain, now)?;
        if peer != self.whom {
            return Err(not_you());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
