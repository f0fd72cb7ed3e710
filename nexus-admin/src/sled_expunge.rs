//! `sled expunge`: a host is off for good. Through a live Nexus, which ends
//! what ran there.

use crate::confirm::confirm;
use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::report::Report;
use crate::words::set_in;
use db_model::{LeaseState, SledId, SledPolicy};
use fleet_pki::{Credentials, Peer};
use nexus::config::Config;
use nexus::error::chain;
use serde::Serialize;
use sled_agent_client::{NexusClient, NexusError, Secret, Timeouts};
use std::net::SocketAddr;
use std::time::Duration;

/// Leases looked at for one that lives; those come first.
const LEASES: i64 = 100;

/// Longer than asking takes.
const OPERATOR_FOR: Duration = Duration::from_secs(10 * 60);

/// What `sled expunge` answers.
#[derive(Serialize)]
pub(crate) struct Expunged {
    id: SledId,
    serial: String,
}

/// Expunges a sled, once it is confirmed by its serial.
pub(crate) async fn expunge(
    database: &Database,
    id: SledId,
    nexus: Option<&str>,
    yes: bool,
) -> Result<Expunged, Failure> {
    let Some(config) = &database.config else {
        return Err(Failure::wrongly_asked(
            "a Nexus is asked to expunge a sled, and only who has the fleet's \
             secret and its CA may ask: give --config FILE, which names them",
        ));
    };
    let sled = database.datastore.sled_view(id).await;
    let sled = sled.map_err(missing(format!(
        "there is no sled {id}: `nexus-admin sled list` shows those that there \
         are"
    )))?;
    let secret = Secret::from_file(config.sled_secret_file.as_std_path())
        .map_err(|error| {
            let file = &config.sled_secret_file;
            Failure::failed(format!("{file}: {}", chain(&error)))
        })?;
    let credentials = operator(config)?;
    let urls = match nexus {
        Some(url) if !url.starts_with("https://") => {
            return Err(Failure::wrongly_asked(format!(
                "--nexus {url}: an internal API is at https://IP:PORT alone"
            )));
        }
        Some(url) => vec![url.to_string()],
        None => live(database).await?,
    };
    let again = match sled.policy {
        SledPolicy::InService => "",
        SledPolicy::Expunged => "It is expunged already; again is as good.\n",
    };
    let about = format!(
        "Sled {id} (serial {}, agent at {}) is to be expunged.\n{again}This \
         says that the host is off and never comes back under this id. \
         Whatever ran there counts as ended, and may be started elsewhere at \
         once: if the host is not off, an instance may run twice. There is no \
         way back.\n",
        sled.serial, sled.address,
    );
    confirm(&about, "serial", &sled.serial, yes)?;
    NexusClient::new(&urls, secret, &credentials, Timeouts::default())
        .sled_expunge(id.0)
        .await
        .map_err(|error| refused(&error, &urls))?;
    Ok(Expunged { id, serial: sled.serial })
}

/// What an operator shows, for as long as this takes.
fn operator(config: &Config) -> Result<Credentials, Failure> {
    let authority = fleet_pki::load(config.pki_dir.as_std_path())
        .map_err(|error| Failure::failed(chain(&error)))?;
    authority
        .credentials(Peer::Operator, OPERATOR_FOR)
        .map_err(|error| Failure::failed(chain(&error)))
}

/// Where the internal APIs of the Nexuses that live are.
async fn live(database: &Database) -> Result<Vec<String>, Failure> {
    let now = database.datastore.database_time().await?;
    let leases = database.datastore.lease_list(LEASES).await?;
    let urls: Vec<String> = leases
        .into_iter()
        .filter(|lease| lease.state(now) == LeaseState::Live)
        .filter_map(|lease| lease.internal_address.parse().ok())
        .map(|address: SocketAddr| format!("https://{address}"))
        .collect();
    if urls.is_empty() {
        return Err(Failure::failed(
            "no Nexus lives, and a sled is expunged by one: start one, or name \
             one with --nexus URL",
        ));
    }
    Ok(urls)
}

fn refused(error: &NexusError, urls: &[String]) -> Failure {
    match error {
        NexusError::Unreachable(_) => Failure::failed(format!(
            "{} ({}). Whether the sled is expunged, `nexus-admin sled list` \
             shows; to ask again does no harm",
            chain(error),
            urls.join(", "),
        )),
        NexusError::SledUnknown => Failure::wrongly_asked(chain(error)),
        NexusError::NoSuchVmm | NexusError::Refused { .. } => {
            Failure::failed(chain(error))
        }
    }
}

impl Report for Expunged {
    fn text(&self) -> String {
        let text = format!(
            "Sled {} (serial {}) is expunged. Its VMMs end within seconds, \
             abandoned ones too; their instances fail, and those that may be \
             restarted are started elsewhere.",
            self.id, self.serial
        );
        set_in(&text, 0)
    }
}
