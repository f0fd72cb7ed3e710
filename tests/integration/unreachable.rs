//! Starts whose sled does not answer, or not in time: what is undone, what is
//! kept until the answer is definite, and what that holds back.

use db_model::InstanceId;
use diesel::connection::SimpleConnection;
use harness::{Agent, Setup, TestNexus, Tuning, eventually, is};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::mpsc::TryRecvError;

/// More faults than a test can use up.
const ALWAYS: u32 = 1_000_000;

fn one_sled(tuning: Tuning) -> Setup {
    Setup { tuning, ..Setup::one_sled() }
}

/// The instance once its start has failed, with this kind.
async fn failed(nexus: &TestNexus, id: &str, kind: &str) -> Value {
    let failed = nexus.wait(id, is("failed")).await;
    let why = &failed["start_failure"];
    assert_eq!(why["kind"], kind, "{why}");
    assert_eq!(why["transient"], true, "{why}");
    failed
}

/// How many reservations of this role there are.
fn reserved(nexus: &TestNexus, role: &str) -> i64 {
    nexus.database.count(&format!(
        "SELECT count(*) FROM sled_reservation WHERE role = '{role}'"
    ))
}

/// How many vCPUs the first sled says to have reserved.
async fn reserved_vcpus(nexus: &TestNexus) -> u64 {
    let path = format!("/v1/system/hardware/sleds/{}", nexus.agents[0].id);
    let sled = nexus.get(&path).await.expect(200);
    sled["reserved_hardware_threads"].as_u64().unwrap()
}

/// Waits until the sled has forgotten all its VMMs. Their ends are told before
/// that.
async fn rid_of_all(agent: &Agent) {
    eventually("the sled is rid of its VMMs", async || {
        agent.vmms().await.is_empty().then_some(())
    })
    .await;
}

/// The instance runs, and what its earlier runs held is given back.
async fn runs_alone(nexus: &TestNexus, id: &str) {
    nexus.wait(id, is("running")).await;
    eventually("it alone holds something", async || {
        let alone = reserved(nexus, "active") == 1
            && reserved(nexus, "abandoned") == 0
            && reserved_vcpus(nexus).await == 2;
        alone.then_some(())
    })
    .await;
    nexus.vmm_of(id).await;
}

