//! A database that goes away: while a Nexus starts, and for longer than its
//! lease while it works.

use harness::{
    Client, Database, NexusProcess, Setup, TestNexus, Tuning, Weather,
    eventually, is,
};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_nexus_that_starts_waits_for_a_database_that_goes_away() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let mut barrier = database.hold("LOCK TABLE nexus_lease");
    let tuning = Tuning::default();
    let starts = NexusProcess::start(dir.path(), &database.url, &tuning);
    let goes_away = async {
        // It has migrated, and is about to begin its lease.
        barrier.reached_by(1).await;
        database
            .try_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE query LIKE 'INSERT INTO nexus_lease%' \
                   AND datname = current_database()",
            )
            .unwrap();
        barrier.lift();
    };
    let (mut nexus, ()) = tokio::join!(starts, goes_away);
    assert_eq!(nexus.child.has_exited(), None);
    let leases = database.count("SELECT count(*) FROM nexus_lease");
    assert_eq!(leases, 1);
}

/// Asks for a look and a start, over and over, until `over`; how often that
/// was answered with 503.
async fn load(client: Client, id: String, over: &AtomicBool) -> u32 {
    let mut unavailable = 0;
    while !over.load(Ordering::Relaxed) {
        for answer in [
            client.get(&format!("/v1/instances/{id}")).await,
            client.ask(&id, "start").await,
        ] {
            if answer.status == 503 {
                assert!(answer.retry_after.is_some());
                unavailable += 1;
            } else {
                assert!([200, 202].contains(&answer.status), "{answer:?}");
            }
        }
    }
    unavailable
}

#[tokio::test]
async fn a_database_that_is_away_for_many_leases_costs_nothing_but_the_time() {
    let outage = outage();
    let nexus =
        TestNexus::with(Setup { database_link: true, ..Setup::one_sled() })
            .await;
    let link = nexus.database_link.as_ref().unwrap();
    let (runs, vmm) = nexus.running("runs", json!({})).await;
    // One that is being started when the database goes away.
    nexus.agents[0].hold(json!({ "boot": true })).await;
    let boots = nexus.create("boots", true).await;
    nexus.wait_for_vmm(&boots).await;
    let memory = nexus.process.child.resident_bytes();

    link.set(Weather::Cut);
    let over = AtomicBool::new(false);
    let began = Instant::now();
    let loads = (0..8).map(|_| load((*nexus).clone(), runs.clone(), &over));
    let ends = async {
        // It is the length of the outage that is tried here.
        tokio::time::sleep(outage).await;
        nexus.agents[0].hold(json!({ "boot": false })).await;
        link.set(Weather::Clear);
        eventually("Nexus answers again", async || {
            let path = format!("/v1/instances/{runs}");
            (nexus.get(&path).await.status == 200).then_some(())
        })
        .await;
        over.store(true, Ordering::Relaxed);
    };
    let (unavailable, ()) =
        tokio::join!(futures::future::join_all(loads), ends);
    assert!(began.elapsed() >= outage);
    assert!(unavailable.iter().all(|times| *times > 0), "{unavailable:?}");

    // The process is the same, and nothing was given up.
    nexus.wait(&boots, is("running")).await;
    assert_eq!(nexus.vmm_of(&runs).await, vmm, "it was not disturbed");
    for id in [&runs, &boots] {
        let attempts = nexus.attempts(id).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!(attempts[0]["outcome"], "started");
    }
    let database = &nexus.database;
    let leases = database.count("SELECT count(*) FROM nexus_lease");
    assert_eq!(leases, 1);
    let taken = "SELECT count(*) FROM nexus_lease WHERE taken_by IS NOT NULL";
    assert_eq!(database.count(taken), 0);
    nexus.check_invariants().await;

    let grown = nexus.process.child.resident_bytes().saturating_sub(memory);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
}

/// How long the database is away: many leases of a test's Nexus, and longer than
/// two requests wait for a connection, after the second that they may do without. A
/// minute of it, as `NEXUS_TEST_OUTAGE_SECS=60` has it, is for a person's
/// patience.
fn outage() -> Duration {
    let secs = std::env::var("NEXUS_TEST_OUTAGE_SECS").ok();
    Duration::from_secs(secs.map_or(12, |secs| secs.parse().unwrap()))
}
