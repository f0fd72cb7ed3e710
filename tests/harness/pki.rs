//! The fleet's CA of a test, which all that the test starts belongs to; and
//! members that the test plays.

use crate::SLED_SECRET;
use crate::wait::DEADLINE;
use chrono::{TimeDelta, Utc};
use fleet_pki::{Authority, Credentials, Key, Peer, SLED_LIFE};
use nexus::fleet::Fleet;
use sled_agent::Membership;
use sled_agent_client::{CertificateIssued, Secret};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;
use uuid::Uuid;

/// Its certificate and its key: of one process, as a test is.
static CA: LazyLock<(String, String)> = LazyLock::new(another);

fn another() -> (String, String) {
    let key = Key::generate().unwrap();
    (Authority::certificate(&key).unwrap(), key.to_pem())
}

fn of((certificate, key): &(String, String)) -> Authority {
    Authority::new(certificate, Key::from_pem(key).unwrap()).unwrap()
}

/// The CA.
pub fn authority() -> Authority {
    of(&CA)
}

/// A CA that nobody knows.
pub fn strange_authority() -> Authority {
    of(&another())
}

/// What a member shows, and whom it believes.
pub fn credentials(peer: Peer) -> Credentials {
    authority().credentials(peer, SLED_LIFE).unwrap()
}

/// The fleet, as a Nexus in the test's own process is of it.
pub fn fleet() -> Fleet {
    Fleet::new(authority(), fleet_secret()).unwrap()
}

/// The fleet's secret.
pub fn fleet_secret() -> Secret {
    Secret::new(SLED_SECRET).unwrap()
}

/// The secret of a sled.
pub fn sled_secret(sled: &str) -> String {
    let id: Uuid = sled.parse().unwrap();
    fleet_secret().of_sled(id).expose().to_string()
}

/// Who shows `own`, to `whom` alone.
pub fn http(own: &Credentials, whom: Peer) -> reqwest::Client {
    http_of(fleet_pki::client_config(own, whom).unwrap())
}

/// Who speaks so.
pub fn http_of(tls: rustls::ClientConfig) -> reqwest::Client {
    let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
    http.tls_backend_preconfigured(tls).build().unwrap()
}

/// What a sled is given that has joined.
pub fn membership(sled_id: Uuid) -> Membership {
    let key = Key::generate().unwrap();
    let life = TimeDelta::from_std(SLED_LIFE).unwrap();
    let certificate =
        authority().issue(Peer::Sled(sled_id), &key.public_key(), SLED_LIFE);
    Membership {
        sled_id,
        secret: fleet_secret().of_sled(sled_id).expose().to_string(),
        key: key.to_pem(),
        issued: CertificateIssued {
            certificate: certificate.unwrap(),
            ca: CA.0.clone(),
            time_renew: Utc::now() + life / 2,
            time_expires: Utc::now() + life,
        },
    }
}

/// What a sled-agent is told that is to join by this token: the files are put
/// into `dir`.
pub fn joining(dir: &Path, join: SocketAddr, token: &str) -> Vec<String> {
    let path = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    vec![
        "--join".to_string(),
        format!("https://{join}"),
        "--join-token-file".to_string(),
        path("join-token", token),
        "--ca-file".to_string(),
        path("fleet-ca.pem", &CA.0),
    ]
}

/// The CA as a Nexus has it, and the fleet's secret, for the Nexus of `dir`.
pub(crate) fn give_to_nexus(dir: &Path) {
    std::fs::write(dir.join("sled-secret"), SLED_SECRET).unwrap();
    let pki = dir.join("pki");
    std::fs::create_dir_all(&pki).unwrap();
    std::fs::write(pki.join("ca.pem"), &CA.0).unwrap();
    let key = pki.join("ca-key.pem");
    std::fs::write(&key, &CA.1).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(key, mode).unwrap();
}

/// Has the sled of this directory be a member, as if it had joined, unless it
/// is one.
pub fn give_to_sled(data: &Path) {
    let file = data.join(sled_agent::MEMBERSHIP_FILE);
    if file.exists() {
        return;
    }
    std::fs::create_dir_all(data).unwrap();
    let membership = membership(Uuid::new_v4());
    std::fs::write(file, serde_json::to_vec(&membership).unwrap()).unwrap();
}
