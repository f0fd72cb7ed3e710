//! Starts: one at a time, and many at once, as ratios to what the database can
//! do at best in the same run; and the same with a millisecond added to each
//! commit, which is what a disk elsewhere or a quorum costs. With few others in
//! the tables, and with many.

mod curve;
mod svg;
mod trace;

use crate::figures::{as_index, at, count as counted, ms, rounded};
use crate::limit::{self, Limit};
use crate::stage::Stage;
use crate::table::Table;
use crate::usage::Watched;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::path::PathBuf;
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
    /// Instances at rest, and finished sagas, that are in the tables besides:
    /// so many, then so many, …
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 100_000])]
    others: Vec<u32>,
    /// Show what one start commits, one after the other, and nothing else
    #[arg(long)]
    trace: bool,
    /// Draw how long a start takes by how many there are at once, too
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

/// How many sleds there are.
const SLEDS: usize = 4;

/// How many bursts there are before the first that counts: until each connection
/// has prepared and planned what it is asked, a start costs the server half as much
/// again.
const WARM_UPS: u32 = 3;

/// What is added to each commit, in microseconds.
const DELAYS: [u32; 2] = [0, 1000];

pub(crate) async fn run(args: &Args) {
    let instances = args.burst.max(args.one);
    let mut stage = Stage::set(instances, SLEDS).await;
    if args.trace {
        stage.fill_up_to(args.others.first().copied().unwrap_or(0)).await;
        return trace::run(&stage).await;
    }
    for _ in 0..WARM_UPS {
        warm_up(&stage, instances).await;
    }
    let mut report = Report::new(args);
    for (n, others) in args.others.iter().enumerate() {
        stage.fill_up_to(*others).await;
        for commit_delay_us in DELAYS {
            stage.delay_commits(commit_delay_us);
            let limit = limit::measure(&stage.database, args.limit_secs).await;
            println!("{}", limit.figure(commit_delay_us));
            let setting = Setting {
                stage: &stage,
                limit,
                commit_delay_us,
                others: *others,
            };
            report.one(&setting).await;
            report.bursts(&setting).await;
        }
        stage.delay_commits(0);
        if n == 0
            && let Some(path) = &args.svg
        {
            curve::draw(&stage, args.rounds, path).await;
        }
    }
    report.one.print();
    report.burst.print();
}

/// What is measured first would else be measured with what is read for the
/// first time, statements that are prepared, and connections that are opened.
async fn warm_up(stage: &Stage, starts: u32) {
    at_once(stage, as_index(starts)).await;
    stage.all_stopped().await;
    stage.settled().await;
}

/// Under what something is measured.
struct Setting<'a> {
    stage: &'a Stage,
    limit: Limit,
    commit_delay_us: u32,
    others: u32,
}

struct Report<'a> {
    args: &'a Args,
    one: Table,
    burst: Table,
    /// Of the first `others`, in the order of [`DELAYS`].
    first_medians: Vec<f64>,
    measured: usize,
}

