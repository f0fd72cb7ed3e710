//! Sleds that err, fall silent, die, come back and lose what they ran. Only a
//! definite answer about a VMM fails its instance.

use harness::{Agent, Answer, Setup, TestNexus, Tuning, eventually, is};
use serde_json::{Value, json};
use uuid::Uuid;

/// A period that no test lives to see the end of.
const NEVER_MS: u32 = 600_000;

/// One sled, which is asked for all its VMMs only when it has news: what a
/// test learns of it, it learns otherwise.
fn unwatched() -> Setup {
    let tuning = Tuning { watch_period_ms: NEVER_MS, ..Tuning::default() };
    Setup { tuning, ..Setup::one_sled() }
}

/// One sled, whose answers are waited for until it gives them.
fn patient() -> Setup {
    let tuning = Tuning { sled_timeout_ms: NEVER_MS, ..Tuning::default() };
    Setup { tuning, ..Setup::one_sled() }
}

fn never_restarted() -> Value {
    json!({ "auto_restart_policy": "never" })
}

/// Its sled loses the instance's VMM, and a reboot finds that out.
async fn lose(nexus: &TestNexus, id: &str) {
    let vmm = nexus.vmm_of(id).await;
    nexus.agents[0].guest(&vmm, "forget").await;
    let answer = nexus.ask(id, "reboot").await;
    assert!(answer.retry_after.is_some());
    let message = answer.error(503, "ServiceNotAvailable");
    assert!(message.contains("no longer runs it"), "{message}");
    let failed = nexus.wait(id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "gone");
    assert_eq!(failed["intended_state"], "running");
}

#[tokio::test]
async fn an_instance_that_a_reboot_finds_lost_can_be_started_stopped_and_deleted()
 {
    let nexus = TestNexus::with(unwatched()).await;
    let (id, _) = nexus.running("db", never_restarted()).await;
    lose(&nexus, &id).await;
    nexus.ask(&id, "start").await.expect(202);
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["last_failure"], json!(null));

    lose(&nexus, &id).await;
    let stopped = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopped["run_state"], "stopped");
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;

    lose(&nexus, &id).await;
    nexus.delete_instance(&id).await.expect(204);
    let path = format!("/v1/instances/{id}");
    nexus.get(&path).await.error(404, "ObjectNotFound");
    nexus.settled(&id).await;
    assert_eq!(
        nexus.database.count("SELECT count(*) FROM sled_reservation"),
        0
    );
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_stop_that_finds_the_vmm_lost_says_so_and_nothing_starts_it_again() {
    let nexus = TestNexus::with(unwatched()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].guest(&vmm, "forget").await;
    nexus.ask(&id, "stop").await.expect(202);
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["intended_state"], "stopped");
    assert_eq!(stopped["last_failure"]["kind"], "gone");

    nexus.settled(&id).await;
    nexus.make_due(&id);
    nexus.settled(&id).await;
    assert_eq!(nexus.instance_view(&id).await, stopped);
    assert_eq!(nexus.attempts(&id).await.len(), 1);

    nexus.ask(&id, "start").await.expect(202);
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["last_failure"], json!(null));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_errs_fails_no_instance_that_is_rebooted() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    let before = nexus.instance_view(&id).await;
    let unharmed = async |nexus: &TestNexus, effect: &Value| {
        let answer = nexus.ask(&id, "reboot").await;
        assert!(answer.retry_after.is_some());
        answer.error(503, "ServiceNotAvailable");
        assert_eq!(nexus.instance_view(&id).await, before, "{effect}");
    };
    // A 404 that does not say what is missing is no definite answer.
    for effect in [
        json!({ "error": 500 }),
        json!({ "error": 503 }),
        json!({ "error": 404 }),
        json!({ "error": 400 }),
        json!({ "hang": true }),
    ] {
        nexus.agents[0].fault("state", 1, effect.clone()).await;
        unharmed(&nexus, &effect).await;
    }
    nexus.agents[0].kill().await;
    unharmed(&nexus, &json!("the connection is refused")).await;

    nexus.agents[0].restart().await;
    nexus.vmm_is(&vmm, "running").await;
    nexus.ask(&id, "reboot").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_errs_fails_no_stop() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, _) = nexus.running("db", json!({})).await;
    // It hears of none of these orders.
    for effect in [
        json!({ "error": 500 }),
        json!({ "error": 404 }),
        json!({ "hang": true }),
    ] {
        agent.fault("state", 1, effect).await;
    }
    let calls = agent.calls("state").await;
    nexus.ask(&id, "stop").await.expect(202);
    for n in 1..=3 {
        eventually("it is told to stop", async || {
            (agent.calls("state").await >= calls + n).then_some(())
        })
        .await;
        let view = nexus.instance_view(&id).await;
        assert_eq!(view["run_state"], "stopping");
        nexus.make_due(&id);
    }
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["last_failure"], json!(null));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_cannot_list_its_vmms_loses_none() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, _) = nexus.running("db", json!({})).await;
    let before = nexus.instance_view(&id).await;
    for effect in [json!({ "error": 500 }), json!({ "error": 404 })] {
        agent.fault("list", 3, effect).await;
    }
    // More calls than faults: the watcher does not give up either.
    agent.called("list", 8).await;
    assert_eq!(nexus.instance_view(&id).await, before);
    assert_eq!(agent.calls("get").await, 0);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_watcher_finds_a_lost_vmm_and_the_instance_is_started_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].guest(&vmm, "forget").await;
    nexus
        .wait(&id, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    assert_ne!(nexus.vmm_of(&id).await, vmm);
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["reason"], "auto_restart");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn against_its_policy_an_instance_that_was_lost_is_not_started_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    nexus.agents[0].guest(&vmm, "forget").await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "gone");
    nexus.settled(&id).await;
    nexus.make_due(&id);
    nexus.settled(&id).await;
    assert_eq!(nexus.instance_view(&id).await, failed);
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    assert!(nexus.live_vmms(&id).await.is_empty());
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_vmm_that_is_not_listed_is_asked_for_before_it_is_taken_for_lost() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    let before = nexus.instance_view(&id).await;
    agent.fault("get", 1_000_000, json!({ "error": 500 })).await;
    agent.guest(&vmm, "forget").await;
    agent.called("get", 3).await;
    assert_eq!(nexus.instance_view(&id).await, before);

    agent.clear_faults().await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "gone");
    nexus.check_invariants().await;
}

