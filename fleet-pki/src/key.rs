//! A private key of a member.

use crate::PkiError;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SubjectPublicKeyInfo,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};

/// The public key that [`Key::public_key_pem`] wrote, as
/// SubjectPublicKeyInfo in DER: one that can be signed.
///
/// # Errors
///
/// The text holds none.
pub fn public_key(pem: &str) -> Result<Vec<u8>, PkiError> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes());
    let key = key.map_err(|_| PkiError::NoPem("public key"))?;
    check(key.as_ref())?;
    Ok(key.as_ref().to_vec())
}

/// The key, if it is one of ours.
pub(crate) fn check(der: &[u8]) -> Result<SubjectPublicKeyInfo, PkiError> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(key) if key.algorithm() == &PKCS_ECDSA_P256_SHA256 => Ok(key),
        Ok(_) | Err(_) => Err(PkiError::NotOurKind),
    }
}

/// A P-256 key pair. Without `Debug`, so that it is in no log.
pub struct Key(KeyPair);

impl Key {
    /// A new key.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate() -> Result<Key, PkiError> {
        Ok(Key(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// The key that [`Key::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// The text holds no such key.
    pub fn from_pem(pem: &str) -> Result<Key, PkiError> {
        let key = KeyPair::from_pem(pem)?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::NotOurKind);
        }
        Ok(Key(key))
    }

    /// As PKCS #8, in PEM: to be kept from everybody.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Its public half, as SubjectPublicKeyInfo in DER: for everybody.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The same, in PEM.
    pub fn public_key_pem(&self) -> String {
        self.0.public_key_pem()
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.0
    }
}
