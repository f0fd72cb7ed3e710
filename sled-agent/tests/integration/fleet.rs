//! The fleet that the agents of these tests are of: its CA, and members that
//! the test plays.

use chrono::{TimeDelta, Utc};
use fleet_pki::{Authority, Credentials, Key, Peer, SLED_LIFE};
use sled_agent::{MEMBERSHIP_FILE, Membership};
use sled_agent_client::{CertificateIssued, Secret};
use std::path::Path;
use std::sync::LazyLock;
use uuid::Uuid;

/// What every sled of these tests shows, and is shown.
pub(crate) const SECRET: &str = "a-secret-for-tests";

static CA: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = Key::generate().unwrap();
    (Authority::certificate(&key).unwrap(), key.to_pem())
});

pub(crate) fn authority() -> Authority {
    Authority::new(&CA.0, Key::from_pem(&CA.1).unwrap()).unwrap()
}

/// A CA that the agents do not know.
pub(crate) fn strange_authority() -> Authority {
    let key = Key::generate().unwrap();
    let certificate = Authority::certificate(&key).unwrap();
    Authority::new(&certificate, key).unwrap()
}

pub(crate) fn secret() -> Secret {
    Secret::new(SECRET).unwrap()
}

pub(crate) fn credentials(peer: Peer) -> Credentials {
    authority().credentials(peer, SLED_LIFE).unwrap()
}

/// A client of this member, that speaks with `whom` alone.
pub(crate) fn http(own: Peer, whom: Peer) -> reqwest::Client {
    let tls = fleet_pki::client_config(&credentials(own), whom).unwrap();
    let http = reqwest::Client::builder().no_proxy();
    http.tls_backend_preconfigured(tls).build().unwrap()
}

/// What this sled is given when it joins with this key.
pub(crate) fn issued(sled_id: Uuid, public_key: &[u8]) -> CertificateIssued {
    let life = TimeDelta::from_std(SLED_LIFE).unwrap();
    let issued = authority().issue(Peer::Sled(sled_id), public_key, SLED_LIFE);
    CertificateIssued {
        certificate: issued.unwrap(),
        ca: CA.0.clone(),
        time_renew: Utc::now() + life / 2,
        time_expires: Utc::now() + life,
    }
}

/// Has the sled of this directory be a member, unless it is one.
pub(crate) fn join(dir: &Path) {
    let file = dir.join(MEMBERSHIP_FILE);
    if file.exists() {
        return;
    }
    let sled_id = Uuid::new_v4();
    let key = Key::generate().unwrap();
    let membership = Membership {
        sled_id,
        secret: SECRET.to_string(),
        key: key.to_pem(),
        issued: issued(sled_id, &key.public_key()),
    };
    std::fs::write(file, serde_json::to_vec(&membership).unwrap()).unwrap();
}
