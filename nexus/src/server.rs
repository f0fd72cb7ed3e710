//! A running Nexus, built in a straight line and closed in the reverse.

use crate::app::{App, VIEWS_AT_ONCE};
use crate::background::certificates::Certificates;
use crate::background::reaper::Reaper;
use crate::background::reconciler::{Looks, Reconciler, VISIBILITY};
use crate::background::recovery::Recovery;
use crate::background::retention::Retention;
use crate::background::silence::Silence;
use crate::background::unanswered::Unanswered;
use crate::background::watcher::Watcher;
use crate::background::{self, Activators};
use crate::config::{Config, ConfigError, Limits, SessionConfig, count};
use crate::door::{self, Door, Peers, TooFewFiles};
use crate::error::chain;
use crate::external_tls::{ExternalTls, ExternalTlsError};
use crate::fleet::{Fleet, FleetError};
use crate::http::{
    Admission, ApiContext, Audit, InternalApiImpl, JoinApiImpl, Rates, Sources,
    external_api, front, internal_api, join_api,
};
use crate::lease::Lease;
use crate::logging::of_requests;
use crate::metrics::{Exporter, RequestTimes};
use crate::saga::{SagaExecutor, registry};
use crate::sleds::Sleds;
use crate::web_console::{WebConsole, WebConsoleError};
use db_model::SecId;
use db_queries::{DataStore, MigrateError, PoolSettings, Zombie, migrate};
use dropshot::{
    ConfigDropshot, ConfigTls, HandlerTaskMode, HttpServer, RawTlsConfig,
    ServerBuilder, VersionPolicy,
};
use fleet_pki::{
    PkiError, first_contact_server_config, public_server_config, server_config,
};
use slog::{Logger, error, info, o, warn};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;

/// How long an API may take to close, which ends its requests.
const CLOSE_BOUND: Duration = Duration::from_secs(10);

/// Where an API is within this process to which clients come through a
/// [`Door`].
const WITHIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Between two tries to reach the database at the start.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// A running Nexus.
pub struct Server {
    door: Door,
    external: HttpServer<ApiContext>,
    internal: HttpServer<ApiContext>,
    join: Option<(Door, HttpServer<ApiContext>)>,
    sagas: Arc<SagaExecutor>,
    background: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    lease: Lease,
    stop_lease: watch::Sender<bool>,
    renewing: JoinHandle<()>,
    app: Arc<App>,
    datastore: DataStore,
    zombie: Zombie,
    drain: Duration,
    log: Logger,
}

