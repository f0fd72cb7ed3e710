//! Many who ask at once share transactions, and none of them pays for another.

use futures::future::join_all;
use harness::{AgentSettings, Client, Setup, TestNexus, is};
use serde_json::Value;

/// One sled with room for this many instances.
fn room_for(instances: u32) -> Setup {
    let agent = AgentSettings::sized(instances * 2, instances * 2);
    Setup { agent, ..Setup::one_sled() }
}

/// Makes so many instances, that are not to run yet.
async fn made(nexus: &TestNexus, prefix: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(nexus.create(&format!("{prefix}-{n}"), false).await);
    }
    for id in &ids {
        nexus.settled(id).await;
    }
    ids
}

async fn start_all(client: &Client, ids: &[String]) {
    let starts = ids.iter().map(|id| client.ask(id, "start"));
    for answer in join_all(starts).await {
        answer.expect(202);
    }
}

#[tokio::test]
async fn starts_at_once_share_transactions_and_all_run() {
    let nexus = TestNexus::with(room_for(24)).await;
    let ids = made(&nexus, "many", 24).await;
    start_all(&nexus, &ids).await;
    for id in &ids {
        nexus.wait(id, is("running")).await;
    }
    // What wrote a row last stands in it.
    let writers = "SELECT count(DISTINCT xmin::TEXT) FROM sled_reservation";
    assert!(nexus.database.count(writers) < 24);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn of_starts_at_once_those_run_for_which_there_is_room() {
    let nexus = TestNexus::with(room_for(5)).await;
    let ids = made(&nexus, "many", 16).await;
    start_all(&nexus, &ids).await;
    let mut running = 0;
    for id in &ids {
        let ended = |view: &Value| is("running")(view) || is("failed")(view);
        let view = nexus.wait(id, ended).await;
        if is("running")(&view) {
            running += 1;
        } else {
            let kind = &view["start_failure"]["kind"];
            assert_eq!(kind, "insufficient_capacity");
        }
    }
    assert_eq!(running, 5);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_that_somebody_holds_holds_up_no_other() {
    let nexus = TestNexus::with(room_for(9)).await;
    let ids = made(&nexus, "many", 9).await;
    let (held, others) = ids.split_first().unwrap();
    let row = format!("SELECT 1 FROM instance WHERE id = '{held}' FOR UPDATE");
    let mut barrier = nexus.database.hold(&row);
    let start = async {
        nexus.ask(held, "start").await.expect(202);
    };
    let rest = async {
        barrier.reached_by(1).await;
        start_all(&nexus, others).await;
        for id in others {
            nexus.wait(id, is("running")).await;
        }
        barrier.lift();
    };
    tokio::join!(start, rest);
    nexus.wait(held, is("running")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn those_that_somebody_holds_are_done_once_they_are_let_go() {
    let nexus = TestNexus::with(room_for(12)).await;
    let ids = made(&nexus, "many", 12).await;
    let (held, others) = ids.split_at(4);
    let rows = held.join("', '");
    let rows = format!(
        "SELECT 1 FROM instance WHERE id IN ('{rows}') ORDER BY id FOR UPDATE"
    );
    let mut barrier = nexus.database.hold(&rows);
    let starts = start_all(&nexus, held);
    let rest = async {
        // They have been tried with the others, and wait now each alone.
        start_all(&nexus, others).await;
        barrier.reached_by(4).await;
        for id in others {
            nexus.wait(id, is("running")).await;
        }
        barrier.lift();
    };
    tokio::join!(starts, rest);
    for id in &ids {
        nexus.wait(id, is("running")).await;
        nexus.settled(id).await;
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn starts_that_wait_for_the_quota_hold_up_nothing_else() {
    let nexus = TestNexus::with(room_for(6)).await;
    let ids = made(&nexus, "many", 6).await;
    let mut barrier =
        nexus.database.hold("SELECT 1 FROM silo_quota FOR UPDATE");
    start_all(&nexus, &ids).await;
    barrier.reached_by(1).await;
    // What asks for none of it is done meanwhile.
    made(&nexus, "other", 4).await;
    let placed = "SELECT count(*) FROM sled_reservation";
    assert_eq!(nexus.database.count(placed), 0);
    barrier.lift();
    for id in &ids {
        nexus.wait(id, is("running")).await;
    }
    nexus.check_invariants().await;
}
