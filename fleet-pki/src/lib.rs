//! The fleet's own certificates, and TLS by nothing but them.
//!
//! ```text
//! Authority  signs, for a public key, that it is the key of a Peer
//! Trust      whose signatures count
//! Credentials = a key, its certificate, and a Trust: one member's, and alive
//!               (they are renewed while the process runs)
//! ```
//!
//! A member is known by the one URI in its certificate ([`Peer`]), never by an
//! address or a host name: hosts move, and certificates need not know it.
//! There is no revocation list. Certificates are short-lived instead, and who
//! was removed gets no new one.
//!
//! Everything here is TLS 1.3, with no session kept for later: each connection
//! is checked whole.

mod authority;
mod credentials;
mod dir;
mod key;
mod peer;
mod public;
mod tls;
mod trust;

pub use authority::{Authority, OPERATOR_LIFE, SERVER_LIFE, SLED_LIFE};
pub use credentials::Credentials;
pub use dir::{DirError, load, make_or_load};
pub use key::{Key, public_key};
pub use peer::{NotAPeer, Peer};
pub use public::PublicCertificate;
pub use tls::{
    client_config, first_contact_client_config, first_contact_server_config,
    public_server_config, server_config,
};
pub use trust::Trust;

/// Why something is no certificate, or none can be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// It is no PEM text with what it should have in it.
    #[error("no {0} in the PEM text")]
    NoPem(&'static str),
    /// The key is none that this fleet uses.
    #[error("the public key is no P-256 key in DER")]
    NotOurKind,
    /// The authority's key fits none of its certificates.
    #[error("the key and the certificate do not belong together")]
    Mismatch,
    /// The maker of certificates refused.
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// The certificate or the key cannot be used in TLS.
    #[error("the certificate cannot be used")]
    Use(#[from] rustls::Error),
}