/// Why there is no Nexus.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema is not this program's.
    #[error("the database cannot be used")]
    Migrate(#[from] MigrateError),
    /// The database refused something else.
    #[error("the database cannot be used")]
    Database(#[from] db_queries::Error),
    /// It must not be served so.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// It is no member of a fleet.
    #[error("this Nexus is no member of a fleet")]
    Fleet(#[from] FleetError),
    /// It could serve next to nobody.
    #[error(transparent)]
    TooFewFiles(#[from] TooFewFiles),
    /// The certificate that users see cannot be used.
    #[error("the external API's certificate cannot be used")]
    ExternalTls(#[from] ExternalTlsError),
    /// There is no TLS by these certificates.
    #[error("the APIs cannot be served by TLS")]
    Tls(#[from] PkiError),
    /// It cannot be decided who may do what.
    #[error("the policies of who may do what make no sense: {0}")]
    Policies(String),
    /// The web console cannot be read.
    #[error("the web console cannot be served")]
    WebConsole(#[from] WebConsoleError),
    /// The API cannot be served.
    #[error("the API cannot be served")]
    Serve(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The addresses cannot be written down.
    #[error("the address file cannot be written")]
    AddressFile(#[source] std::io::Error),
}

impl Server {
    /// Starts a Nexus: waits for the database, migrates it, takes over the
    /// sagas and the looks of the process before, and serves.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. A database that is away is none: it is waited for.
    pub async fn start(
        config: &Config,
        log: Logger,
    ) -> Result<Server, StartError> {
        config.check()?;
        crate::authz::check().map_err(StartError::Policies)?;
        let sec_id = SecId::new_v4();
        let log = log.new(o!("nexus" => sec_id.to_string()));
        let static_dir = config.console.static_dir.as_deref();
        let web_console = static_dir.map(WebConsole::read).transpose()?;
        let fleet = Fleet::open(config)?;
        let external_tls =
            config.external_tls.as_ref().map(ExternalTls::open).transpose()?;
        let users_see = external_tls
            .as_ref()
            .map(|tls| public_server_config(tls.shown()))
            .transpose()?;
        let datastore = datastore(config);
        prepare(&datastore, &log).await?;
        let rack_id = once_there(&log, || datastore.rack_id()).await?;
        once_there(&log, || datastore.reconcile_claimed_is_due(VISIBILITY))
            .await?;
        let tuning = config.tuning;
        let activators = Activators::default();
        let zombie = Zombie::default();
        let (stop, stopped) = watch::channel(false);
        let (stop_lease, lease_stopped) = watch::channel(false);
        let lease_datastore = lease_datastore(config);
        let (lease, renewing) = once_there(&log, || {
            Lease::begin(
                sec_id,
                config.internal_address.to_string(),
                tuning.lease(),
                lease_datastore.clone(),
                zombie.clone(),
                lease_stopped.clone(),
                log.clone(),
            )
        })
        .await?;
        let sleds = Sleds::new(
            datastore.clone(),
            lease.clone(),
            fleet.clone(),
            &tuning,
        );
        let sagas = SagaExecutor::new(
            lease.clone(),
            datastore.clone(),
            sleds.clone(),
            activators.clone(),
            tuning,
            zombie.clone(),
            registry(),
            log.new(o!("component" => "sagas")),
        );
        let reconciler = Reconciler {
            datastore: datastore.clone(),
            sleds: sleds.clone(),
            sagas: Arc::clone(&sagas),
            lease: lease.clone(),
            activators: activators.clone(),
            tuning,
            looks: Looks::default(),
            log: log.new(o!("component" => "reconciler")),
        };
        let app = Arc::new(App::new(
            datastore.clone(),
            views_datastore(config),
            sleds.clone(),
            Arc::clone(&sagas),
            activators.clone(),
            reconciler.clone(),
            tuning,
            fleet.clone(),
            SessionConfig {
                secure_cookie: config.session.secure_cookie
                    || external_tls.is_some(),
                ..config.session
            },
            config.placement_detail,
            rack_id,
            log.clone(),
        ));
        tokio::spawn(reconciler.clone().look_after_sagas());
        let background = vec![
            background::spawn(
                Recovery {
                    sagas: Arc::clone(&sagas),
                    datastore: datastore.clone(),
                    lease: lease.clone(),
                    activators: activators.clone(),
                    log: log.clone(),
                },
                Arc::new(Notify::new()),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                reconciler,
                activators.reconcile_wake_up(),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                Retention {
                    audit_keep_days: config.audit.keep_days,
                    session_life: config.session.life(),
                    datastore: datastore.clone(),
                    lease: lease.clone(),
                    log: log.clone(),
                },
                Arc::new(Notify::new()),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                Unanswered {
                    datastore: datastore.clone(),
                    unknown_after_secs: config.audit.unknown_after_secs,
                    log: log.clone(),
                },
                Arc::new(Notify::new()),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                Certificates {
                    fleet: fleet.clone(),
                    external: external_tls,
                    renewed: Mutex::new(Instant::now()),
                    log: log.clone(),
                },
                Arc::new(Notify::new()),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                Reaper {
                    datastore: datastore.clone(),
                    sleds: sleds.clone(),
                    lease: lease.clone(),
                    activators: activators.clone(),
                    log: log.new(o!("component" => "reaper")),
                },
                activators.blocks_gone_wake_up(),
                stopped.clone(),
                log.clone(),
            ),
            background::spawn(
                Watcher {
                    datastore: datastore.clone(),
                    sleds,
                    lease: lease.clone(),
                    activators: activators.clone(),
                    silence: Silence::default(),
                    round: AtomicU32::new(0),
                    tuning,
                    log: log.new(o!("component" => "watcher")),
                },
                activators.watch_wake_up(),
                stopped,
                log.clone(),
            ),
        ];
        let limits = door::allowed(config.limits, &log)?;
        let peers = Peers::new(limits, &config.trusted_proxies);
        let admission = Admission::new(datastore.connections().max, limits);
        let times = RequestTimes::default();
        let audit = Audit::default();
        let exporter = Exporter::new(
            datastore.clone(),
            metrics_datastore(config),
            Arc::clone(&sagas),
            lease.clone(),
            admission.clone(),
            &times,
            &audit,
            &peers,
            log.clone(),
        );
        let context = ApiContext {
            app: Arc::clone(&app),
            admission,
            times,
            audit,
            web_console: web_console.map(Arc::new),
            sources: Sources::new(peers.clone(), &config.trusted_proxies),
            rates: Rates::new(&limits),
            limits,
            of_users: true,
            exporter: Arc::new(exporter),
        };
        let of_sleds = ApiContext { of_users: false, ..context.clone() };
        let internal = serve(
            internal_api::internal_api_mod::api_description::<InternalApiImpl>(
            )
            .map_err(|e| StartError::Serve(Box::new(e)))?,
            VersionPolicy::Unversioned,
            config.internal_address,
            // Any member's: what each may ask is decided by its secret.
            Some(server_config(fleet.credentials(), |_| true)?),
            &of_sleds,
            log.new(o!("component" => "internal")),
        )?;
        let join = match config.join_address {
            None => None,
            Some(address) => {
                let peers = Peers::new(Limits::of_joins(), &[]);
                let sources = Sources::new(peers.clone(), &[]);
                let log = log.new(o!("component" => "join"));
                let server = serve(
                    join_api::join_api_mod::api_description::<JoinApiImpl>()
                        .map_err(|e| StartError::Serve(Box::new(e)))?,
                    VersionPolicy::Unversioned,
                    WITHIN,
                    Some(first_contact_server_config(fleet.credentials())?),
                    &ApiContext { sources, ..of_sleds.clone() },
                    log.clone(),
                )?;
                Some((open_door(address, &server, peers, log)?, server))
            }
        };
        let external = serve(
            external_api().map_err(StartError::Serve)?,
            front(&limits, peers.clone()).map_err(StartError::Serve)?,
            WITHIN,
            users_see,
            &context,
            log.new(o!("component" => "external")),
        )?;
        let door = open_door(
            config.external_address,
            &external,
            peers,
            log.new(o!("component" => "door")),
        )?;
        let server = Server {
            door,
            external,
            internal,
            join,
            sagas,
            background,
            stop,
            lease,
            stop_lease,
            renewing,
            app,
            datastore,
            zombie,
            drain: tuning.drain(),
            log,
        };
        server.write_addresses(config)?;
        info!(server.log, "serving";
            "external" => %server.door.address(),
            "internal" => %server.internal.local_addr(),
            "join" => ?server.join.as_ref().map(|(door, _)| door.address()),
            "external_tls" => server.external.using_tls());
        Ok(server)
    }

    /// Answers when another process has adopted a saga of this one, which then
    /// must exit.
    pub async fn zombie(&self) {
        self.zombie.declared().await;
    }

    /// Where the two APIs are.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.door.address(), self.internal.local_addr())
    }

    /// Closes: no new work, then what runs is finished or, past a bound, left
    /// to whoever adopts it.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        self.app.close_consoles().await;
        let bound = tokio::time::Instant::now() + self.drain;
        if !self.sagas.close(self.drain).await {
            warn!(self.log, "left sagas to be adopted";
                "sagas" => self.sagas.running());
        }
        for task in std::mem::take(&mut self.background) {
            let stop = task.abort_handle();
            // It only says that the task died, which its panic has said.
            if tokio::time::timeout_at(bound, task).await.is_err() {
                stop.abort();
            }
        }
        self.give_back_lease().await;
        let (join_door, join) = self.join.unzip();
        let doors = [Some(self.door), join_door].into_iter().flatten();
        let doors: Vec<Door> = doors.inspect(Door::shut).collect();
        let servers = [self.external, self.internal];
        for server in servers.into_iter().chain(join) {
            let closed =
                tokio::time::timeout(CLOSE_BOUND, server.close()).await;
            if let Ok(Err(why)) = closed {
                error!(self.log, "a server did not close"; "error" => why);
            }
        }
        for door in doors {
            door.emptied(CLOSE_BOUND).await;
        }
    }

    /// The lease is kept while sagas drain, and given back when nothing acts
    /// here any more: what is left is adopted at once.
    async fn give_back_lease(&mut self) {
        self.stop_lease.send_replace(true);
        self.renewing.abort();
        // A renewal that is just being taken in must not come after the end.
        let _ = (&mut self.renewing).await;
        self.lease.end();
        let given_back = self.datastore.lease_give_back(self.lease.id()).await;
        if let Err(error) = given_back {
            warn!(self.log, "the lease runs out instead of being given back";
                "error" => chain(&error));
        }
    }

    fn write_addresses(&self, config: &Config) -> Result<(), StartError> {
        let Some(path) = &config.address_file else { return Ok(()) };
        let (external, internal) = self.addresses();
        let text = serde_json::json!({
            "external": external,
            "internal": internal,
            "join": self.join.as_ref().map(|(door, _)| door.address()),
        })
        .to_string();
        // Whole or not at all, for who waits for it to appear.
        let part = path.with_extension("part");
        std::fs::write(&part, text)
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(StartError::AddressFile)
    }
}

/// The database that a configuration names.
pub fn datastore(config: &Config) -> DataStore {
    DataStore::new(
        &config.database_url,
        PoolSettings {
            max_connections: config.database_max_connections,
            ..PoolSettings::default()
        },
    )
}

/// A connection of its own for the lease, so that no load keeps it from being
/// renewed.
fn lease_datastore(config: &Config) -> DataStore {
    DataStore::new(
        &config.database_url,
        PoolSettings {
            max_connections: 1,
            acquire_timeout: config.tuning.lease() / 2,
            ..PoolSettings::default()
        },
    )
}

/// Connections of their own for instances' views, which are read together.
fn views_datastore(config: &Config) -> DataStore {
    DataStore::new(
        &config.database_url,
        PoolSettings {
            max_connections: VIEWS_AT_ONCE,
            planned_once: true,
            ..PoolSettings::default()
        },
    )
}

/// A connection of its own for the metrics, which are wanted most when all
/// others are taken.
fn metrics_datastore(config: &Config) -> DataStore {
    DataStore::new(
        &config.database_url,
        PoolSettings { max_connections: 1, ..PoolSettings::default() },
    )
}

/// Waits for the database, and brings its schema up to date.
///
/// # Errors
///
/// The schema is not this program's, or the database refuses something.
pub async fn prepare(
    datastore: &DataStore,
    log: &Logger,
) -> Result<(), MigrateError> {
    let migrated = once_there(log, || migrate(datastore)).await?;
    info!(log, "the schema is up to date"; "migrated" => ?migrated);
    Ok(())
}

/// What `ask` answers, once the database is there to answer. It may go away
/// again between any two questions.
async fn once_there<T, E, F>(log: &Logger, ask: impl Fn() -> F) -> Result<T, E>
where
    E: IsAway + std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_away() => {
                warn!(log, "waiting for the database";
                    "error" => chain(&error));
                tokio::time::sleep(DATABASE_RETRY).await;
            }
            answer => return answer,
        }
    }
}

/// An error that says that the database is away, or something else.
trait IsAway {
    fn is_away(&self) -> bool;
}

impl IsAway for db_queries::Error {
    fn is_away(&self) -> bool {
        matches!(self, db_queries::Error::Unavailable(_))
    }
}

impl IsAway for MigrateError {
    fn is_away(&self) -> bool {
        matches!(self, MigrateError::Database(error) if error.is_away())
    }
}

/// Lets clients in at `address`, to this server.
fn open_door(
    address: SocketAddr,
    server: &HttpServer<ApiContext>,
    peers: Peers,
    log: Logger,
) -> Result<Door, StartError> {
    Door::open(address, server.local_addr(), peers, log).map_err(|error| {
        let message = format!("cannot listen at {address}: {error}");
        StartError::Serve(std::io::Error::new(error.kind(), message).into())
    })
}

fn serve(
    api: dropshot::ApiDescription<ApiContext>,
    front: VersionPolicy,
    bind_address: SocketAddr,
    tls: Option<RawTlsConfig>,
    context: &ApiContext,
    log: Logger,
) -> Result<HttpServer<ApiContext>, StartError> {
    let config = ConfigDropshot {
        bind_address,
        default_request_body_max_bytes: count(context.limits.body_max_bytes),
        // A client that hangs up ends no transaction half-way.
        default_handler_task_mode: HandlerTaskMode::Detached,
        ..ConfigDropshot::default()
    };
    ServerBuilder::new(api, context.clone(), of_requests(log))
        .config(config)
        .version_policy(front)
        .tls(tls.map(ConfigTls::Dynamic))
        .start()
        .map_err(|e| StartError::Serve(Box::new(e)))
}
