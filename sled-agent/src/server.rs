//! Putting it together: start and stop, in a straight line.

use crate::agent::{Agent, Tools};
use crate::blocks::{self, Blocks};
use crate::capacity::Limits;
use crate::config::Config;
use crate::console::Consoles;
use crate::counters::Counters;
use crate::faults::Faults;
use crate::files;
use crate::heartbeat::Heartbeat;
use crate::http::{Api, Door};
use crate::lease::Lease;
use crate::membership::{Renewal, membership};
use crate::reports::Reports;
use crate::runner::Runner;
use crate::store::{self, Identity, Store};
use crate::test_control::{self, Strings};
use camino::{Utf8Path, Utf8PathBuf};
use dropshot::{
    ApiDescription, ConfigDropshot, ConfigTls, HttpServer, RawTlsConfig,
    ServerBuilder, ServerContext,
};
use fleet_pki::{Peer, server_config};
use serde::{Deserialize, Serialize};
use sled_agent_client::nexus_types::SledRegistration;
use sled_agent_client::{NexusClient, Timeouts, sled_agent_api_mod};
use slog::{Logger, info, o};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long requests under way may take to end when the agent does.
const CLOSING: Duration = Duration::from_secs(1);

const GIB: u64 = 1 << 30;

/// What stands in `DIR/address.json`: where an agent is found, for whoever
/// started it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Addresses {
    /// Who it is.
    pub sled_id: Uuid,
    /// Where its API is.
    pub address: SocketAddr,
    /// Where its strings are pulled, if they may be.
    pub test_control: Option<SocketAddr>,
}

/// An agent at work.
pub struct Server {
    /// Where it is found.
    pub addresses: Addresses,
    api: HttpServer<Arc<Door>>,
    test_control: Option<HttpServer<Arc<Strings>>>,
    address_file: Utf8PathBuf,
    /// Held for as long as the process lives.
    _lock: std::fs::File,
}

/// How long the lock may be held by what an agent that was killed was just about to
/// start: a child that has not become another program yet has all its files open.
const LOCK_TRIES: u32 = 20;
const LOCK_RETRY: Duration = Duration::from_millis(100);

async fn locked(dir: &Utf8Path) -> std::io::Result<std::fs::File> {
    for _ in 1..LOCK_TRIES {
        match store::lock(dir) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            locked => return locked,
        }
    }
    store::lock(dir)
}

impl Server {
    /// Starts an agent: it joins the fleet unless it has, listens, recovers, and
    /// from then on answers and tells Nexus of itself.
    ///
    /// *Errors*: it may not join, it cannot listen, another agent has its directory, or what is
    /// in there cannot be read.
    pub async fn start(config: &Config, log: &Logger) -> Result<Self, Error> {
        let dir = &config.data_dir;
        let lock = locked(dir).await.map_err(|error| {
            format!("cannot lock {dir} (another agent at work?): {error}")
        })?;
        let address_file = dir.join("address.json");
        files::remove(address_file.clone()).await?;
        let store = Store::open(dir).await?;
        let kept = store.identity().await?;
        let before = kept.map(|kept| kept.sled_id);
        let membership = membership(config, &store, before, log).await?;
        let credentials = membership.credentials()?;
        let secret = membership.secret()?;
        let identity = identity(&store, membership.sled_id).await?;
        let incarnation = store.next_incarnation().await?;
        let lease = lease(config).map_err(|error| {
            format!("cannot find out for how long guests may run: {error}")
        })?;
        let log = log.new(o!("sled_id" => identity.sled_id.to_string()));
        let nexus = NexusClient::new(
            &config.nexus,
            secret.clone(),
            &credentials,
            Timeouts::default(),
        );
        let counters = Arc::new(Counters::default());
        let faults = Arc::new(Faults::new());
        let (events, told) = mpsc::unbounded_channel();
        let consoles = Consoles::open(dir.join("consoles")).await?;
        let places = blocks::Settings {
            sled_id: identity.sled_id,
            data_dir: dir,
            store: config.disk_store.as_deref(),
            local_bytes: u64::from(config.storage_gib) * GIB,
        };
        let blocks =
            Blocks::open(&places, log.new(o!("part" => "blocks"))).await?;
        let runner = Runner::open(
            config,
            blocks.places(),
            &limits(config),
            Arc::clone(&counters),
            Arc::clone(&lease),
            events,
            log.new(o!("part" => "hypervisor")),
        )
        .await?;
        let reports = Reports::new(
            identity.sled_id,
            nexus.clone(),
            store.clone(),
            log.new(o!("part" => "reports")),
        );
        let agent = Agent::new(
            &identity,
            limits(config),
            Tools {
                store: store.clone(),
                blocks: Arc::clone(&blocks),
                hypervisor: Arc::clone(&runner.hypervisor),
                reports: Arc::new(reports),
            },
            Arc::clone(&lease),
            log.new(o!("part" => "agent")),
        );
        agent.set_grace(Duration::from_millis(config.grace_ms));
        let api = serve(
            sled_agent_api_mod::api_description::<Api>()?,
            Arc::new(Door {
                agent: Arc::clone(&agent),
                consoles: Arc::new(consoles),
                secret,
                counters: Arc::clone(&counters),
                faults: Arc::clone(&faults),
            }),
            config.listen,
            Some(server_config(&credentials, |peer| peer == Peer::Nexus)?),
            &log,
        )?;
        let hold_recovery = watch::Sender::new(config.hold_recovery);
        let mut recovery_held = hold_recovery.subscribe();
        let test_control = match config.test_control {
            None => None,
            Some(address) => {
                let strings = Strings {
                    agent: Arc::clone(&agent),
                    simulated: runner.simulated.clone(),
                    qemu: runner.qemu.clone(),
                    counters,
                    faults,
                    hold_recovery,
                };
                let api = test_control::api()?;
                Some(serve(api, Arc::new(strings), address, None, &log)?)
            }
        };
        let addresses = Addresses {
            sled_id: identity.sled_id,
            address: api.local_addr(),
            test_control: test_control.as_ref().map(HttpServer::local_addr),
        };
        files::write(address_file.clone(), &addresses).await?;
        info!(log, "listening"; "address" => %addresses.address);

        // An error means that nobody is left to hold it.
        let _ = recovery_held.wait_for(|held| !held).await;
        agent.recover(told).await?;
        tokio::spawn(Arc::clone(&blocks).keep_clear());
        tokio::spawn(Arc::clone(&agent).keep_to_lease());
        let renewal = Renewal {
            membership,
            credentials,
            store,
            nexus: nexus.clone(),
            log: log.new(o!("part" => "renewal")),
        };
        tokio::spawn(renewal.run());
        let heartbeat = Heartbeat {
            agent,
            nexus,
            sled: registration(
                config,
                &addresses,
                &runner,
                blocks.store_id(),
                incarnation,
                &lease,
            ),
            lease,
            period: config.heartbeat_ms.map(Duration::from_millis),
            log: log.new(o!("part" => "heartbeat")),
        };
        tokio::spawn(heartbeat.run());
        Ok(Self { addresses, api, test_control, address_file, _lock: lock })
    }

