//! What the system starts again by itself: when, how often, and when not.

use harness::{Client, GIB, Setup, TestNexus, eventually, is};
use serde_json::{Value, json};

/// The seconds from one time to another, as an answer has them.
fn seconds(from: &Value, to: &Value) -> i64 {
    let time = |v: &Value| {
        v.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    };
    (time(to) - time(from)).num_seconds()
}

/// Waits until the instance runs, started by its `n`th attempt.
async fn runs_again(nexus: &TestNexus, id: &str, n: usize) -> Value {
    eventually("it was started again", async || {
        let attempts = nexus.attempts(id).await;
        let ran = attempts[0]["outcome"] == "started";
        (attempts.len() == n && ran).then_some(())
    })
    .await;
    nexus.wait(id, is("running")).await
}

/// An instance that ran, crashed, was started again and crashed again: it
/// rests in its cooldown.
async fn crashed_twice(nexus: &TestNexus) -> (String, Value) {
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    runs_again(nexus, &id, 2).await;
    let vmm = nexus.vmm_of(&id).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    let failed = nexus.wait(&id, is("failed")).await;
    // That somebody will look when the cooldown is over, and not before, is
    // how it is known that nothing is done now.
    let rests = format!(
        "SELECT count(*) FROM instance WHERE id = '{id}' \
         AND reconcile_at = time_last_auto_restarted + INTERVAL '5 minutes'"
    );
    eventually("it rests in its cooldown", async || {
        (nexus.database.count(&rests) == 1).then_some(())
    })
    .await;
    (id, failed)
}

async fn set_policy(nexus: &TestNexus, id: &str, policy: &str) -> Value {
    let change = json!({
        "ncpus": 2,
        "memory": 2 * GIB,
        "auto_restart_policy": policy,
        "boot_disk": null,
        "cpu_platform": null,
    });
    nexus.put(&format!("/v1/instances/{id}"), change).await.expect(200)
}

#[tokio::test]
async fn a_second_crash_waits_for_the_cooldown() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, failed) = crashed_twice(&nexus).await;
    assert_eq!(failed["intended_state"], "running");
    assert_eq!(failed["last_failure"]["kind"], "panic");
    assert_eq!(failed["start_failure"], json!(null));
    let wait = seconds(
        &failed["time_last_auto_restarted"],
        &failed["auto_restart_cooldown_expiration"],
    );
    assert_eq!(wait, 300);
    assert_eq!(nexus.attempts(&id).await.len(), 2);

    nexus.sql(&format!(
        "UPDATE instance SET time_last_auto_restarted = \
         time_last_auto_restarted - INTERVAL '5 minutes' WHERE id = '{id}'"
    ));
    nexus.make_due(&id);
    let running = runs_again(&nexus, &id, 3).await;
    assert_eq!(running["last_failure"], json!(null));
    let since_then = seconds(
        &failed["time_last_auto_restarted"],
        &running["time_last_auto_restarted"],
    );
    assert!(since_then >= 0, "the cooldown counts anew");
    assert!(running["auto_restart_cooldown_expiration"].is_string());
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_crash_long_after_the_last_restart_is_mended_at_once() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    runs_again(&nexus, &id, 2).await;
    nexus.sql(&format!(
        "UPDATE instance SET time_last_auto_restarted = \
         time_last_auto_restarted - INTERVAL '5 minutes' WHERE id = '{id}'"
    ));
    let view = nexus.instance_view(&id).await;
    assert_eq!(view["auto_restart_cooldown_expiration"], json!(null));
    let vmm = nexus.vmm_of(&id).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    runs_again(&nexus, &id, 3).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_user_who_asks_need_not_wait_for_the_cooldown() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = crashed_twice(&nexus).await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 3);
    assert_eq!(attempts[0]["reason"], "user");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_a_restart() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = crashed_twice(&nexus).await;
    let stopped = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopped["run_state"], "stopped");
    nexus.settled(&id).await;
    nexus.make_due(&id);
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    assert_eq!(nexus.instance_view(&id).await["run_state"], "stopped");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_failed_start_is_tried_again_ever_later_and_says_when() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    agent.set(json!({ "failure_share": 1.0 })).await;
    let id = nexus.create("db", true).await;
    let mut last = json!(null);
    for wait in [5, 10, 20] {
        let failed = nexus
            .wait(&id, |view| {
                is("failed")(view) && view["start_failure"]["time"] != last
            })
            .await;
        let why = &failed["start_failure"];
        assert_eq!(why["kind"], "boot_failed", "{why}");
        assert_eq!(why["transient"], true);
        assert_eq!(seconds(&why["time"], &why["next_retry_at"]), wait);
        assert_eq!(failed["last_failure"], json!(null), "it never ran");
        last = why["time"].clone();
        if wait == 20 {
            agent.set(json!({ "failure_share": 0.0 })).await;
        }
        nexus.make_due(&id);
    }
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["start_failure"], json!(null));
    // Its cooldown is for what ran.
    assert_eq!(running["time_last_auto_restarted"], json!(null));
    let attempts = nexus.attempts(&id).await;
    let told: Vec<_> =
        attempts.iter().map(|a| (&a["reason"], &a["outcome"])).collect();
    assert_eq!(
        json!(told),
        json!([
            ["auto_restart", "started"],
            ["auto_restart", "failed"],
            ["auto_restart", "failed"],
            ["create", "failed"],
        ]),
    );

    // Having run, it begins anew: restarted at once, and then after 5 s.
    agent.set(json!({ "failure_share": 1.0 })).await;
    let vmm = nexus.vmm_of(&id).await;
    agent.guest(&vmm, "panic").await;
    let failed = nexus
        .wait(&id, |view| {
            is("failed")(view) && !view["start_failure"].is_null()
        })
        .await;
    let why = &failed["start_failure"];
    assert_eq!(seconds(&why["time"], &why["next_retry_at"]), 5);
    assert_eq!(failed["last_failure"]["kind"], "panic", "both hold");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_user_who_asks_begins_the_waits_anew() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].set(json!({ "failure_share": 1.0 })).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("failed")).await;
    for _ in 0..2 {
        nexus.ask(&id, "start").await.expect(202);
        let failed = nexus.wait(&id, is("failed")).await;
        let why = &failed["start_failure"];
        assert_eq!(seconds(&why["time"], &why["next_retry_at"]), 5);
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn against_its_policy_a_failed_start_is_not_tried_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    agent.set(json!({ "failure_share": 1.0 })).await;
    let mut body = Client::instance("db", true);
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["start_failure"]["kind"], "boot_failed");
    assert_eq!(failed["start_failure"]["next_retry_at"], json!(null));
    nexus.settled(&id).await;
    // Nor when somebody looks at it, whatever for.
    nexus.make_due(&id);
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);

    // Once it may, it is: what it waited for has changed.
    agent.set(json!({ "failure_share": 0.0 })).await;
    set_policy(&nexus, &id, "best_effort").await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.attempts(&id).await[0]["reason"], "auto_restart");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_policy_that_forbids_it_ends_the_wait_for_a_restart() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = crashed_twice(&nexus).await;
    let view = set_policy(&nexus, &id, "never").await;
    assert_eq!(view["auto_restart_enabled"], false);
    assert_eq!(view["run_state"], "failed");
    nexus.make_due(&id);
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    nexus.check_invariants().await;
}
