//! What operators are told of how things are: the text that Prometheus reads.
//!
//! What is counted is counted where it happens; the rest is looked up when
//! somebody asks. The names, and what is alarming, are in `docs/metrics.md`.

use crate::config::count;
use crate::door::Peers;
use crate::error::chain;
use crate::http::{Admission, Audit};
use crate::lease::Lease;
use crate::saga::SagaExecutor;
use db_model::SagaState;
use db_queries::{Connections, DataStore, Unfinished};
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use slog::{Logger, info};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the database is waited for: well within the ten seconds that
/// Prometheus waits for the whole.
const DATABASE_WAIT: Duration = Duration::from_secs(1);

/// Where requests are told apart, in seconds: from a read of one row to the
/// longest wait for a change.
const BUCKETS: [f64; 14] = [
    0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// How long requests took, by operation and status. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestTimes(Family<Answered, Histogram, fn() -> Histogram>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: String,
    status: u16,
}

impl Default for RequestTimes {
    fn default() -> RequestTimes {
        RequestTimes(Family::new_with_constructor(|| Histogram::new(BUCKETS)))
    }
}

impl RequestTimes {
    /// A request was answered.
    pub fn observe(
        &self,
        operation: String,
        status: StatusCode,
        took: Duration,
    ) {
        let answered = Answered { operation, status: status.as_u16() };
        self.0.get_or_create(&answered).observe(took.as_secs_f64());
    }
}

/// Knows where to look.
#[derive(Debug)]
pub struct Exporter {
    counted: Registry,
    datastore: DataStore,
    /// With a connection of its own, so that it can be asked when all others
    /// are taken: that is when one wants to know.
    own_datastore: DataStore,
    sagas: Arc<SagaExecutor>,
    lease: Lease,
    admission: Admission,
    peers: Peers,
    log: Logger,
}

impl Exporter {
    /// Over all that there is to look at.
    #[expect(clippy::too_many_arguments, reason = "built in one line, once")]
    pub fn new(
        datastore: DataStore,
        own_datastore: DataStore,
        sagas: Arc<SagaExecutor>,
        lease: Lease,
        admission: Admission,
        times: &RequestTimes,
        audit: &Audit,
        peers: &Peers,
        log: Logger,
    ) -> Exporter {
        let mut counted = Registry::with_prefix("nexus");
        counted.register(
            "build",
            "The program that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        counted.register(
            "sagas_ended",
            "Sagas that ended in this process",
            sagas.ended().clone(),
        );
        counted.register(
            "start_attempts_ended",
            "Attempts to start an instance that this process ended",
            datastore.attempts_ended().clone(),
        );
        counted.register(
            "vmms_cut_off",
            "VMMs that this process ended since their sled was cut off",
            datastore.vmms_cut_off().clone(),
        );
        counted.register(
            "requests_refused",
            "Users' requests that were refused since there were too many",
            admission.refused().clone(),
        );
        counted.register(
            "audit_log_dropped",
            "Refusals of nobody known that were too many for the audit log",
            audit.dropped().clone(),
        );
        counted.register(
            "connections_turned_away",
            "Users' connections that were turned away or cut off",
            peers.turned_away().clone(),
        );
        counted.register_with_unit(
            "request_duration",
            "How long requests took that reached a handler",
            Unit::Seconds,
            times.0.clone(),
        );
        Exporter {
            counted,
            datastore,
            own_datastore,
            sagas,
            lease,
            admission,
            peers: peers.clone(),
            log,
        }
    }

    /// The text. While the database is away, which is found out within a
    /// second, it is without what only the database knows.
    ///
    /// # Errors
    ///
    /// None that is known: writing to a string does not fail.
    pub async fn text(&self) -> Result<String, fmt::Error> {
        let asked = self.own_datastore.unfinished();
        let unfinished = match tokio::time::timeout(DATABASE_WAIT, asked).await
        {
            Ok(Ok(unfinished)) => Some(unfinished),
            Ok(Err(error)) => {
                info!(self.log, "metrics without the database's";
                    "error" => chain(&error));
                None
            }
            Err(_) => {
                info!(self.log, "metrics without the database's: it is slow");
                None
            }
        };
        let mut now = Registry::with_prefix("nexus");
        self.look_at_process(&mut now);
        look_at_database(&mut now, unfinished);
        let mut text = String::new();
        encode_registry(&mut text, &self.counted)?;
        encode_registry(&mut text, &now)?;
        encode_eof(&mut text)?;
        Ok(text)
    }

    fn look_at_process(&self, now: &mut Registry) {
        number(
            now,
            "sagas_running",
            "Sagas that run in this process",
            self.sagas.running(),
        );
        number(
            now,
            "requests_in_progress",
            "Users' requests that are at work",
            self.admission.at_work(),
        );
        number(
            now,
            "requests_waiting",
            "Users' requests that wait for their turn",
            self.admission.waiting(),
        );
        number(
            now,
            "requests_aside",
            "Users' requests that wait for a change",
            self.admission.aside(),
        );
        number(
            now,
            "connections",
            "Users' connections that are open",
            count(self.peers.connections()),
        );
        number(
            now,
            "lease_live",
            "Whether this process may act",
            usize::from(self.lease.is_live()),
        );
        seconds(
            now,
            "lease_age",
            "Since the last renewal was sent that was taken",
            self.lease.age().as_secs_f64(),
        );
        let connections = Family::<[(&str, &str); 1], Gauge>::default();
        let Connections { idle, used, max } = self.datastore.connections();
        for (state, n) in [("idle", idle), ("used", used), ("max", max)] {
            connections.get_or_create(&[("state", state)]).set(n.into());
        }
        now.register(
            "database_connections",
            "Connections to the database in this process's pool, and how many \
             there may be",
            connections,
        );
    }
}

fn look_at_database(now: &mut Registry, unfinished: Option<Unfinished>) {
    number(
        now,
        "database_up",
        "Whether the database answered just now",
        usize::from(unfinished.is_some()),
    );
    let Some(Unfinished { instances, lag, sagas }) = unfinished else {
        return;
    };
    now.register(
        "instances_unsettled",
        "Instances that somebody must look at, now or later",
        ConstGauge::new(instances),
    );
    seconds(
        now,
        "reconcile_lag",
        "Since the instance is due that is longest due and that nobody looks \
         at",
        lag.to_std().unwrap_or_default().as_secs_f64(),
    );
    let by_state = Family::<[(&str, &str); 1], Gauge>::default();
    for state in [SagaState::Running, SagaState::Unwinding] {
        let n = sagas.iter().find(|(of, _)| *of == state);
        let gauge = by_state.get_or_create_owned(&[("state", state.as_str())]);
        gauge.set(n.map_or(0, |(_, n)| *n));
    }
    now.register(
        "sagas_unfinished",
        "Sagas that have not ended, whoever runs them",
        by_state,
    );
}

fn number(now: &mut Registry, name: &str, help: &str, value: usize) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    now.register(name, help, ConstGauge::new(value));
}

fn seconds(now: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    now.register_with_unit(name, help, Unit::Seconds, gauge);
}