    /// Stops answering. Guests run on; what is not yet told to Nexus is told
    /// by the next agent.
    pub async fn close(self) {
        let closing = async {
            // One that stays behind misleads nobody for long.
            let _ = files::remove(self.address_file).await;
            let _ = self.api.close().await;
            if let Some(test_control) = self.test_control {
                let _ = test_control.close().await;
            }
        };
        let _ = tokio::time::timeout(CLOSING, closing).await;
    }
}

/// Who this sled is: as its membership says, which must be as it was.
async fn identity(store: &Store, sled_id: Uuid) -> Result<Identity, Error> {
    match store.identity().await? {
        Some(kept) if kept.sled_id != sled_id => Err(format!(
            "this directory belongs to the sled {}, and has joined as {sled_id}",
            kept.sled_id
        )
        .into()),
        Some(kept) => Ok(kept),
        None => {
            let identity = Identity { sled_id, expunged: false };
            store.put_identity(&identity).await?;
            Ok(identity)
        }
    }
}

fn serve<C: ServerContext>(
    api: ApiDescription<C>,
    context: C,
    address: SocketAddr,
    tls: Option<RawTlsConfig>,
    log: &Logger,
) -> Result<HttpServer<C>, Error> {
    let config =
        ConfigDropshot { bind_address: address, ..ConfigDropshot::default() };
    // Dropshot tells of each request at this logger's info level.
    let log = log.new(o!("part" => "http"));
    let server = ServerBuilder::new(api, context, log).config(config);
    Ok(server.tls(tls.map(ConfigTls::Dynamic)).start()?)
}

fn limits(config: &Config) -> Limits {
    Limits {
        vcpus: config.vcpus,
        memory_bytes: u64::from(config.memory_gib) * GIB,
    }
}

fn lease(config: &Config) -> std::io::Result<Arc<Lease>> {
    let promise = match config.fence_after_secs {
        0 => None,
        seconds => Some(Duration::from_secs(seconds.into())),
    };
    Ok(Arc::new(Lease::open(&config.data_dir, promise)?))
}

fn registration(
    config: &Config,
    addresses: &Addresses,
    runner: &Runner,
    disk_store: Uuid,
    incarnation: Uuid,
    lease: &Lease,
) -> SledRegistration {
    let serial = config.serial.clone();
    SledRegistration {
        address: config.advertise.unwrap_or(addresses.address),
        serial: serial.unwrap_or_else(|| {
            format!("{}-{}", runner.serial_prefix, addresses.sled_id)
        }),
        part: runner.part.to_string(),
        revision: 1,
        vcpus: config.vcpus,
        memory_bytes: u64::from(config.memory_gib) * GIB,
        storage_bytes: u64::from(config.storage_gib) * GIB,
        cpu: config.cpu.unwrap_or(runner.cpu),
        disk_store: Some(disk_store),
        incarnation,
        fences_after_ms: lease.promise().map(|promise| {
            u64::try_from(promise.as_millis()).unwrap_or(u64::MAX)
        }),
        // Each heartbeat says it anew.
        vmms: None,
    }
}
