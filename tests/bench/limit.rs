//! What the machine can do at best, by `pgbench`, in the same run as what is
//! measured against it.

use harness::Database;
use serde_json::{Value, json};
use std::process::Stdio;

/// Where `cargo xtask bench` found it.
const PROGRAM: &str = "NEXUS_BENCH_PGBENCH";

/// How many rows there are to select.
const ROWS: u32 = 100_000;

/// What `pgbench` found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Durable commits of one inserted row a second, by one client.
    pub(crate) commits_1: f64,
    /// By 8 clients.
    pub(crate) commits_8: f64,
    /// By 64 clients.
    pub(crate) commits_64: f64,
    /// Transactions of one row selected by its key a second, by 8 clients.
    pub(crate) selects_8: f64,
}

impl Limit {
    /// Milliseconds that one commit takes when nobody else commits.
    pub(crate) fn commit_ms(&self) -> f64 {
        1000.0 / self.commits_1
    }

    pub(crate) fn figure(&self, commit_delay_us: u32) -> Value {
        json!({
            "figure": "limit",
            "commit_delay_us": commit_delay_us,
            "commits_1": self.commits_1.round(),
            "commits_8": self.commits_8.round(),
            "commits_64": self.commits_64.round(),
            "selects_8": self.selects_8.round(),
        })
    }
}

/// Measures for so many seconds each, on the server of `database`.
pub(crate) async fn measure(database: &Database, secs: u32) -> Limit {
    fill(database);
    let insert = "INSERT INTO limit_insert VALUES (gen_random_uuid(), 1);";
    let select = format!(
        "\\set id random(1, {ROWS})\n\
         SELECT value FROM limit_select WHERE id = :id;"
    );
    Limit {
        commits_1: pgbench(database, insert, 1, secs).await,
        commits_8: pgbench(database, insert, 8, secs).await,
        commits_64: pgbench(database, insert, 64, secs).await,
        selects_8: pgbench(database, &select, 8, secs).await,
    }
}

/// One by one: `VACUUM` takes no other statement beside it.
fn fill(database: &Database) {
    for sql in [
        "DROP TABLE IF EXISTS limit_insert, limit_select",
        "CREATE TABLE limit_insert (id UUID PRIMARY KEY, n INT8)",
        &format!(
            "CREATE TABLE limit_select AS \
             SELECT n AS id, n AS value FROM generate_series(1, {ROWS}) n"
        ),
        "ALTER TABLE limit_select ADD PRIMARY KEY (id)",
        "VACUUM ANALYZE limit_select",
    ] {
        database.try_sql(sql).unwrap();
    }
}

/// Transactions a second.
async fn pgbench(
    database: &Database,
    script: &str,
    clients: u32,
    secs: u32,
) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    let program = std::env::var(PROGRAM).unwrap_or("pgbench".to_string());
    let output = tokio::process::Command::new(program)
        .args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2"])
        .args(["--client", &clients.to_string(), "--time", &secs.to_string()])
        .arg("--file")
        .arg(&file)
        .arg(&database.url)
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    print!("{}", if said.contains("tps") { "" } else { &said });
    let tps = said.lines().find_map(|line| line.strip_prefix("tps = "));
    tps.and_then(|tps| tps.split(' ').next())
        .and_then(|tps| tps.parse().ok())
        .expect("pgbench says how many it was")
}
