//! What a control plane costs at which nobody asks for anything: instances at
//! rest, and sleds that say that they are there. The sleds are the real agent's
//! code, a thousand of them in this process, which is not what is measured.

use crate::figures::rounded;
use crate::stage::Stage;
use crate::table::Table;
use crate::usage::Watched;
use clap::Parser;
use futures::StreamExt;
use harness::{Database, eventually};
use serde_json::json;
use sled_agent::Server;
use sled_agent::config::Config;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Instances at rest: so many, then so many, …
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    instances: Vec<u32>,
    /// How many sleds there are
    #[arg(long, default_value_t = 1_000)]
    sleds: u32,
    /// How long it is watched each time, in seconds
    #[arg(long, default_value_t = 60)]
    secs: u64,
    /// How long before that it is left alone, in seconds
    #[arg(long, default_value_t = 15)]
    settle_secs: u64,
}

/// Sleds that are started at once.
const AT_ONCE: usize = 16;

/// How many queries are told, those that cost most.
const QUERIES: u32 = 15;

pub(crate) async fn run(args: &Args) {
    let mut shares = Table::new(
        "At rest. Goals: 0.05 of a core, 150 MiB.",
        &[
            "instances",
            "sleds",
            "nexus_cores",
            "postgres_cores",
            "sleds_cores",
            "nexus_mib",
            "nexus_most_mib",
            "transactions_per_s",
        ],
    );
    let mut queries = Table::new(
        "The queries that cost the server most.",
        &[
            "instances",
            "calls_per_s",
            "ms_each",
            "ms_per_s",
            "rows_each",
            "query",
        ],
    );
    let mut rows = Table::new(
        "Rows that were read, by table and second.",
        &["instances", "table", "by_whole_scans", "by_indexes", "written"],
    );
    more_files();
    let mut stage = Stage::set(1, 0).await;
    let dir = stage.dir.path().to_path_buf();
    let fleet = fleet(&dir, args.sleds, stage.nexus.internal()).await;
    eventually("all sleds are registered", async || {
        let there = stage.database.count("SELECT count(*) FROM sled");
        (there == i64::from(args.sleds)).then_some(())
    })
    .await;
    let counted = counts_queries(&stage.database);
    let watched = Watched::new(&stage);
    for instances in &args.instances {
        stage.fill_up_to(*instances).await;
        tokio::time::sleep(Duration::from_secs(args.settle_secs)).await;
        if counted {
            stage
                .database
                .try_sql("SELECT pg_stat_statements_reset()")
                .unwrap();
        }
        let read = tables(&stage.database);
        let transactions = stage.transactions();
        let before = watched.taken();
        tokio::time::sleep(Duration::from_secs(args.secs)).await;
        let taken = watched.since(&before);
        let secs = taken.time.as_secs_f64();
        let transactions = (stage.transactions() - transactions) / secs;
        let (now, most) = watched.nexus_mib();
        shares.figure(&json!({
            "figure": "idle",
            "instances": instances,
            "sleds": args.sleds,
            "nexus_cores": thousandths(taken.nexus),
            "postgres_cores": thousandths(taken.postgres),
            "sleds_cores": thousandths(taken.us),
            "nexus_mib": now.round(),
            "nexus_most_mib": most.round(),
            "transactions_per_s": transactions.round(),
        }));
        for (before, after) in read.iter().zip(tables(&stage.database)) {
            let per_s =
                |n: usize| rounded((after.rows[n] - before.rows[n]) / secs);
            if (0..3).any(|n| per_s(n) > 0.0) {
                rows.figure(&json!({
                    "figure": "idle_rows",
                    "instances": instances,
                    "table": after.name,
                    "by_whole_scans": per_s(0),
                    "by_indexes": per_s(1),
                    "written": per_s(2),
                }));
            }
        }
        if counted {
            for figure in costly(&stage.database, *instances, secs) {
                queries.figure(&figure);
            }
        }
    }
    for server in fleet {
        server.close().await;
    }
    rows.print();
    queries.print();
    shares.print();
}

/// The goal is fifty of them.
fn thousandths(cores: f64) -> f64 {
    (cores * 1000.0).round() / 1000.0
}

/// Each sled has some open.
fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
}

async fn fleet(dir: &Path, sleds: u32, nexus: SocketAddr) -> Vec<Server> {
    futures::stream::iter(0..sleds)
        .map(|n| sled(dir, n, nexus))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// One, as in production.
async fn sled(dir: &Path, n: u32, nexus: SocketAddr) -> Server {
    let data = dir.join(format!("fleet-{n}"));
    harness::pki::give_to_sled(&data);
    let nexus = format!("https://{nexus}");
    let config = Config::parse_from([
        "sled-agent",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--nexus",
        &nexus,
        "--vcpus",
        "128",
        "--memory-gib",
        "768",
        "--storage-gib",
        "1000",
    ]);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    Server::start(&config, &log).await.unwrap()
}

/// Whether the server counts what queries cost; this has it begin to.
fn counts_queries(database: &Database) -> bool {
    let extension = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
    let loaded = "SELECT current_setting('shared_preload_libraries')";
    let loaded = database.texts(loaded).remove(0);
    let counts = loaded.contains("pg_stat_statements")
        && database.try_sql(extension).is_ok();
    if !counts {
        println!("What queries cost is not told: no pg_stat_statements here.");
    }
    counts
}

/// What the server says of a table.
struct Read {
    name: String,
    /// Read by scans of all of it, read by indexes, and written.
    rows: [f64; 3],
}

fn tables(database: &Database) -> Vec<Read> {
    let lines = database.texts(
        "SELECT concat_ws(' ', relname, coalesce(seq_tup_read, 0), \
             coalesce(idx_tup_fetch, 0), n_tup_ins + n_tup_upd + n_tup_del) \
         FROM pg_stat_user_tables WHERE schemaname = 'public' ORDER BY relname",
    );
    let read = |line: &String| {
        let mut parts = line.split(' ');
        let name = parts.next().unwrap().to_string();
        let rows = [(); 3].map(|()| parts.next().unwrap().parse().unwrap());
        Read { name, rows }
    };
    lines.iter().map(read).collect()
}

fn costly(
    database: &Database,
    instances: u32,
    secs: f64,
) -> Vec<serde_json::Value> {
    let lines = database.texts(&format!(
        "SELECT jsonb_build_object( \
             'calls', calls, 'ms', total_exec_time, 'rows', rows, \
             'query', left(regexp_replace(query, '\\s+', ' ', 'g'), 120) \
         )::TEXT \
         FROM pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database \
                       WHERE datname = current_database()) \
         ORDER BY total_exec_time DESC LIMIT {QUERIES}"
    ));
    let figure = |line: &String| {
        let said: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| said[key].as_f64().unwrap();
        let calls = number("calls");
        json!({
            "figure": "idle_query",
            "instances": instances,
            "calls_per_s": rounded(calls / secs),
            "ms_each": (number("ms") / calls * 1000.0).round() / 1000.0,
            "ms_per_s": rounded(number("ms") / secs),
            "rows_each": rounded(number("rows") / calls),
            "query": said["query"],
        })
    };
    lines.iter().map(figure).collect()
}
