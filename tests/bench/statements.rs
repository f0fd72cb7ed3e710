//! What is sent to the database, counted where it leaves this process: by
//! diesel, of every connection that is made after [`count`].

use diesel::connection::{
    Instrumentation, InstrumentationEvent, set_default_instrumentation,
};
use diesel::result::{DatabaseErrorKind, Error};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static SENT: Mutex<Sent> = Mutex::new(Sent {
    statements: 0,
    transactions: 0,
    raced: 0,
    times: BTreeMap::new(),
});

static TIMED: AtomicBool = AtomicBool::new(false);

/// What was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// All, BEGIN and COMMIT too.
    pub(crate) statements: u32,
    /// How many transactions were begun.
    pub(crate) transactions: u32,
    /// How many statements failed since others were at work: the transaction
    /// is run again.
    pub(crate) raced: u32,
    /// How often each statement was sent, and how long it took in all.
    times: BTreeMap<String, (u32, Duration)>,
}

/// Counts from here on. If `timed`, what takes how long, too, which itself
/// takes time.
pub(crate) fn count(timed: bool) {
    TIMED.store(timed, Ordering::Relaxed);
    set_default_instrumentation(|| Some(Box::new(Counter::default()))).unwrap();
}

/// What was sent since this was last called.
pub(crate) fn sent() -> Sent {
    std::mem::take(&mut SENT.lock().unwrap())
}

impl Sent {
    /// What took how long, the longest first, for each of so many `calls`.
    pub(crate) fn print(&self, calls: f64) {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by_key(|(_, (_, time))| std::cmp::Reverse(*time));
        for (sql, (n, time)) in times {
            let each = time.as_secs_f64() * 1000.0 / calls;
            let times = f64::from(*n) / calls;
            let text: String = sql.chars().take(120).collect();
            println!("{each:9.3} ms, {times:5.1} times: {text}");
        }
    }

    /// With what was sent at another time.
    pub(crate) fn add(&mut self, other: Sent) {
        self.statements += other.statements;
        self.transactions += other.transactions;
        self.raced += other.raced;
        for (sql, (n, time)) in other.times {
            let sum = self.times.entry(sql).or_default();
            *sum = (sum.0 + n, sum.1 + time);
        }
    }
}

/// A connection's.
#[derive(Default)]
struct Counter {
    since: Option<Instant>,
}

impl Instrumentation for Counter {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let mut sent = SENT.lock().unwrap();
        if let InstrumentationEvent::BeginTransaction { .. } = event {
            sent.transactions += 1;
        }
        if let InstrumentationEvent::StartQuery { .. } = event {
            sent.statements += 1;
            self.since = Some(Instant::now());
        }
        if let InstrumentationEvent::FinishQuery { query, error, .. } = event {
            sent.raced += u32::from(error.is_some_and(raced));
            if TIMED.load(Ordering::Relaxed)
                && let Some(since) = self.since
            {
                let took = since.elapsed();
                let text = query.to_string();
                let sql = text.split(" -- binds").next().unwrap_or("");
                let time = sent.times.entry(sql.to_string()).or_default();
                *time = (time.0 + 1, time.1 + took);
            }
        }
    }
}

fn raced(error: &Error) -> bool {
    matches!(error, Error::DatabaseError(kind, info)
        if matches!(kind, DatabaseErrorKind::SerializationFailure)
            || info.message().contains("deadlock detected"))
}