/// Registers a VMM, as if somebody else than Nexus did.
async fn register(agent: &Agent, vmm: &str, instance: &str) {
    try_register(agent, vmm, instance).await.expect(200);
}

async fn try_register(agent: &Agent, vmm: &str, instance: &str) -> Answer {
    let body = json!({
        "instance_id": instance,
        "hostname": "stranger",
        "vcpus": 1,
        "memory_bytes": harness::GIB,
    });
    agent.api().put(&format!("/vmms/{vmm}"), body).await
}

/// While a sled is heard eight times there are more than 24 rounds, in two of
/// which it would be asked if it did not say.
#[tokio::test]
async fn a_sled_on_which_nothing_has_a_place_is_asked_if_it_says_that_it_has_vmms()
 {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, _) = nexus.running("db", json!({})).await;
    agent.called("list", 5).await;
    nexus.ask(&id, "stop").await.expect(202);
    nexus.settled(&id).await;
    eventually("the sled is rid of it", async || {
        agent.vmms().await.is_empty().then_some(())
    })
    .await;
    // It is heard with that, and a round that had begun before has ended.
    nexus.heard(&agent.id, 3).await;
    let before = agent.calls("list").await;
    nexus.heard(&agent.id, 8).await;
    let asked = agent.calls("list").await - before;
    assert!(asked <= 1, "asked {asked} times, of some 24 rounds");

    register(agent, &Uuid::new_v4().to_string(), &id).await;
    nexus.heard(&agent.id, 2).await;
    let before = agent.calls("list").await;
    nexus.heard(&agent.id, 5).await;
    // Twice in each.
    let asked = agent.calls("list").await - before;
    assert!(asked > 10, "asked {asked} times, in some 15 rounds");
}

/// A paused process may give an order to make a VMM long after the VMM has run.
#[tokio::test]
async fn a_vmm_that_was_lost_and_then_made_anew_by_a_late_order_is_lost() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    // Until it is registered anew, nobody learns that it was lost.
    agent.fault("list", 1_000_000, json!({ "error": 500 })).await;
    agent.guest(&vmm, "forget").await;
    register(agent, &vmm, &id).await;
    agent.clear_faults().await;

    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "gone");
    eventually("it is not on the sled any more", async || {
        agent.vmms().await.is_empty().then_some(())
    })
    .await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_vmm_that_nexus_does_not_know_is_shown_and_left_alone() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let vmm = uuid::Uuid::new_v4().to_string();
    register(agent, &vmm, &uuid::Uuid::new_v4().to_string()).await;
    let running = json!({ "state": "running" });
    let path = format!("/vmms/{vmm}/state");
    agent.api().put(&path, running).await.expect(200);
    nexus.vmm_is(&vmm, "running").await;
    eventually("operators are told", async || {
        let log = nexus.process.child.log();
        log.lines()
            .any(|line| {
                line.contains("not in the database") && line.contains(&vmm)
            })
            .then_some(())
    })
    .await;
    agent.called("list", 2).await;
    nexus.vmm_is(&vmm, "running").await;
    assert_eq!(agent.calls("unregister").await, 0);
}

