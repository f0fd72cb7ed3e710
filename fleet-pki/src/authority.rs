//! The one that signs certificates: a key, and a certificate of its own that
//! all members know.

use crate::{Credentials, Key, Peer, PkiError, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::time::{Duration, SystemTime};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Far beyond a fleet's hardware. What ends it earlier is its rotation.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// Of a sled's certificate. Renewed at half of it, a sled may be off, or the
/// fleet without a Nexus, for six weeks before somebody has to do something. It
/// is also for how long a stolen one is good at most.
pub const SLED_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Of a Nexus's own certificate. It makes one at each start, and the next in
/// time; nothing else has to be there for that.
pub const SERVER_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Of a certificate that an operator gave to a program which has no way to
/// renew it.
pub const OPERATOR_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Clocks in a fleet differ by less.
const CLOCKS_APART: Duration = HOUR;

/// The fleet's certificate authority. Without `Debug`: it holds its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    trust: Trust,
}

impl Authority {
    /// The certificate, in PEM, of an authority with this key: signed by
    /// itself, now.
    ///
    /// # Errors
    ///
    /// None that is expected.
    pub fn certificate(key: &Key) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "Nexus fleet CA");
        params.distinguished_name = name;
        // It signs members, and nobody who could sign others.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let now = SystemTime::now();
        params.not_before = (now - DAY).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        let pair = KeyPair::from_pem(&key.to_pem())?;
        Ok(params.self_signed(&pair)?.pem())
    }

    /// An authority that signs with `key`, by the certificates of `pem`. Those
    /// there that are of other keys are trusted too: see the rotation in
    /// `docs/operations.md`.
    ///
    /// # Errors
    ///
    /// There is no certificate, or none is of this key.
    pub fn new(pem: &str, key: Key) -> Result<Authority, PkiError> {
        let trust = Trust::from_pem(pem)?;
        let own = trust.of_key(&key.public_key());
        let own = own.ok_or(PkiError::Mismatch)?.clone();
        let issuer = Issuer::from_ca_cert_der(&own, key.into_pair())?;
        Ok(Authority { issuer, trust })
    }

    /// Whose signatures count in this fleet.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A certificate, in PEM, that says that who has the key to `public_key`
    /// (SubjectPublicKeyInfo, DER) is `peer`, for so long from now.
    ///
    /// *Idempotency*: another one each time, and all of them are good.
    ///
    /// # Errors
    ///
    /// `NotOurKind`: it is no P-256 key.
    pub fn issue(
        &self,
        peer: Peer,
        public_key: &[u8],
        life: Duration,
    ) -> Result<String, PkiError> {
        let public_key = crate::key::check(public_key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = peer.to_string().try_into()?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        if let Some(name) = peer.host_name() {
            let name = SanType::DnsName(name.try_into()?);
            params.subject_alt_names.push(name);
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match peer {
            Peer::Nexus | Peer::Sled(_) => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Peer::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - CLOCKS_APART).into();
        params.not_after = (now + life).into();
        Ok(params.signed_by(&public_key, &self.issuer)?.pem())
    }

    /// New credentials, of a new key that nobody else gets to see.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn credentials(
        &self,
        peer: Peer,
        life: Duration,
    ) -> Result<Credentials, PkiError> {
        let key = Key::generate()?;
        let certificate = self.issue(peer, &key.public_key(), life)?;
        Credentials::new(&certificate, &key, self.trust.clone())
    }
}
