//! What it costs to give an instance its place: the very node of the saga
//! that starts it, `place`, on fleets that are in use. No Nexus and no sled
//! runs: the instances that are placed are rows, and so are the others.

mod fill;
mod starts;

use crate::statements::{self, Sent};
use crate::table::Table;
use harness::Database;
use serde_json::{Value, json};
use starts::Starts;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many are started at once.
const AT_ONCE: usize = 64;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many sleds there are, one fleet after the other
    #[arg(long, value_delimiter = ',', default_values_t = [32, 1000, 10_000])]
    sleds: Vec<u32>,
    /// How many reservations, one after the other, of each kind
    #[arg(long, default_value_t = 300)]
    reservations: usize,
    /// How often 64 are started at once
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How often a start is refused on a full fleet
    #[arg(long, default_value_t = 20)]
    refusals: usize,
    /// Show what each statement takes, which makes everything slower
    #[arg(long)]
    statements: bool,
}

pub(crate) async fn run(args: &Args) {
    statements::count(args.statements);
    let mut tables = Tables::new();
    for sleds in &args.sleds {
        Fleet::fill(args, *sleds).await.measure(&mut tables).await;
    }
    for table in [tables.one, tables.many, tables.refused] {
        table.print();
    }
}

struct Tables {
    one: Table,
    many: Table,
    refused: Table,
}

impl Tables {
    fn new() -> Tables {
        Tables {
            one: Table::new(
                "Reservations, one after the other",
                &["sleds", "placed", "of", "median ms", "p99 ms", "statements"],
            ),
            many: Table::new(
                "64 starts at once",
                &[
                    "sleds",
                    "room for",
                    "placed",
                    "retries a start",
                    "aborted",
                    "ms for all",
                    "starts/s",
                    "wrong sums",
                ],
            ),
            refused: Table::new(
                "Refusals, explained, on a full fleet",
                &["sleds", "of", "median ms", "p99 ms", "statements"],
            ),
        }
    }
}

/// A fleet in use.
struct Fleet<'a> {
    args: &'a Args,
    sleds: u32,
    placed: i64,
    // Dropped in this order: who uses the database before it.
    starts: Arc<Starts>,
    database: Database,
}

impl Fleet<'_> {
    async fn fill(args: &Args, sleds: u32) -> Fleet<'_> {
        let database = Database::create().await;
        let began = Instant::now();
        fill::fleet(&database, sleds);
        let placed = database.count("SELECT count(*) FROM sled_reservation");
        let percent = "SELECT 100 * sum(reserved_vcpus) / sum(vcpus) FROM sled";
        println!(
            "{sleds} sleds with {placed} instances on {} % of their vCPUs, \
             loaded in {:.0} s",
            database.count(percent),
            began.elapsed().as_secs_f64()
        );
        let starts = Arc::new(Starts::of(&database));
        Fleet { args, sleds, placed, starts, database }
    }

    async fn measure(&self, tables: &mut Tables) {
        self.in_turn(tables, "vm").await;
        self.in_turn(tables, "grouped").await;
        self.at_once(tables, "vm", AT_ONCE).await;
        fill::few_places(&self.database);
        self.at_once(tables, "even", fill::FEW_PLACES).await;
        fill::short_of_memory(&self.database);
        self.in_turn(tables, "roomy").await;
        fill::full(&self.database);
        self.refused(tables, "vm").await;
        self.refused(tables, "grouped").await;
    }

    /// All of a kind get a place, one after the other, and give it back: again
    /// and again.
    async fn in_turn(&self, tables: &mut Tables, kind: &str) {
        let count = self.starts.count(kind);
        // What is read for the first time, and statements that are prepared.
        self.starts.in_turn(kind, count).await;
        self.starts.give_back().await;
        let mut times = Vec::new();
        let mut sent = Sent::default();
        while times.len() < self.args.reservations {
            statements::sent();
            let outcomes = self.starts.in_turn(kind, count).await;
            sent.add(statements::sent());
            assert!(outcomes.iter().all(|o| o.placed), "a {kind} was refused");
            times.extend(outcomes.iter().map(|o| o.took));
            self.starts.give_back().await;
        }
        assert_eq!(fill::wrong(&self.database), 0, "sums are wrong");
        tables.one.figure(&self.figure("reservation", kind, times, &sent));
    }

    async fn refused(&self, tables: &mut Tables, kind: &str) {
        self.starts.in_turn(kind, 1).await;
        statements::sent();
        let mut times = Vec::new();
        while times.len() < self.args.refusals {
            let outcomes = self.starts.in_turn(kind, 1).await;
            assert!(!outcomes[0].placed, "a {kind} got a place");
            times.push(outcomes[0].took);
        }
        let sent = statements::sent();
        tables.refused.figure(&self.figure("refusal", kind, times, &sent));
    }

    /// As many as there is room for get a place, and no others.
    async fn at_once(&self, tables: &mut Tables, kind: &str, room: usize) {
        let mut took = Duration::ZERO;
        let mut sent = Sent::default();
        let mut wrong = 0;
        for _ in 0..self.args.rounds {
            statements::sent();
            let began = Instant::now();
            let outcomes = self.starts.at_once(kind, AT_ONCE).await;
            took += began.elapsed();
            sent.add(statements::sent());
            assert_eq!(outcomes.iter().filter(|o| o.placed).count(), room);
            wrong += fill::wrong(&self.database);
            self.starts.give_back().await;
        }
        let starts = count(AT_ONCE * self.args.rounds);
        // Who has got a place has begun one transaction, and one more for each
        // that was in vain; who is refused has read why in one.
        let retries = f64::from(sent.transactions) - starts;
        let seconds = took.as_secs_f64();
        tables.many.figure(&json!({
            "figure": "at once",
            "sleds": self.sleds,
            "room for": room,
            "placed": room,
            "retries a start": short(retries / starts),
            "aborted": short(f64::from(sent.raced) / starts),
            "ms for all": short(seconds * 1000.0 / count(self.args.rounds)),
            "starts/s": short(starts / seconds),
            "wrong sums": wrong,
        }));
        self.show(&sent, starts);
    }

    fn figure(
        &self,
        figure: &str,
        kind: &str,
        mut times: Vec<Duration>,
        sent: &Sent,
    ) -> Value {
        times.sort();
        let at = |percent: usize| {
            let time = times[times.len() * percent / 100];
            short(time.as_secs_f64() * 1000.0)
        };
        let calls = count(times.len());
        self.show(sent, calls);
        json!({
            "figure": figure,
            "sleds": self.sleds,
            "placed": self.placed,
            "of": fill::KINDS.iter().find(|k| k.name == kind).unwrap().what,
            "median ms": at(50),
            "p99 ms": at(99),
            "statements": short(f64::from(sent.statements) / calls),
        })
    }

    fn show(&self, sent: &Sent, calls: f64) {
        if self.args.statements {
            sent.print(calls);
        }
    }
}

fn count(n: usize) -> f64 {
    u32::try_from(n).unwrap().into()
}

/// To two places.
fn short(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
