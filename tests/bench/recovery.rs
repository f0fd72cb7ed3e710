//! From the kill -9 of a Nexus until all its sagas run again elsewhere.
//!
//! The sagas are starts whose sled does not answer: they stay in flight from
//! the first kill to the last. One runs again when the sled is asked again.

use harness::{
    Agent, AgentSettings, Client, Database, GIB, NexusProcess, PROJECT, Tuning,
    eventually,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// Longer than it may take.
const PATIENCE: Duration = Duration::from_secs(60);

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

    let mut times = Vec::new();
    for n in 1..=args.kills {
        let next = nexus(dir.path(), n, &database).await;
        may_take(&database).await;
        let before = sled.calls("register").await;
        let killed = Instant::now();
        runs.child.kill().await;
        let wanted = before + u64::from(args.sagas);
        let took = asked(&sled, wanted, killed).await;
        println!(
            "{}",
            json!({ "figure": "recovery", "kill": n, "sagas": args.sagas,
                "seconds": took.as_secs_f64() })
        );
        times.push(took);
        runs = next;
    }
    times.sort();
    let secs = |time: Option<&Duration>| time.unwrap().as_secs_f64();
    println!(
        "{} kills with {} sagas in flight each: all run again after {:.2} s \
         (median), {:.2} s (at most)",
        args.kills,
        args.sagas,
        secs(times.get(times.len() / 2)),
        secs(times.last()),
    );
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