impl Report<'_> {
    fn new(args: &Args) -> Report<'_> {
        let one = Table::new(
            "One start at a time, in milliseconds, and in commits of that \
             run. Goals: 60 commits; 8 durable commits in sequence (`--trace` \
             tells them from Nexus's own); 1.2 times the first with as many \
             others as there may be.",
            &[
                "others",
                "commit_delay_us",
                "median_ms",
                "p99_ms",
                "sled_ms",
                "commit_ms",
                "commits",
                "of_first",
                "durable_commits",
                "wal_syncs",
                "transactions",
            ],
        );
        let burst = Table::new(
            "Starts at once. Goals: 60 commits at 64 clients for a start, and \
             with 1 ms commits half as many starts; p99 within 2 × what the \
             throughput implies. Then what each of them took of a core, and \
             whose that was.",
            &[
                "others",
                "commit_delay_us",
                "at_once",
                "starts_per_s",
                "commits_64_per_start",
                "median_ms",
                "p99_ms",
                "p99_by_throughput",
                "cpu_ms",
                "postgres_ms",
                "nexus_ms",
                "sleds_ms",
                "load_ms",
            ],
        );
        let first_medians = Vec::new();
        Report { args, one, burst, first_medians, measured: 0 }
    }

    async fn one(&mut self, setting: &Setting<'_>) {
        let Setting { stage, limit, commit_delay_us, others } = setting;
        let sled_ms = stage.sled_ms().await;
        warm_up(stage, 5).await;
        let mut times = Vec::new();
        let mut syncs = 0.0;
        let mut commits = 0.0;
        let mut transactions = 0.0;
        for _ in 0..self.args.rounds {
            let end = stage.wal_end();
            let (s, t) = (stage.wal_syncs(), stage.transactions());
            for id in stage.instances.iter().take(as_index(self.args.one)) {
                times.push(stage.started(id).await);
            }
            syncs += stage.wal_syncs() - s;
            transactions += stage.transactions() - t;
            commits += counted(stage.commits(&end, "1::TEXT").len());
            stage.all_stopped().await;
            stage.settled().await;
        }
        times.sort();
        let median = ms(at(&times, 0.5));
        if self.first_medians.len() < DELAYS.len() {
            self.first_medians.push(median);
        }
        let first = self.first_medians[self.measured % DELAYS.len()];
        self.measured += 1;
        let starts = f64::from(self.args.one * self.args.rounds);
        let commit_ms = limit.commit_ms();
        self.one.figure(&json!({
            "figure": "one_start",
            "others": others,
            "commit_delay_us": commit_delay_us,
            "median_ms": rounded(median),
            "p99_ms": rounded(ms(at(&times, 0.99))),
            "sled_ms": rounded(sled_ms),
            "commit_ms": rounded(commit_ms),
            "commits": rounded((median - sled_ms) / commit_ms),
            "of_first": rounded(median / first),
            "durable_commits": rounded(commits / starts),
            "wal_syncs": rounded(syncs / starts),
            "transactions": rounded(transactions / starts),
        }));
    }

    async fn bursts(&mut self, setting: &Setting<'_>) {
        for _ in 0..self.args.rounds {
            let figure = burst(setting, as_index(self.args.burst)).await;
            self.burst.figure(&figure);
            setting.stage.all_stopped().await;
            setting.stage.settled().await;
        }
    }
}

async fn burst(setting: &Setting<'_>, count: usize) -> Value {
    let watched = Watched::new(setting.stage);
    let before = watched.taken();
    let (times, all) = at_once(setting.stage, count).await;
    let taken = watched.since(&before);
    let per_s = counted(times.len()) / all.as_secs_f64();
    let p99 = at(&times, 0.99);
    let each = |cores: f64| cores * 1000.0 / per_s;
    let whose = [taken.postgres, taken.nexus, taken.sleds, taken.us];
    let [postgres, nexus, sleds, load] =
        whose.map(|cores| rounded(each(cores)));
    json!({
        "figure": "burst",
        "others": setting.others,
        "commit_delay_us": setting.commit_delay_us,
        "at_once": count,
        "starts_per_s": rounded(per_s),
        "commits_64_per_start": rounded(setting.limit.commits_64 / per_s),
        "median_ms": rounded(ms(at(&times, 0.5))),
        "p99_ms": rounded(ms(p99)),
        "p99_by_throughput": rounded(p99.as_secs_f64() / all.as_secs_f64()),
        "cpu_ms": rounded(each(whose.iter().sum())),
        "postgres_ms": postgres,
        "nexus_ms": nexus,
        "sleds_ms": sleds,
        "load_ms": load,
    })
}

/// How long each of so many starts at once took, sorted, and all together.
async fn at_once(stage: &Stage, count: usize) -> (Vec<Duration>, Duration) {
    let began = Instant::now();
    let mut starts: FuturesUnordered<_> = stage
        .instances
        .iter()
        .take(count)
        .map(|id| stage.started(id))
        .collect();
    let mut times = Vec::new();
    while let Some(time) = starts.next().await {
        times.push(time);
    }
    let all = began.elapsed();
    times.sort();
    (times, all)
}
