//! Several Nexuses on one database: what one leaves, another finishes, once.

use futures::future::join_all;
use harness::{Client, GIB, Setup, TestNexus, Tuning, Weather, eventually, is};
use serde_json::json;
use std::time::{Duration, Instant};

/// More faults than a test can use up.
const ALWAYS: u32 = 1_000_000;

/// Two Nexuses, and a sled that is waited for as long as the test takes.
fn two(lease_ms: u32) -> Setup {
    Setup {
        other_nexuses: 1,
        agent: harness::AgentSettings::sized(128, 128),
        tuning: Tuning {
            lease_ms,
            sled_timeout_ms: 120_000,
            ..Tuning::default()
        },
        ..Setup::one_sled()
    }
}

async fn create(client: &Client, name: String) -> String {
    let mut body = Client::instance(&name, true);
    body["ncpus"] = 1.into();
    body["memory"] = GIB.into();
    client.create_as(body).await
}

/// So many starts, of which each has a saga that waits for the sled.
async fn in_flight(nexus: &TestNexus, starts: u64) -> Vec<String> {
    let sled = &nexus.agents[0];
    sled.fault("register", ALWAYS, json!({ "hang": true })).await;
    let asked = sled.calls("register").await;
    let creates = (0..starts).map(|n| create(nexus, format!("i{n}")));
    let ids = join_all(creates).await;
    eventually("the sled is asked for all of them", async || {
        (sled.calls("register").await >= asked + starts).then_some(())
    })
    .await;
    ids
}

/// Each of them runs, by one attempt.
async fn all_run_once(nexus: &TestNexus, client: &Client, ids: &[String]) {
    for id in ids {
        client.wait(id, is("running")).await;
        let attempts = client.attempts(id).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!(attempts[0]["outcome"], "started");
        nexus.vmm_of(id).await;
    }
    let sagas = "SELECT count(*) FROM saga WHERE name = 'instance_start'";
    let starts = i64::try_from(ids.len()).unwrap();
    assert_eq!(nexus.database.count(sagas), starts);
}

/// Waits until each process has renewed for a whole lease: none takes another's
/// before that.
async fn steady(nexus: &TestNexus, lease_ms: u32) {
    let unsteady = format!(
        "SELECT count(*) FROM nexus_lease WHERE taken_by IS NULL \
         AND steady_since > now() - {lease_ms} * INTERVAL '1 millisecond'"
    );
    eventually("leases may be taken", async || {
        (nexus.database.count(&unsteady) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_survivor_finishes_all_that_a_killed_nexus_had_begun_each_once() {
    // More than are adopted at once.
    const STARTS: u64 = 60;
    let mut nexus = TestNexus::with(two(1_000)).await;
    steady(&nexus, 1_000).await;
    let ids = in_flight(&nexus, STARTS).await;
    nexus.kill_nexus().await;
    // Whichever ran them: those of the dead one are asked for again.
    let adopted = "SELECT count(*) FROM saga WHERE adopt_generation > 1";
    let left = "SELECT count(*) FROM saga s JOIN nexus_lease l \
                ON l.id = s.current_sec \
                WHERE s.time_ended IS NULL AND l.taken_by IS NOT NULL";
    eventually("the survivor has adopted them", async || {
        let none_left = nexus.database.count(left) == 0;
        (none_left && nexus.database.count(adopted) > 0).then_some(())
    })
    .await;
    nexus.agents[0].clear_faults().await;
    all_run_once(&nexus, &nexus.at_other(0), &ids).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_nexus_that_was_paused_past_its_lease_changes_nothing_and_exits() {
    let mut nexus = TestNexus::with(two(1_000)).await;
    steady(&nexus, 1_000).await;
    let ids = in_flight(&nexus, 8).await;
    nexus.process.child.pause();
    let taken = "SELECT count(*) FROM nexus_lease WHERE taken_by <> id";
    eventually("its lease is taken", async || {
        (nexus.database.count(taken) == 1).then_some(())
    })
    .await;
    nexus.agents[0].clear_faults().await;
    let other = nexus.at_other(0);
    all_run_once(&nexus, &other, &ids).await;
    let before: Vec<_> =
        ids.iter().map(|id| nexus.database.instance(id)).collect();

    nexus.process.child.resume();
    assert_eq!(nexus.process.child.exited().await, Some(3));
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(nexus.database.instance(id), before);
    }
    all_run_once(&nexus, &other, &ids).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_nexus_that_is_ended_in_order_hands_over_at_once() {
    // So long that it is not the end of the lease that is waited for.
    const LEASE: Duration = Duration::from_secs(30);
    let lease_ms = u32::try_from(LEASE.as_millis()).unwrap();
    let mut nexus = TestNexus::with(two(lease_ms)).await;
    let ids = in_flight(&nexus, 8).await;
    let began = Instant::now();
    assert_eq!(nexus.process.child.terminate().await, Some(0));
    nexus.agents[0].clear_faults().await;
    all_run_once(&nexus, &nexus.at_other(0), &ids).await;
    assert!(began.elapsed() < LEASE / 2, "it waited for the lease to run out");
    let given_back = "SELECT count(*) FROM nexus_lease WHERE taken_by = id";
    assert_eq!(nexus.database.count(given_back), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn two_nexuses_that_are_asked_to_start_one_instance_start_it_once() {
    let nexus = TestNexus::with(two(1_000)).await;
    let other = nexus.at_other(0);
    let mut ids = Vec::new();
    for n in 0..8 {
        let body = Client::instance(&format!("i{n}"), false);
        ids.push(nexus.create_as(body).await);
    }
    let both = ids.iter().map(|id| async {
        let (here, there) =
            tokio::join!(nexus.ask(id, "start"), other.ask(id, "start"));
        here.expect(202);
        there.expect(202);
    });
    join_all(both).await;
    all_run_once(&nexus, &other, &ids).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn nobody_is_taken_for_dead_since_the_database_was_away() {
    let mut nexus =
        TestNexus::with(Setup { database_link: true, ..two(1_000) }).await;
    steady(&nexus, 1_000).await;
    let ids = in_flight(&nexus, 4).await;
    let link = nexus.database_link.as_ref().unwrap();
    link.set(Weather::Cut);
    let expired = "SELECT count(*) FROM nexus_lease \
                   WHERE lease_expires < now() - INTERVAL '1 second'";
    eventually("all leases have run out", async || {
        (nexus.database.count(expired) == 2).then_some(())
    })
    .await;
    link.set(Weather::Clear);
    nexus.agents[0].clear_faults().await;
    all_run_once(&nexus, &nexus.at_other(0), &ids).await;
    let taken = "SELECT count(*) FROM nexus_lease WHERE taken_by IS NOT NULL";
    assert_eq!(nexus.database.count(taken), 0);
    let adopted = "SELECT count(*) FROM saga WHERE adopt_generation > 1";
    assert_eq!(nexus.database.count(adopted), 0);
    assert_eq!(nexus.process.child.has_exited(), None);
    assert_eq!(nexus.others[0].child.has_exited(), None);
    nexus.check_invariants().await;
}
