//! How long records are kept.

use harness::TestNexus;

/// Adds finished attempts of a reason, one a day from `first_day` days ago on
/// backwards.
fn add_attempts(nexus: &TestNexus, instance: &str, reason: &str, days: &str) {
    nexus
        .database
        .try_sql(&format!(
            "INSERT INTO start_attempt \
                 (id, instance_id, reason, time_started, time_ended, outcome, \
                  held_back) \
             SELECT gen_random_uuid(), '{instance}', '{reason}', \
                 now() - n * INTERVAL '1 day', now(), 'superseded', 0 \
             FROM generate_series({days}) AS n"
        ))
        .unwrap();
}

async fn prune(nexus: &TestNexus) {
    let store = nexus.database.datastore();
    let mut after = None;
    loop {
        let page = store.start_attempts_prune(after).await.unwrap();
        match page.last {
            Some(last) => after = Some(last),
            None => return,
        }
    }
}

#[tokio::test]
async fn attempts_are_kept_for_ninety_days() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("old", false).await;
    add_attempts(&nexus, &id, "user", "1, 120");
    prune(&nexus).await;
    let kept = "SELECT count(*) FROM start_attempt";
    assert_eq!(nexus.database.count(kept), 89);
}

#[tokio::test]
async fn the_last_twenty_attempts_are_kept_however_old() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("old", false).await;
    add_attempts(&nexus, &id, "user", "100, 150");
    prune(&nexus).await;
    assert_eq!(nexus.attempts(&id).await.len(), 20);
}

#[tokio::test]
async fn of_automatic_attempts_the_last_hundred_are_kept() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("flapping", false).await;
    // Four a day.
    for _ in 0..4 {
        add_attempts(&nexus, &id, "auto_restart", "1, 40");
    }
    add_attempts(&nexus, &id, "user", "41, 42");
    prune(&nexus).await;
    let kept = |reason: &str| {
        nexus.database.count(&format!(
            "SELECT count(*) FROM start_attempt WHERE reason = '{reason}'"
        ))
    };
    assert_eq!((kept("auto_restart"), kept("user")), (100, 2));
}

#[tokio::test]
async fn old_sagas_and_vmms_are_forgotten_and_what_is_at_work_is_not() {
    let nexus = TestNexus::start().await;
    let ended = nexus.create("ended", true).await;
    nexus.wait(&ended, harness::is("running")).await;
    nexus.ask(&ended, "stop").await.expect(202);
    nexus.wait(&ended, harness::is("stopped")).await;
    let runs = nexus.create("runs", true).await;
    nexus.wait(&runs, harness::is("running")).await;
    nexus.settled(&ended).await;
    nexus.settled(&runs).await;
    nexus
        .database
        .try_sql(
            "UPDATE saga SET time_ended = time_ended - INTERVAL '15 days'; \
             UPDATE vmm SET time_ended = time_ended - INTERVAL '91 days'",
        )
        .unwrap();
    let store = nexus.database.datastore();
    store.sagas_prune(None).await.unwrap();
    store.vmms_prune(None).await.unwrap();
    let count = |table: &str| {
        nexus.database.count(&format!("SELECT count(*) FROM {table}"))
    };
    assert_eq!((count("saga"), count("saga_node_event")), (0, 0));
    assert_eq!(count("vmm"), 1, "that of the instance that runs");
    assert_eq!(nexus.instance_view(&runs).await["run_state"], "running");
}
