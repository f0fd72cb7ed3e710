//! Starts: one at a time, and many at once, as ratios to what the database can
//! do at best in the same run; and the same with a millisecond added to each
//! commit, which is what a disk elsewhere or a quorum costs.

use crate::limit::{self, Limit};
use crate::stage::Stage;
use crate::table::Table;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many instances are started one after the other, in each round
    #[arg(long, default_value_t = 40)]
    one: u32,
    /// How many at once
    #[arg(long, default_value_t = 200)]
    burst: u32,
    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long `pgbench` runs for each of its figures, in seconds
    #[arg(long, default_value_t = 3)]
    limit_secs: u32,
    /// Instances at rest, and finished sagas, that are in the tables besides
    #[arg(long, default_value_t = 1_000)]
    others: u32,
}

pub(crate) async fn run(args: &Args) {
    let mut one = Table::new(
        "One start at a time, in milliseconds, and in commits of that run.",
        &[
            "commit_delay_us",
            "median_ms",
            "p99_ms",
            "sled_ms",
            "commit_ms",
            "commits",
            "wal_syncs",
        ],
    );
    let mut burst = Table::new(
        "Starts at once.",
        &[
            "commit_delay_us",
            "at_once",
            "starts_per_s",
            "commits_64_per_start",
            "p99_ms",
            "p99_by_throughput",
        ],
    );
    let stage = Stage::set(args.burst, args.others).await;
    for commit_delay_us in [0, 1000] {
        stage.delay_commits(commit_delay_us);
        let limit = limit::measure(&stage.database, args.limit_secs).await;
        println!("{}", limit.figure(commit_delay_us));
        let sled_ms = stage.sled_ms().await;
        let mut times = Vec::new();
        let mut syncs = 0.0;
        for _ in 0..args.rounds {
            let before = stage.wal_syncs();
            for id in stage.instances.iter().take(as_index(args.one)) {
                times.push(stage.started(id).await);
            }
            syncs += stage.wal_syncs() - before;
            stage.all_stopped().await;
        }
        times.sort();
        let median = ms(at(&times, 0.5));
        let commit_ms = limit.commit_ms();
        one.figure(&json!({
            "figure": "one_start",
            "commit_delay_us": commit_delay_us,
            "median_ms": rounded(median),
            "p99_ms": rounded(ms(at(&times, 0.99))),
            "sled_ms": rounded(sled_ms),
            "commit_ms": rounded(commit_ms),
            "commits": rounded((median - sled_ms) / commit_ms),
            "wal_syncs":
                rounded(syncs / f64::from(args.one * args.rounds)),
        }));
        for _ in 0..args.rounds {
            burst.figure(&at_once(&stage, &limit, commit_delay_us).await);
            stage.all_stopped().await;
        }
    }
    one.print();
    burst.print();
}

async fn at_once(
    stage: &Stage,
    limit: &Limit,
    commit_delay_us: u32,
) -> serde_json::Value {
    let began = Instant::now();
    let mut starts: FuturesUnordered<_> =
        stage.instances.iter().map(|id| stage.started(id)).collect();
    let mut times = Vec::new();
    while let Some(time) = starts.next().await {
        times.push(time);
    }
    let all = began.elapsed();
    times.sort();
    let count = u32::try_from(times.len()).unwrap();
    let per_s = f64::from(count) / all.as_secs_f64();
    json!({
        "figure": "burst",
        "commit_delay_us": commit_delay_us,
        "at_once": count,
        "starts_per_s": rounded(per_s),
        "commits_64_per_start": rounded(limit.commits_64 / per_s),
        "p99_ms": rounded(ms(at(&times, 0.99))),
        "p99_by_throughput":
            rounded(at(&times, 0.99).as_secs_f64() / all.as_secs_f64()),
    })
}

fn as_index(n: u32) -> usize {
    usize::try_from(n).unwrap()
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    let last = f64::from(u32::try_from(sorted.len() - 1).unwrap());
    // Of a non-negative number below 2^32.
    let index = format!("{:.0}", last * share).parse::<usize>().unwrap();
    sorted[index]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
