//! Start attempts over time: how often, when again, until when they show.

use chrono::{DateTime, TimeDelta, Utc};
use harness::{AgentSettings, Client, GIB, Setup, TestNexus, eventually, is};
use nexus::saga::instance_start::InstanceStart;
use serde_json::{Value, json};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// The start failure of a view, once it is of this kind.
async fn failure(nexus: &TestNexus, id: &str, kind: &str) -> Value {
    let view = nexus.wait(id, |v| v["start_failure"]["kind"] == kind).await;
    assert_eq!(view["run_state"], "failed");
    assert_eq!(view["intended_state"], "running");
    view["start_failure"].clone()
}

/// The reasons and outcomes of an instance's attempts, newest first.
async fn history(nexus: &TestNexus, id: &str) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let attempts = nexus.attempts(id).await;
    attempts.iter().map(|a| (text(&a["reason"]), text(&a["outcome"]))).collect()
}

fn past(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

/// The next retry is put off for so long that only something else can be why
/// the instance starts.
fn put_off(nexus: &TestNexus, id: &str) {
    nexus.sql(&format!(
        "UPDATE instance SET next_retry_at = now() + INTERVAL '1 hour', \
             reconcile_at = now() + INTERVAL '1 hour' \
         WHERE id = '{id}'"
    ));
}

#[tokio::test]
async fn many_starts_at_once_make_one_attempt_and_one_vmm() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("popular", false).await;
    let starts = (0..16).map(|_| nexus.ask(&id, "start"));
    for answer in futures::future::join_all(starts).await {
        answer.expect(202);
    }
    nexus.wait(&id, is("running")).await;
    assert_eq!(history(&nexus, &id).await, past(&[("user", "started")]));
    assert_eq!(nexus.calls("register").await, 1);
    nexus.vmm_of(&id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_that_works_is_on_record_with_who_asked_and_when() {
    let nexus = TestNexus::start().await;
    let me = nexus.get("/v1/me").await.expect(200)["id"].clone();
    let (id, vmm) = nexus.running("runner", json!({})).await;
    nexus.agent_of(&vmm).await.guest(&vmm, "panic").await;
    eventually("it is started again", async || {
        (history(&nexus, &id).await.len() == 2).then_some(())
    })
    .await;
    nexus.wait(&id, is("running")).await;
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let attempts = nexus.attempts(&id).await;
    let asked =
        [("user", &me), ("auto_restart", &Value::Null), ("create", &me)];
    assert_eq!(attempts.len(), asked.len());
    for (attempt, (reason, by)) in attempts.iter().zip(asked) {
        assert_eq!(attempt["reason"], reason);
        assert_eq!(&attempt["requested_by"], by);
        assert_eq!(attempt["outcome"], "started");
        assert_eq!(attempt["failure"], Value::Null);
        assert!(time(&attempt["time_started"]) < time(&attempt["time_ended"]));
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_failure_leaves_the_view_when_it_runs_and_stays_on_record() {
    let nexus = TestNexus::start().await;
    nexus.fault_all("register", 100, json!({ "reject": "Not now." })).await;
    let id = nexus.create("second-try", true).await;
    let failed = failure(&nexus, &id, "host_rejected").await;
    put_off(&nexus, &id);
    nexus.clear_all_faults().await;
    nexus.hold_all(json!({ "boot": true })).await;

    let starting = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(starting["run_state"], "starting");
    assert_eq!(starting["start_failure"], Value::Null);
    nexus.hold_all(json!({ "boot": false })).await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["start_failure"], Value::Null);

    let expected = past(&[("user", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    let first = nexus.attempts(&id).await.pop().unwrap();
    assert_eq!(first["id"], failed["attempt_id"]);
    assert_eq!(first["failure"]["message"], failed["message"]);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_failure_leaves_the_view_when_it_is_stopped() {
    let nexus = TestNexus::start().await;
    nexus.fault_all("register", 1, json!({ "reject": "Not now." })).await;
    let id = nexus.create("given-up", true).await;
    failure(&nexus, &id, "host_rejected").await;

    let stopped = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopped["run_state"], "stopped");
    assert_eq!(stopped["intended_state"], "stopped");
    assert_eq!(stopped["start_failure"], Value::Null);
    // Nobody means to come back to it: it is not started by the system.
    nexus.settled(&id).await;
    assert_eq!(history(&nexus, &id).await, past(&[("create", "failed")]));
    let listed = nexus.get("/v1/start-failures?project=demo").await;
    assert_eq!(listed.expect(200)["items"], json!([]));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_record_outlives_the_instance() {
    let nexus = TestNexus::start().await;
    nexus.fault_all("register", 100, json!({ "reject": "Not now." })).await;
    let id = nexus.create("late", true).await;
    failure(&nexus, &id, "host_rejected").await;
    let before = nexus.attempts(&id).await;
    nexus.delete_instance(&id).await.expect(204);
    nexus.check_invariants().await;
    assert_eq!(nexus.attempts(&id).await, before);
}

#[tokio::test]
async fn a_failed_start_is_retried_when_the_view_says_so() {
    let nexus = TestNexus::start().await;
    nexus.fault_all("register", 1, json!({ "reject": "Not now." })).await;
    let id = nexus.create("patient", true).await;
    let failed = failure(&nexus, &id, "host_rejected").await;
    nexus.clear_all_faults().await;
    let retry = time(&failed["next_retry_at"]);
    assert_eq!(retry, time(&failed["time"]) + TimeDelta::seconds(5));

    nexus.wait(&id, is("running")).await;
    let expected = past(&[("auto_restart", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    let second = &nexus.attempts(&id).await[0];
    let began = time(&second["time_started"]);
    assert!(began >= retry, "{began} is before {retry}");
    assert!(began < retry + TimeDelta::seconds(4), "{began} is long after");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn each_retry_that_fails_is_followed_by_a_longer_wait() {
    let nexus = TestNexus::start().await;
    nexus.fault_all("register", 1000, json!({ "reject": "Not now." })).await;
    let id = nexus.create("stubborn", true).await;
    let mut attempts = Vec::new();
    for wait_secs in [5, 10, 20, 40, 80, 160, 300, 300] {
        let view = nexus
            .wait(&id, |v| {
                let failure = &v["start_failure"];
                failure["kind"] == "host_rejected"
                    && !attempts.contains(&failure["attempt_id"])
            })
            .await;
        let failed = &view["start_failure"];
        attempts.push(failed["attempt_id"].clone());
        let wait = time(&failed["next_retry_at"]) - time(&failed["time"]);
        assert_eq!(wait, TimeDelta::seconds(wait_secs));
        nexus.make_due(&id);
    }
    // Whoever asks need not wait, and begins a new series.
    nexus.ask(&id, "stop").await.expect(202);
    nexus.ask(&id, "start").await.expect(202);
    let failed = failure(&nexus, &id, "host_rejected").await;
    let wait = time(&failed["next_retry_at"]) - time(&failed["time"]);
    assert_eq!(wait, TimeDelta::seconds(5));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_retry_that_would_find_no_room_waits_longer_and_makes_no_attempt() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let blocker = nexus.create_sized("blocker", 8, 1).await;
    nexus.wait(&blocker, is("running")).await;
    let id = nexus.create("waiter", true).await;
    let failed = failure(&nexus, &id, "insufficient_capacity").await;
    assert_eq!(failed["transient"], true);
    for wait_secs in [10, 20, 40, 80, 160, 300, 300] {
        let before = nexus.instance_view(&id).await["view_gen"].clone();
        nexus.make_due(&id);
        let view =
            nexus.wait(&id, |v| v["view_gen"].as_u64() > before.as_u64()).await;
        let failure = &view["start_failure"];
        assert_eq!(failure["attempt_id"], failed["attempt_id"]);
        let left = (time(&failure["next_retry_at"]) - Utc::now()).num_seconds();
        let latest = wait_secs - wait_secs.min(300) / 2;
        assert!((latest..=wait_secs).contains(&left), "{left} {wait_secs}");
    }
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn freed_room_is_used_at_once() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let blocker = nexus.create_sized("blocker", 8, 1).await;
    nexus.wait(&blocker, is("running")).await;
    let id = nexus.create("waiter", true).await;
    failure(&nexus, &id, "insufficient_capacity").await;
    put_off(&nexus, &id);
    nexus.ask(&blocker, "stop").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let expected = past(&[("auto_restart", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn room_freed_while_a_start_fails_for_want_of_it_is_used_at_once() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let blocker = nexus.create_sized("blocker", 8, 1).await;
    nexus.wait(&blocker, is("running")).await;
    // The placement has said no, and nobody waits for room yet.
    let mut gate =
        nexus.database.gate::<InstanceStart>("claim", "undo_started");
    let id = nexus.create("waiter", true).await;
    gate.reached_by(1).await;
    nexus.ask(&blocker, "stop").await.expect(202);
    nexus.wait(&blocker, is("stopped")).await;
    gate.lift();
    nexus.wait(&id, is("running")).await;
    let attempts = nexus.attempts(&id).await;
    let expected = past(&[("auto_restart", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    let waited =
        time(&attempts[0]["time_started"]) - time(&attempts[1]["time_ended"]);
    assert!(waited < TimeDelta::seconds(4), "it waited for its backoff");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn room_for_many_is_used_by_many_at_once() {
    let sled = AgentSettings::sized(20, 32);
    let setup = Setup { sleds: 1, agent: sled, ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    let blocker = nexus.create_sized("blocker", 20, 1).await;
    nexus.wait(&blocker, is("running")).await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        let name = format!("waiter-{n}");
        waiting.push(nexus.create_sized(&name, 1, 1).await);
    }
    for id in &waiting {
        failure(&nexus, id, "insufficient_capacity").await;
        put_off(&nexus, id);
    }
    nexus.ask(&blocker, "stop").await.expect(202);
    for id in &waiting {
        nexus.wait(id, is("running")).await;
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_takes_instances_again_is_used_at_once() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    nexus.set_provision_policy(sled, "non_provisionable").await;
    let id = nexus.create("waiter", true).await;
    failure(&nexus, &id, "no_sled_in_service").await;
    put_off(&nexus, &id);
    nexus.set_provision_policy(sled, "provisionable").await;
    nexus.wait(&id, is("running")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_is_back_is_used_at_once() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].kill().await;
    nexus.silent_for_a_minute(&nexus.agents[0].id);
    let id = nexus.create("waiter", true).await;
    let failed = failure(&nexus, &id, "no_sled_in_service").await;
    assert_eq!(failed["details"]["excluded"]["unreachable"], 1);
    put_off(&nexus, &id);
    nexus.agents[0].restart().await;
    nexus.wait(&id, is("running")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_that_is_never_restarted_is_not_retried_either() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let blocker = nexus.create_sized("blocker", 8, 1).await;
    nexus.wait(&blocker, is("running")).await;
    let mut body = Client::instance("modest", true);
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    let failed = failure(&nexus, &id, "insufficient_capacity").await;
    assert_eq!(failed["transient"], true);
    assert_eq!(failed["next_retry_at"], Value::Null);
    // Another gets the room that is freed.
    let other = nexus.create("other", true).await;
    failure(&nexus, &other, "insufficient_capacity").await;
    nexus.ask(&blocker, "stop").await.expect(202);
    nexus.wait(&other, is("running")).await;
    nexus.rests_failed(&id).await;
    assert_eq!(history(&nexus, &id).await, past(&[("create", "failed")]));
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    nexus.check_invariants().await;
}

/// An instance too large for its one sled, which has failed for that.
async fn too_large(nexus: &TestNexus) -> String {
    let id = nexus.create_sized("giant", 12, 4).await;
    let failed = failure(nexus, &id, "insufficient_capacity").await;
    assert_eq!(failed["transient"], false);
    assert_eq!(failed["next_retry_at"], Value::Null);
    assert_eq!(failed["details"]["fits_an_empty_sled"], false);
    nexus.rests_failed(&id).await;
    id
}

#[tokio::test]
async fn what_fits_no_sled_is_retried_when_a_larger_one_joins() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let id = too_large(&nexus).await;
    // Room that is freed is of no use to it, nor is a sled of the same size.
    let other = nexus.create_sized("other", 8, 1).await;
    nexus.wait(&other, is("running")).await;
    nexus.ask(&other, "stop").await.expect(202);
    nexus.wait(&other, is("stopped")).await;
    nexus.add_sled(&AgentSettings::default()).await;
    nexus.rests_failed(&id).await;
    assert_eq!(history(&nexus, &id).await, past(&[("create", "failed")]));

    nexus.add_sled(&AgentSettings::sized(16, 16)).await;
    nexus.wait(&id, is("running")).await;
    let expected = past(&[("auto_restart", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    nexus.check_invariants().await;
}

async fn resize(nexus: &TestNexus, id: &str, ncpus: u64) -> Value {
    let body = json!({
        "ncpus": ncpus,
        "memory": 4 * GIB,
        "auto_restart_policy": null,
        "boot_disk": null,
        "cpu_platform": null,
    });
    nexus.put(&format!("/v1/instances/{id}"), body).await.expect(200)
}

#[tokio::test]
async fn what_fits_no_sled_is_retried_when_it_is_made_smaller() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = too_large(&nexus).await;
    resize(&nexus, &id, 8).await;
    nexus.wait(&id, is("running")).await;
    let expected = past(&[("auto_restart", "started"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_is_made_smaller_and_still_fits_no_sled_says_so_anew() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = too_large(&nexus).await;
    resize(&nexus, &id, 10).await;
    let view = nexus
        .wait(&id, |v| v["start_failure"]["details"]["requested_vcpus"] == 10)
        .await;
    let failed = &view["start_failure"];
    assert_eq!(failed["transient"], false);
    assert_eq!(failed["next_retry_at"], Value::Null);
    assert_eq!(failed["details"]["best_sled"]["short_vcpus"], 2);
    nexus.rests_failed(&id).await;
    let expected = past(&[("auto_restart", "failed"), ("create", "failed")]);
    assert_eq!(history(&nexus, &id).await, expected);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_would_fit_an_empty_sled_and_no_longer_does_says_so() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let large = AgentSettings::sized(12, 16);
    let sled = nexus.add_sled(&large).await.id.clone();
    let blocker = nexus.create_sized("blocker", 12, 1).await;
    nexus.wait(&blocker, is("running")).await;
    let id = nexus.create_sized("waiter", 12, 1).await;
    let failed = failure(&nexus, &id, "insufficient_capacity").await;
    assert_eq!(failed["transient"], true);
    nexus.expunge(&sled).await.expect(204);
    nexus.make_due(&id);
    let view =
        nexus.wait(&id, |v| v["start_failure"]["transient"] == false).await;
    assert_eq!(view["start_failure"]["next_retry_at"], Value::Null);
    nexus.rests_failed(&id).await;
    nexus.check_invariants().await;
}
