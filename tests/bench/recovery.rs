//! From the kill -9 of a Nexus until all its sagas run again elsewhere.
//!
//! The sagas are starts whose sled does not answer: they stay in flight from
//! the first kill to the last. One runs again when the sled is asked again.

use crate::figures::{at, rounded};
use crate::table::Table;
use harness::{
    Agent, AgentSettings, Client, Database, GIB, NexusProcess, PROJECT, Tuning,
    eventually,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many Nexuses are killed, one after the other
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How many sagas each of them has in flight
    #[arg(long, default_value_t = 100)]
    sagas: u32,
}

/// As in production, but that a sled is waited for as long as this takes.
fn tuning() -> Tuning {
    Tuning { sled_timeout_ms: 3_600_000, ..Tuning::production() }
}

pub(crate) async fn run(args: &Args) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create().await;
    let mut runs = nexus(dir.path(), 0, &database).await;
    let token = runs.bootstrap("main", "admin", true).await;
    let client = Client::new(runs.external(), &token);
    let room = AgentSettings::sized(args.sagas, args.sagas);
    let sled =
        Agent::start(dir.path(), 0, &[runs.internal()], None, &room).await;
    sled.fault("register", u32::MAX, json!({ "hang": true })).await;
    begin(&client, args.sagas).await;
    asked(&sled, args.sagas.into(), Instant::now()).await;

    let mut table = Table::new(
        "Takeovers: until all sagas run again. Goal for 1,000: 10 s after the \
         lease has run out.",
        &["kill", "sagas", "seconds", "seconds_after_lease"],
    );
    let mut whole = Vec::new();
    let mut after = Vec::new();
    for n in 1..=args.kills {
        let next = nexus(dir.path(), n, &database).await;
        may_take(&database).await;
        let before = sled.calls("register").await;
        let killed = Instant::now();
        runs.child.kill().await;
        let runs_out = lease_end(&database, &runs);
        let wanted = before + u64::from(args.sagas);
        let took = asked(&sled, wanted, killed).await;
        let late = SystemTime::now().duration_since(runs_out);
        let late = late.expect("the lease was taken while it lasted");
        table.figure(&json!({
            "figure": "recovery",
            "kill": n,
            "sagas": args.sagas,
            "seconds": rounded(took.as_secs_f64()),
            "seconds_after_lease": rounded(late.as_secs_f64()),
        }));
        whole.push(took);
        after.push(late);
        runs = next;
    }
    for (kill, share) in [("median", 0.5), ("at most", 1.0)] {
        let secs = |times: &mut Vec<Duration>| {
            times.sort();
            rounded(at(times, share).as_secs_f64())
        };
        table.figure(&json!({
            "figure": "recovery",
            "kill": kill,
            "sagas": args.sagas,
            "seconds": secs(&mut whole),
            "seconds_after_lease": secs(&mut after),
        }));
    }
    table.print();
}

/// When the lease of that one runs out, or has, by the clock of the server,
/// which is ours.
fn lease_end(database: &Database, nexus: &NexusProcess) -> SystemTime {
    let secs = database.texts(&format!(
        "SELECT extract(epoch FROM lease_expires)::TEXT FROM nexus_lease \
         WHERE internal_address = '{}'",
        nexus.internal()
    ));
    let secs: f64 = secs[0].parse().unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(secs)
}

async fn nexus(dir: &Path, n: usize, database: &Database) -> NexusProcess {
    let dir = dir.join(format!("nexus-{n}"));
    std::fs::create_dir(&dir).unwrap();
    NexusProcess::start(&dir, &database.url, &tuning()).await
}

/// As many starts as sagas are wanted.
async fn begin(client: &Client, sagas: u32) {
    eventually("the sled is registered", async || {
        let path = "/v1/system/hardware/sleds";
        let sleds: Value = client.get(path).await.expect(200);
        (!sleds["items"].as_array()?.is_empty()).then_some(())
    })
    .await;
    let project = json!({ "name": PROJECT, "description": "" });
    client.post("/v1/projects", project).await.expect(201);
    for n in 0..sagas {
        let mut body = Client::instance(&format!("i{n}"), true);
        body["ncpus"] = 1.into();
        body["memory"] = GIB.into();
        client.create_as(body).await;
    }
}

/// Waits until the sled was asked so often; how long after `since` that was.
async fn asked(sled: &Agent, times: u64, since: Instant) -> Duration {
    while sled.calls("register").await < times {
        assert!(since.elapsed() < PATIENCE, "not all sagas run again");
        tokio::time::sleep(LOOK).await;
    }
    since.elapsed()
}

/// Waits until each process has renewed for a whole lease: before that it takes
/// no other's.
async fn may_take(database: &Database) {
    let lease = tuning().lease_ms;
    let unsteady = format!(
        "SELECT count(*) FROM nexus_lease WHERE taken_by IS NULL \
         AND steady_since > now() - {lease} * INTERVAL '1 millisecond'"
    );
    eventually("the survivor may take leases", async || {
        (database.count(&unsteady) == 0).then_some(())
    })
    .await;
}