#[tokio::test]
async fn a_register_that_errs_is_repeated() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    agent.fault("register", 1, json!({ "error": 500 })).await;
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("register", 1, lost).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(agent.calls("register").await, 3);
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.vmm_of(&id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_register_that_took_effect_without_an_answer_is_undone() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("register", ALWAYS, lost).await;
    let id = nexus.create("db", true).await;
    failed(&nexus, &id, "host_unreachable").await;
    // Once by the undo; the watcher may have seen it listed just before, and
    // ask again.
    assert!(agent.calls("unregister").await >= 1);
    rid_of_all(agent).await;
    assert_eq!(reserved(&nexus, "active"), 0);
    assert_eq!(reserved(&nexus, "abandoned"), 0);
    assert_eq!(reserved_vcpus(&nexus).await, 0);

    agent.clear_faults().await;
    nexus.make_due(&id);
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_register_that_arrives_after_its_undo_finds_nothing_to_do() {
    let tuning =
        Tuning { sled_timeout_ms: 500, sled_tries: 2, ..Tuning::default() };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    agent.fault("register", ALWAYS, json!({ "hang": true })).await;
    let id = nexus.create("db", true).await;
    failed(&nexus, &id, "host_unreachable").await;
    let asked = agent.calls("register").await;

    agent.clear_faults().await;
    eventually("the late requests are refused", async || {
        let log = agent.child.log();
        let refused = log
            .lines()
            .filter(|line| line.contains("the VMM was unregistered here"));
        (u64::try_from(refused.count()).unwrap() >= asked).then_some(())
    })
    .await;
    rid_of_all(agent).await;
    nexus.make_due(&id);
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

/// The sled takes the VMM in without saying so, and then answers nothing: the
/// VMM is abandoned before it was told to run. Its instance has failed.
async fn abandoned_before_run(nexus: &TestNexus) -> String {
    let agent = &nexus.agents[0];
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("register", 3, lost).await;
    agent.fault("unregister", ALWAYS, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    failed(nexus, &id, "host_unreachable").await;
    assert_eq!(reserved(nexus, "abandoned"), 1);
    assert_eq!(reserved(nexus, "active"), 0);
    assert_eq!(reserved_vcpus(nexus).await, 2, "it is kept");
    id
}

#[tokio::test]
async fn a_vmm_abandoned_before_it_was_told_to_run_holds_back_no_start() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let id = abandoned_before_run(&nexus).await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(reserved(&nexus, "abandoned"), 1, "nobody has answered yet");
    assert_eq!(reserved_vcpus(&nexus).await, 4);

    // It is asked about for as long as that takes, and no longer.
    agent.called("unregister", 5).await;
    agent.clear_faults().await;
    runs_alone(&nexus, &id).await;
    nexus.settled(&id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_does_not_wait_for_what_became_of_one_that_never_ran() {
    let tuning = Tuning { sled_timeout_ms: 600_000, ..Tuning::default() };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("register", 3, lost).await;
    // The undo's tries; whoever asks after that waits for longer than the test.
    agent.fault("unregister", 3, json!({ "error": 500 })).await;
    agent.fault("unregister", ALWAYS, json!({ "hang": true })).await;
    let id = nexus.create("db", true).await;
    failed(&nexus, &id, "host_unreachable").await;
    eventually("the sled is asked, and silent", async || {
        (agent.calls("unregister").await > 3).then_some(())
    })
    .await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(reserved(&nexus, "abandoned"), 1);

    agent.clear_faults().await;
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_a_vmm_abandoned_before_it_ran_held_is_given_back_on_its_own() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = abandoned_before_run(&nexus).await;
    nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(nexus.instance_view(&id).await["run_state"], "stopped");
    nexus.delete_instance(&id).await.expect(204);
    let destroyed = format!(
        "SELECT count(*) FROM instance \
         WHERE id = '{id}' AND state = 'destroyed'"
    );
    eventually("it is destroyed: nothing of it may run", async || {
        (nexus.database.count(&destroyed) == 1).then_some(())
    })
    .await;
    assert_eq!(reserved(&nexus, "abandoned"), 1);

    nexus.agents[0].clear_faults().await;
    eventually("the sled has answered", async || {
        (reserved(&nexus, "abandoned") == 0).then_some(())
    })
    .await;
    assert_eq!(reserved_vcpus(&nexus).await, 0);
    rid_of_all(&nexus.agents[0]).await;
    nexus.settled(&id).await;
    nexus.check_invariants().await;
}

/// The sled takes the VMM in and runs it without saying so, and then answers
/// nothing: the VMM is abandoned, and may run. Its instance has failed.
pub(crate) async fn abandoned_while_it_may_run(
    nexus: &TestNexus,
    agent: &Agent,
) -> String {
    agent.hold(json!({ "boot": true })).await;
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("state", ALWAYS, lost).await;
    for operation in ["get", "list", "unregister"] {
        agent.fault(operation, ALWAYS, json!({ "error": 500 })).await;
    }
    let id = nexus.create("db", true).await;
    // That it starts, the sled tells of its own accord.
    let allowance = nexus.wait(&id, is("failed")).await;
    let kind = &allowance["start_failure"]["kind"];
    assert_eq!(kind, "host_unreachable", "{allowance:#}");
    eventually("the VMM is abandoned", async || {
        (reserved(nexus, "abandoned") == 1).then_some(())
    })
    .await;
    id
}

#[tokio::test]
async fn a_vmm_abandoned_while_it_may_run_holds_back_the_next_start() {
    let tuning = Tuning { boot_allowance_ms: 300, ..Tuning::default() };
    let mut nexus = TestNexus::with(one_sled(tuning)).await;
    let id = abandoned_while_it_may_run(&nexus, &nexus.agents[0]).await;
    nexus.add_sled(&harness::AgentSettings::default()).await;
    let (old, new) = (&nexus.agents[0], &nexus.agents[1]);

    nexus.ask(&id, "start").await.expect(202);
    let held = failed(&nexus, &id, "host_unreachable").await;
    let message = held["start_failure"]["message"].as_str().unwrap();
    assert!(message.contains("earlier run"), "{message}");
    assert_eq!(new.calls("register").await, 0);
    assert_eq!(reserved(&nexus, "active"), 0);
    assert_eq!(reserved(&nexus, "abandoned"), 1);

    // Nor does a retry get past it.
    nexus.make_due(&id);
    old.called("unregister", 5).await;
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    assert_eq!(new.calls("register").await, 0);

    // The retry was due all the while.
    old.hold(json!({ "boot": false })).await;
    old.clear_faults().await;
    nexus.wait(&id, is("running")).await;
    nexus.vmm_of(&id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_that_is_held_back_goes_on_when_the_earlier_run_is_over() {
    let tuning = Tuning {
        boot_allowance_ms: 300,
        // Long enough to be held back for as long as the test likes.
        look_period_ms: 50,
        patience: 20,
        ..Tuning::default()
    };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    let id = abandoned_while_it_may_run(&nexus, agent).await;
    let starting = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(starting["run_state"], "starting");
    agent.called("unregister", 2).await;
    assert_eq!(nexus.instance_view(&id).await["run_state"], "starting");
    agent.clear_faults().await;
    agent.hold(json!({ "boot": false })).await;
    runs_alone(&nexus, &id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_deleted_instance_is_destroyed_only_when_nothing_of_it_may_run() {
    let tuning = Tuning { boot_allowance_ms: 300, ..Tuning::default() };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    let id = abandoned_while_it_may_run(&nexus, agent).await;
    nexus.delete_instance(&id).await.expect(204);
    let path = format!("/v1/instances/{id}");
    nexus.get(&path).await.error(404, "ObjectNotFound");
    agent.called("unregister", 5).await;
    let destroyed = format!(
        "SELECT count(*) FROM instance \
         WHERE id = '{id}' AND state = 'destroyed'"
    );
    assert_eq!(nexus.database.count(&destroyed), 0);

    agent.clear_faults().await;
    nexus.settled(&id).await;
    assert_eq!(nexus.database.count(&destroyed), 1);
    assert_eq!(reserved_vcpus(&nexus).await, 0);
    rid_of_all(agent).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_delete_while_an_update_saga_waits_is_carried_out_and_leaves_nothing()
{
    let tuning = Tuning { sled_timeout_ms: 600_000, ..Tuning::default() };
    let mut nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    let never = json!({ "auto_restart_policy": "never" });
    let (id, vmm) = nexus.running("db", never).await;
    // What the saga's last node waits for.
    agent.fault("unregister", ALWAYS, json!({ "hang": true })).await;
    agent.guest(&vmm, "panic").await;
    nexus.wait(&id, is("failed")).await;
    let unfinished = format!(
        "SELECT count(*) FROM saga \
         WHERE instance_id = '{id}' AND time_ended IS NULL"
    );
    assert_eq!(nexus.database.count(&unfinished), 1);
    nexus.delete_instance(&id).await.expect(204);
    assert_eq!(nexus.database.count(&unfinished), 1, "still the same");

    // The answer never comes.
    nexus.agents[0].kill().await;
    eventually("no saga is at work on it", async || {
        (nexus.database.count(&unfinished) == 0).then_some(())
    })
    .await;
    nexus.settled(&id).await;
    let destroyed = format!(
        "SELECT count(*) FROM instance WHERE id = '{id}' \
         AND state = 'destroyed' AND reconcile_last_error IS NULL"
    );
    assert_eq!(nexus.database.count(&destroyed), 1);
    nexus.agents[0].restart().await;
    let agent = &nexus.agents[0];
    rid_of_all(agent).await;
    // Nothing more is asked for, once it has said that it has none, and the
    // round of the watcher is over that may have seen it listed.
    nexus.heard(&agent.id, 3).await;
    let asked = agent.calls("unregister").await;
    nexus.heard(&agent.id, 3).await;
    assert_eq!(agent.calls("unregister").await, asked);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_order_to_run_that_was_lost_is_repeated() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    // More than the saga's three tries, fewer than patience allows for.
    agent.fault("state", 5, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(agent.calls("state").await, 6);
    assert_eq!(agent.calls("register").await, 1);
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "started");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_order_to_run_that_was_taken_without_an_answer_is_known_by_its_report()
 {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("state", ALWAYS, lost).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    let boots = &agent.counters().await["hypervisor"]["boot"];
    assert_eq!(boots, 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_never_takes_the_order_to_run_fails_the_start() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    agent.fault("state", ALWAYS, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    failed(&nexus, &id, "host_unreachable").await;
    rid_of_all(agent).await;
    assert_eq!(reserved_vcpus(&nexus).await, 0);

    agent.clear_faults().await;
    nexus.make_due(&id);
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_vmm_that_is_lost_before_the_order_to_run_arrives_fails_the_start() {
    // Patience enough that it is not the silence which ends the attempt.
    let tuning = Tuning { patience: 20, ..Tuning::default() };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    agent.fault("state", ALWAYS, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    eventually("the saga has left it to the reconciler", async || {
        (agent.calls("state").await > 3).then_some(())
    })
    .await;
    agent.guest(&nexus.vmm_of(&id).await, "forget").await;
    agent.clear_faults().await;
    failed(&nexus, &id, "host_unreachable").await;

    nexus.make_due(&id);
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_guest_that_is_not_up_by_its_boot_deadline_timed_out() {
    let tuning = Tuning { boot_allowance_ms: 1_000, ..Tuning::default() };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    agent.hold(json!({ "boot": true })).await;
    let id = nexus.create("db", true).await;
    let failed = failed(&nexus, &id, "timed_out").await;
    let message = failed["start_failure"]["message"].as_str().unwrap();
    assert!(message.contains("1 s later"), "{message}");
    assert!(failed["start_failure"]["next_retry_at"].is_string());
    assert_eq!(failed["last_failure"], json!(null), "it never ran");
    assert!(agent.calls("get").await > 0, "the sled was asked");
    rid_of_all(agent).await;
    assert_eq!(reserved_vcpus(&nexus).await, 0);

    agent.hold(json!({ "boot": false })).await;
    nexus.make_due(&id);
    runs_alone(&nexus, &id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_slow_boot_that_has_run_when_its_sled_answers_is_not_failed() {
    let tuning = Tuning {
        boot_allowance_ms: 300,
        sled_timeout_ms: 600_000,
        ..Tuning::default()
    };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    agent.hold(json!({ "boot": true })).await;
    agent.fault("get", 1, json!({ "hang": true })).await;
    let id = nexus.create("db", true).await;
    let vmm = nexus.wait_for_vmm(&id).await;
    // Nothing else asks for one VMM: the deadline is over.
    eventually("the sled is asked", async || {
        (agent.calls("get").await == 1).then_some(())
    })
    .await;
    assert_eq!(nexus.attempts(&id).await[0]["outcome"], "pending");
    agent.guest(&vmm, "booted").await;
    nexus.vmm_is(&vmm, "running").await;
    agent.clear_faults().await;
    nexus.wait(&id, is("running")).await;
    nexus.settled(&id).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "started");
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_boot_that_outlasts_its_deadline_while_no_nexus_is_there_counts() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].hold(json!({ "boot": true })).await;
    let id = nexus.create("db", true).await;
    let vmm = nexus.wait_for_vmm(&id).await;
    let deadline = format!(
        "SELECT count(*) FROM vmm \
         WHERE id = '{vmm}' AND boot_deadline IS NOT NULL"
    );
    eventually("the sled has taken the order", async || {
        (nexus.database.count(&deadline) == 1).then_some(())
    })
    .await;
    nexus.kill_nexus().await;
    nexus.agents[0].guest(&vmm, "booted").await;
    nexus.sql(&format!(
        "UPDATE vmm SET boot_deadline = now() - INTERVAL '1 hour' \
         WHERE id = '{vmm}'"
    ));
    nexus.make_due(&id);
    nexus.restart_nexus().await;
    nexus.wait(&id, is("running")).await;
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_guest_that_comes_up_after_its_start_was_given_up_may_run() {
    let tuning = Tuning {
        boot_allowance_ms: 300,
        // The sled is asked to end it for as long as the test likes.
        patience: 1_000,
        ..Tuning::default()
    };
    let nexus = TestNexus::with(one_sled(tuning)).await;
    let agent = &nexus.agents[0];
    agent.hold(json!({ "boot": true })).await;
    agent.fault("unregister", ALWAYS, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    let vmm = nexus.wait_for_vmm(&id).await;
    agent.called("unregister", 1).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts[0]["failure"]["kind"], "timed_out");

    agent.guest(&vmm, "booted").await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["start_failure"], json!(null), "it runs");
    nexus.settled(&id).await;
    agent.clear_faults().await;
    agent.called("list", 3).await;
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    nexus.check_invariants().await;
}

/// A start of which half is seen looks like one that was given up, whose guest
/// is to be ended.
#[tokio::test]
async fn what_the_reconciler_goes_by_is_all_of_one_moment() {
    const STARTS: &str = "BEGIN; \
        UPDATE start_attempt SET outcome = 'pending', time_ended = NULL; \
        UPDATE vmm SET ever_ran = FALSE; \
        UPDATE instance \
            SET pending_start_attempt_id = latest_start_attempt_id; \
        COMMIT";
    const RUNS: &str = "BEGIN; \
        UPDATE start_attempt SET outcome = 'started', time_ended = now(); \
        UPDATE vmm SET ever_ran = TRUE; \
        UPDATE instance SET pending_start_attempt_id = NULL; \
        COMMIT";
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    nexus.settled(&id).await;
    nexus.kill_nexus().await;
    let datastore = nexus.database.datastore();
    let id = InstanceId(id.parse().unwrap());

    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut writer = nexus.database.connect();
    let writing = tokio::task::spawn_blocking(move || {
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            writer.batch_execute(STARTS).unwrap();
            writer.batch_execute(RUNS).unwrap();
        }
    });
    let mut seen = HashMap::new();
    for _ in 0..300 {
        let (facts, _) = datastore.reconcile_facts(id).await.unwrap();
        let pending = facts.attempt.is_some();
        let ran = facts.active_vmm().unwrap().ever_ran;
        *seen.entry((pending, ran)).or_insert(0) += 1;
    }
    drop(stop);
    writing.await.unwrap();
    let halves: Vec<_> = seen.iter().filter(|((p, r), _)| p == r).collect();
    assert!(halves.is_empty(), "{seen:?}");
    assert_eq!(seen.len(), 2, "both were seen: {seen:?}");
}
