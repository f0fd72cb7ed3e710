//! Reads by a user's token, over connections that are kept: an instance by its
//! id, and a page of a hundred; as ratios to what the database can do at best
//! in the same run.

use crate::figures::{as_index, at, count, median, ms, rounded};
use crate::stage::Stage;
use crate::table::Table;
use crate::usage::Watched;
use crate::wire::{Connection, request};
use crate::{limit, stage};
use harness::PROJECT;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instances in the project
    #[arg(long, default_value_t = 1_000)]
    others: u32,
    /// How long each round takes, in seconds
    #[arg(long, default_value_t = 5)]
    secs: u32,
    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long `pgbench` runs for each of its figures, in seconds
    #[arg(long, default_value_t = 3)]
    limit_secs: u32,
}

/// Before each kind is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Of a list.
const PAGE: u32 = 100;

/// What is read.
struct Kind {
    name: &'static str,
    clients: &'static [u32],
    /// How many selects of `pgbench`'s a read may cost, with 8 clients of both.
    goal: f64,
    requests: Arc<Vec<Vec<u8>>>,
}

pub(crate) async fn run(args: &Args) {
    let mut table = Table::new(
        "Reads. Goals, at 8 clients: 8 selects for an instance, and 2 ms at \
         the median; 60 selects for a page of 100.",
        &[
            "read",
            "clients",
            "per_s",
            "p50_ms",
            "p99_ms",
            "selects_8_per_read",
            "goal",
            "nexus_cores",
            "postgres_cores",
            "load_cores",
        ],
    );
    let mut stage = Stage::set(1, 0).await;
    stage.fill_up_to(args.others).await;
    let watched = Watched::new(&stage);
    let limit = limit::measure(&stage.database, args.limit_secs).await;
    println!("{}", limit.figure(0));
    for kind in kinds(&stage) {
        for clients in kind.clients {
            load(&stage, &kind, *clients, WARM_UP).await;
            let before = watched.taken();
            let mut times = Vec::new();
            let mut rates = Vec::new();
            for _ in 0..args.rounds {
                let time = Duration::from_secs(args.secs.into());
                let (more, took) = load(&stage, &kind, *clients, time).await;
                rates.push(count(more.len()) / took.as_secs_f64());
                times.extend(more);
            }
            let shares = watched.since(&before);
            times.sort();
            let per_s = median(rates);
            table.figure(&json!({
                "figure": "reads",
                "read": kind.name,
                "others": args.others,
                "clients": clients,
                "per_s": per_s.round(),
                "p50_ms": rounded(ms(at(&times, 0.5))),
                "p99_ms": rounded(ms(at(&times, 0.99))),
                "selects_8_per_read": rounded(limit.selects_8 / per_s),
                "goal": kind.goal,
                "nexus_cores": rounded(shares.nexus),
                "postgres_cores": rounded(shares.postgres),
                "load_cores": rounded(shares.us),
            }));
        }
    }
    table.print();
}

fn kinds(stage: &Stage) -> [Kind; 2] {
    let get = |path: &str| {
        request(stage.nexus.external(), path, stage.client.token())
    };
    let ids = stage.database.texts(&format!(
        "SELECT id::TEXT FROM instance WHERE name LIKE '{}%'",
        stage::OTHER
    ));
    let one = ids.iter().map(|id| get(&format!("/v1/instances/{id}")));
    let page = format!("/v1/instances?project={PROJECT}&limit={PAGE}");
    [
        Kind {
            name: "an instance",
            clients: &[1, 8, 32],
            goal: 8.0,
            requests: Arc::new(one.collect()),
        },
        Kind {
            name: "a page of 100",
            clients: &[1, 8],
            goal: 60.0,
            requests: Arc::new(vec![get(&page)]),
        },
    ]
}

/// So many clients ask, each as soon as it has its answer, for about so long:
/// how long each answer took, and for how long they asked.
async fn load(
    stage: &Stage,
    kind: &Kind,
    clients: u32,
    time: Duration,
) -> (Vec<Duration>, Duration) {
    let address = stage.nexus.external();
    let mut connections = Vec::with_capacity(as_index(clients));
    for _ in 0..clients {
        connections.push(Connection::open(address).await);
    }
    let began = Instant::now();
    let asking = connections.into_iter().map(|mut connection| {
        let requests = Arc::clone(&kind.requests);
        tokio::spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < time {
                let any = fastrand::usize(..requests.len());
                let sent = Instant::now();
                connection.ask(&requests[any]).await;
                times.push(sent.elapsed());
            }
            times
        })
    });
    let times = futures::future::join_all(asking).await;
    let took = began.elapsed();
    (times.into_iter().flat_map(Result::unwrap).collect(), took)
}