#[tokio::test]
async fn a_late_order_to_make_a_vmm_that_was_lost_finds_nothing_to_do() {
    let nexus = TestNexus::with(unwatched()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    // It is not taken for lost before its sled has a tombstone of it.
    agent.fault("unregister", 1, json!({ "error": 500 })).await;
    agent.guest(&vmm, "forget").await;
    nexus.ask(&id, "reboot").await.error(503, "ServiceNotAvailable");
    assert_eq!(nexus.instance_view(&id).await["run_state"], "running");
    nexus.ask(&id, "reboot").await.error(503, "ServiceNotAvailable");
    nexus.wait(&id, is("failed")).await;

    let late = try_register(agent, &vmm, &id).await;
    assert_eq!(late.status, 409, "{}", late.body);
    assert!(agent.vmms().await.is_empty());
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_live_report_of_a_vmm_that_has_ended_is_answered_by_unregister() {
    let nexus = TestNexus::with(unwatched()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    lose(&nexus, &id).await;
    nexus.settled(&id).await;

    // So that the sled does not know that the VMM is over.
    agent.lose_tombstone(&vmm);
    register(agent, &vmm, &id).await;
    eventually("the sled is rid of it", async || {
        agent.vmms().await.is_empty().then_some(())
    })
    .await;
    let view = nexus.instance_view(&id).await;
    assert_eq!(view["run_state"], "failed");
    assert_eq!(view["last_failure"]["kind"], "gone");
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_agent_that_was_killed_and_restarted_has_its_vmms_and_none_fails() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (db, db_vmm) = nexus.running("db", json!({})).await;
    let (web, web_vmm) = nexus.running("web", json!({})).await;
    let views = async |nexus: &TestNexus| {
        (nexus.instance_view(&db).await, nexus.instance_view(&web).await)
    };
    let before = views(&nexus).await;

    nexus.agents[0].kill().await;
    eventually("the watcher finds the agent down", async || {
        nexus.process.child.log().contains("silent: 1").then_some(())
    })
    .await;
    assert_eq!(views(&nexus).await, before, "its agent is down");

    // It answers, but nothing about VMMs yet.
    nexus.agents[0].restart_recovering().await;
    nexus.agents[0].called("list", 3).await;
    assert_eq!(views(&nexus).await, before, "its agent recovers");

    let agent = &nexus.agents[0];
    agent.hold(json!({ "recovery": false })).await;
    nexus.vmm_is(&db_vmm, "running").await;
    nexus.vmm_is(&web_vmm, "running").await;
    agent.called("list", 3).await;
    assert_eq!(views(&nexus).await, before, "its agent is back");
    assert_eq!(nexus.attempts(&db).await.len(), 1);

    nexus.ask(&db, "stop").await.expect(202);
    nexus.wait(&db, is("stopped")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_agent_that_dies_during_a_boot_reports_it_when_it_is_back() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].hold(json!({ "boot": true })).await;
    let id = nexus.create("db", true).await;
    let vmm = nexus.wait_for_vmm(&id).await;
    nexus.vmm_is(&vmm, "starting").await;
    nexus.agents[0].kill().await;
    nexus.agents[0].restart().await;
    nexus.agents[0].hold(json!({ "boot": false })).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_stop_while_the_agent_is_down_shows_at_once_and_ends_when_it_is_back()
{
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].kill().await;
    let stopping = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopping["run_state"], "stopping");
    assert_eq!(stopping["intended_state"], "stopped");
    eventually("the sled does not answer", async || {
        let log = nexus.process.child.log();
        log.lines()
            .any(|line| {
                line.contains("a sled does not answer") && line.contains(&vmm)
            })
            .then_some(())
    })
    .await;
    nexus.ask(&id, "start").await.error(409, "Conflict");
    assert_eq!(nexus.instance_view(&id).await["run_state"], "stopping");

    nexus.agents[0].restart().await;
    nexus.vmm_is(&vmm, "running").await;
    nexus.make_due(&id);
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["last_failure"], json!(null));
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_stop_is_seen_at_once_though_the_sled_is_silent() {
    let nexus = TestNexus::with(patient()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    nexus.agents[0].child.pause();
    let stopping = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopping["run_state"], "stopping");
    assert_eq!(nexus.instance_view(&id).await["run_state"], "stopping");
    nexus.agents[0].child.resume();
    nexus.wait(&id, is("stopped")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_delete_is_seen_at_once_though_the_sled_is_silent() {
    let nexus = TestNexus::with(patient()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    // What is left to do about the run that failed waits for the sled.
    agent.fault("unregister", 1_000_000, json!({ "hang": true })).await;
    agent.guest(&vmm, "panic").await;
    nexus.wait(&id, is("failed")).await;
    nexus.delete_instance(&id).await.expect(204);
    let path = format!("/v1/instances/{id}");
    nexus.get(&path).await.error(404, "ObjectNotFound");
    let (other, _) = nexus.running("db", json!({})).await;
    assert_ne!(other, id, "the name is free");

    agent.clear_faults().await;
    nexus.settled(&id).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_silent_sled_keeps_no_other_instance_waiting() {
    let mut nexus = TestNexus::with(patient()).await;
    let (silent, _) = nexus.running("silent", json!({})).await;
    nexus.add_sled(&harness::AgentSettings::default()).await;
    nexus.agents[0].child.pause();
    nexus.ask(&silent, "stop").await.expect(202);
    nexus.set_provision_policy(&nexus.agents[0].id, "non_provisionable").await;
    let other = nexus.create("other", true).await;
    nexus.wait(&other, is("running")).await;
    nexus.ask(&other, "stop").await.expect(202);
    nexus.wait(&other, is("stopped")).await;
    assert_eq!(nexus.instance_view(&silent).await["run_state"], "stopping");
    nexus.agents[0].child.resume();
    nexus.wait(&silent, is("stopped")).await;
    nexus.check_invariants().await;
}

/// Makes a sled one that was last heard of 11 s ago. It must be paused.
async fn fall_silent(
    nexus: &TestNexus,
    sled: &str,
    seen: impl AsyncFn() -> bool,
) {
    eventually("the sled is silent", async || {
        // Again if a heartbeat was still under way. Somebody has listened all
        // the while, or silence would mean nothing.
        nexus.sql(&format!(
            "UPDATE nexus_lease SET steady_since = now() - INTERVAL '1 hour'; \
             UPDATE sled SET time_last_heartbeat = \
             now() - INTERVAL '11 seconds' WHERE id = '{sled}'"
        ));
        seen().await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_view_says_since_when_its_sled_is_silent() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    let (idle, _) = nexus.running("idle", json!({})).await;
    nexus.ask(&idle, "stop").await.expect(202);
    nexus.wait(&idle, is("stopped")).await;
    let before = nexus.instance_view(&id).await;
    assert_eq!(before["state_unconfirmed_since"], json!(null));

    let agent = &nexus.agents[0];
    agent.child.pause();
    let said = |view: &Value| !view["state_unconfirmed_since"].is_null();
    fall_silent(&nexus, &agent.id, async || {
        said(&nexus.instance_view(&id).await)
    })
    .await;
    let silent = nexus.instance_view(&id).await;
    assert_eq!(silent["run_state"], "running", "the last that was known");
    let sled = format!("/v1/system/hardware/sleds/{}", agent.id);
    let sled = nexus.get(&sled).await.expect(200);
    assert_eq!(silent["state_unconfirmed_since"], sled["time_last_heartbeat"]);
    assert!(!said(&nexus.instance_view(&idle).await), "it does not run");

    agent.child.resume();
    let after = nexus.wait(&id, |view| !said(view)).await;
    assert_eq!(after, before);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_waits_for_a_silent_sled_starts_when_it_is_heard_of_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let id = nexus.create("db", false).await;
    agent.child.pause();
    let last =
        "SELECT extract(epoch FROM now() - time_last_heartbeat) FROM sled";
    fall_silent(&nexus, &agent.id, async || nexus.database.count(last) > 10)
        .await;
    nexus.ask(&id, "start").await.expect(202);
    let failed = nexus.wait(&id, is("failed")).await;
    let why = &failed["start_failure"];
    assert_eq!(why["transient"], true);
    assert_eq!(why["details"]["excluded"]["unreachable"], 1, "{why}");

    agent.child.resume();
    nexus.wait(&id, is("running")).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts[0]["reason"], "auto_restart");
    nexus.check_invariants().await;
}
