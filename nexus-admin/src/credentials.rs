//! `credentials`: files by which other programs are let in between machines:
//! what reads the metrics, and `curl` in an operator's hands. Needs no database:
//! it is wanted when there is none.

use crate::failure::Failure;
use crate::report::Report;
use camino::{Utf8Path, Utf8PathBuf};
use db_model::SledId;
use fleet_pki::{Authority, Key, OPERATOR_LIFE, Peer};
use nexus::config::Config;
use nexus::error::chain;
use serde::Serialize;
use sled_agent_client::Secret;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

/// For how long an operator may play a Nexus: a piece of work.
const NEXUS_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Who is to be let in where.
#[derive(clap::Subcommand)]
pub(crate) enum For {
    /// To read the metrics of all Nexuses, for a year
    Metrics {
        /// Where to put the files: a directory that is not there yet
        #[arg(value_name = "DIR")]
        dir: Utf8PathBuf,
    },
    /// To ask a sled-agent what Nexus asks, for a day
    Sled {
        /// The sled's id
        id: SledId,
        /// Where to put the files: a directory that is not there yet
        #[arg(value_name = "DIR")]
        dir: Utf8PathBuf,
    },
}

/// What was written.
#[derive(Serialize)]
pub(crate) struct Written {
    dir: Utf8PathBuf,
    /// The host name that the server's certificate has.
    server_name: String,
}

/// Writes a certificate, its key, a secret and the CA's certificate.
pub(crate) fn write(config: &Config, whose: &For) -> Result<Written, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::failed(chain(error))
    };
    let authority = fleet_pki::load(config.pki_dir.as_std_path())
        .map_err(|error| failed(&error))?;
    let file = &config.sled_secret_file;
    let fleet = Secret::from_file(file.as_std_path())
        .map_err(|e| Failure::failed(format!("{file}: {}", chain(&e))))?;
    let (dir, peer, life, server, secret) = match whose {
        For::Metrics { dir } => {
            let secret = fleet.of_metrics();
            (dir, Peer::Operator, OPERATOR_LIFE, Peer::Nexus, secret)
        }
        For::Sled { id, dir } => {
            let secret = fleet.of_sled(id.0);
            (dir, Peer::Nexus, NEXUS_FOR, Peer::Sled(id.0), secret)
        }
    };
    let (certificate, key) =
        made(&authority, peer, life).map_err(|error| failed(&error))?;
    DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::failed(format!("{dir}: {error}")))?;
    for (name, text) in [
        ("ca.pem", authority.trust().pem()),
        ("cert.pem", &certificate),
        ("key.pem", &key),
        ("secret", secret.expose()),
    ] {
        put(&dir.join(name), text)?;
    }
    let server_name = server.host_name().unwrap_or_default();
    Ok(Written { dir: dir.clone(), server_name })
}

fn made(
    authority: &Authority,
    peer: Peer,
    life: Duration,
) -> Result<(String, String), fleet_pki::PkiError> {
    let key = Key::generate()?;
    let certificate = authority.issue(peer, &key.public_key(), life)?;
    Ok((certificate, key.to_pem()))
}

fn put(path: &Utf8Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::failed(format!("{path}: {error}")))
}

impl Report for Written {
    fn text(&self) -> String {
        format!(
            "ca.pem, cert.pem, key.pem and secret (a bearer token) are in {}; \
             the server is known as {}\n",
            self.dir, self.server_name
        )
    }
}
