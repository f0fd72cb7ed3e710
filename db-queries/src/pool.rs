//! The pool of connections: bb8 over async-bb8-diesel's connection, with a
//! manager of our own, since that crate's never calls a connection broken and
//! pings every one of them before each use.

use crate::{DataStore, Error, PREPARED};
use async_bb8_diesel::{AsyncConnection, Connection};
use diesel::connection::SimpleConnection;
use diesel::{PgConnection, RunQueryDsl};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many connections there are, and how long to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// At most so many connections.
    pub max_connections: u32,
    /// A request that gets no connection for so long is told `Unavailable`.
    pub acquire_timeout: Duration,
    /// Does the server plan each statement once for all values, and by keys alone?
    /// For statements whose best plan is the same for all, though the server reckons
    /// otherwise and so would plan them each time.
    pub planned_once: bool,
}

impl Default for PoolSettings {
    fn default() -> PoolSettings {
        PoolSettings {
            max_connections: 32,
            acquire_timeout: Duration::from_secs(5),
            planned_once: false,
        }
    }
}

impl PoolSettings {
    /// Those of a pool beside it, for what is asked together: it knows few
    /// statements, of which each comes often, so that few connections do.
    pub(crate) fn for_what_is_shared() -> PoolSettings {
        PoolSettings {
            max_connections: SHARED_CONNECTIONS,
            acquire_timeout: SHARED_TIMEOUT,
            planned_once: true,
        }
    }
}

/// The connections of that.
const SHARED_CONNECTIONS: u32 = 6;

/// How long to wait for one of them: without, each is asked alone.
const SHARED_TIMEOUT: Duration = Duration::from_millis(250);

/// The connections of a pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Open, and nobody's.
    pub idle: u32,
    /// In somebody's hands.
    pub used: u32,
    /// As many as there can be.
    pub max: u32,
}

/// What the server holds every connection to. A transaction that hangs is ended
/// there, since nothing on this side can: a dropped future leaves it open. The
/// idle time is under half of a Nexus's lease, so that a paused process cannot
/// keep its sagas from being adopted by holding their rows.
const SESSION_SETTINGS: &str = "SET statement_timeout = '15s'; \
     SET idle_in_transaction_session_timeout = '3s'";

/// A plan that is kept is made for tables as they will be, and not as they are when it
/// is made: every row is found by its key. And what is asked for many waits for nobody's
/// lock for long. Does nothing on an engine that has no such settings.
const PLAN_ONCE: &str = "SELECT set_config(name, CASE name \
         WHEN 'plan_cache_mode' THEN 'force_generic_plan' \
         WHEN 'lock_timeout' THEN '500ms' ELSE 'off' END, false) \
     FROM pg_settings WHERE name IN ('plan_cache_mode', 'lock_timeout', \
         'enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', \
         'enable_mergejoin', 'enable_material', 'jit')";

/// A connection that has been idle for longer is tried before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// A connection, with what the pool must know of it.
pub(crate) struct Pooled {
    pub(crate) connection: Connection<PgConnection>,
    broken: AtomicBool,
    /// So many of [`PREPARED`] are.
    prepared: usize,
    last_used: std::sync::Mutex<Instant>,
}

impl Pooled {
    /// Whether it is not to be used again.
    pub(crate) fn mark_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// Worked just now.
    pub(crate) fn mark_used(&self) {
        if let Ok(mut last_used) = self.last_used.lock() {
            *last_used = Instant::now();
        }
    }
}

/// Makes and judges connections for the pool.
#[derive(Debug)]
pub(crate) struct Manager {
    url: String,
    planned_once: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connecting failed")]
    Connect(#[from] diesel::ConnectionError),
    #[error("the connection does not work")]
    Query(#[from] diesel::result::Error),
    #[error("the connection cannot be prepared")]
    Prepare(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the task that connects died")]
    Task(#[from] tokio::task::JoinError),
}

impl bb8::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    async fn connect(&self) -> Result<Pooled, ConnectError> {
        use diesel::Connection as _;
        let (url, planned_once) = (self.url.clone(), self.planned_once);
        let connection = tokio::task::spawn_blocking(move || {
            let mut conn = PgConnection::establish(&url)?;
            conn.batch_execute(SESSION_SETTINGS)?;
            if planned_once {
                conn.batch_execute(PLAN_ONCE)?;
            }
            Ok::<_, ConnectError>(conn)
        })
        .await??;
        Ok(Pooled {
            connection: Connection::new(connection),
            broken: AtomicBool::new(false),
            prepared: 0,
            last_used: std::sync::Mutex::new(Instant::now()),
        })
    }

    async fn is_valid(&self, conn: &mut Pooled) -> Result<(), ConnectError> {
        while let Some(sql) = PREPARED.get(conn.prepared) {
            let prepare = |c: &mut PgConnection| c.batch_execute(sql);
            match conn.connection.run(prepare).await {
                Ok(()) => conn.prepared += 1,
                Err(error) => {
                    if let Error::Unavailable(error) = error.into() {
                        return Err(ConnectError::Prepare(error));
                    }
                    // There may be no such tables yet.
                    break;
                }
            }
        }
        let idle = conn.last_used.lock().map(|t| t.elapsed());
        if idle.is_ok_and(|idle| idle < TRUSTED_IDLE) {
            return Ok(());
        }
        conn.connection
            .run(|c| {
                diesel::sql_query("SELECT 1").execute(c)?;
                Ok(())
            })
            .await
    }

    /// One that is not wholly prepared is used once: whoever was to prepare it may
    /// have gone away over it.
    fn has_broken(&self, conn: &mut Pooled) -> bool {
        conn.broken.load(Ordering::Relaxed) || conn.prepared < PREPARED.len()
    }
}

impl DataStore {
    /// What becomes of its connections.
    pub fn connections(&self) -> Connections {
        let bb8::State { connections, idle_connections: idle, .. } =
            self.pool.state();
        let used = connections.saturating_sub(idle);
        Connections { idle, used, max: self.max_connections }
    }

    /// Is there a connection for one more?
    pub(crate) fn has_room(&self) -> bool {
        let Connections { used, max, .. } = self.connections();
        used < max
    }
}

pub(crate) type Pool = bb8::Pool<Manager>;

pub(crate) fn build(url: &str, settings: PoolSettings) -> Pool {
    bb8::Pool::builder()
        .max_size(settings.max_connections)
        .connection_timeout(settings.acquire_timeout)
        // Few connections are used often, and know the statements, rather than
        // all of them seldom.
        .queue_strategy(bb8::QueueStrategy::Lifo)
        .build_unchecked(Manager {
            url: with_connect_timeout(url),
            planned_once: settings.planned_once,
        })
}

/// libpq waits for a silent server without an end unless it is told otherwise.
fn with_connect_timeout(url: &str) -> String {
    if url.contains("connect_timeout") {
        return url.to_string();
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{separator}connect_timeout=5&tcp_user_timeout=10000\
         &keepalives_idle=5&keepalives_interval=2&keepalives_count=3"
    )
}
