//! What becomes of an instance by its guest's own doing.

use harness::{Setup, TestNexus, is};
use serde_json::json;

#[tokio::test]
async fn a_guest_that_shuts_itself_down_is_stopped_and_left_so() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].guest(&vmm, "shutdown").await;
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["intended_state"], "guest_shutdown");
    assert_eq!(stopped["last_failure"], json!(null));
    assert_eq!(stopped["start_failure"], json!(null));

    // Settled though the system may restart it: it wants nothing of it.
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);

    nexus.ask(&id, "start").await.expect(202);
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["intended_state"], "running");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_guest_that_crashes_is_started_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for (name, event) in [("one", "panic"), ("two", "hypervisor_died")] {
        let (id, vmm) = nexus.running(name, json!({})).await;
        nexus.agents[0].guest(&vmm, event).await;
        let restarted = nexus
            .wait(&id, |view| {
                is("running")(view)
                    && !view["time_last_auto_restarted"].is_null()
            })
            .await;
        assert_eq!(restarted["last_failure"], json!(null), "it runs again");
        assert_ne!(nexus.vmm_of(&id).await, vmm, "{event}");
        let attempts = nexus.attempts(&id).await;
        assert_eq!(attempts.len(), 2, "{event}: {attempts:?}");
        assert_eq!(attempts[0]["reason"], "auto_restart");
        assert_eq!(attempts[0]["requested_by"], json!(null));
        assert_eq!(attempts[0]["outcome"], "started");
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn against_its_policy_a_guest_that_crashed_is_not_started_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let never = json!({ "auto_restart_policy": "never" });
    let (id, vmm) = nexus.running("db", never).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["intended_state"], "running");
    assert_eq!(failed["auto_restart_enabled"], false);
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    assert_eq!(nexus.instance_view(&id).await, failed);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn why_a_run_ended_badly_is_told_until_it_runs_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let never = json!({ "auto_restart_policy": "never" });
    let (id, vmm) = nexus.running("db", never).await;
    assert_eq!(
        nexus.instance_view(&id).await["last_failure"],
        json!(null),
        "it runs",
    );
    agent.guest(&vmm, "panic").await;
    let failed = nexus.wait(&id, is("failed")).await;
    let why = failed["last_failure"].clone();
    assert_eq!(why["kind"], "panic");
    assert_eq!(why["message"], "The guest's kernel panicked.");
    assert!(why["time"].is_string());
    assert_eq!(
        failed["start_failure"],
        json!(null),
        "its last attempt to start succeeded",
    );

    agent.hold(json!({ "boot": true })).await;
    let starting = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(starting["run_state"], "starting");
    assert_eq!(starting["last_failure"], why, "it does not run yet");
    let vmm = nexus.wait_for_vmm(&id).await;
    agent.guest(&vmm, "booted").await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["last_failure"], json!(null));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_guest_that_crashes_while_it_stops_has_stopped() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", json!({})).await;
    agent.hold(json!({ "stop": true })).await;
    nexus.ask(&id, "stop").await.expect(202);
    nexus.vmm_is(&vmm, "stopping").await;
    agent.guest(&vmm, "panic").await;
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["last_failure"], json!(null));
    assert_eq!(stopped["intended_state"], "stopped");
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_guest_that_shuts_itself_down_while_it_is_told_to_stop_has_stopped() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", json!({})).await;
    agent.hold(json!({ "stop": true })).await;
    agent.guest(&vmm, "shutdown").await;
    nexus.wait(&id, is("stopping")).await;

    let stopping = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopping["intended_state"], "stopped");
    agent.guest(&vmm, "halted").await;
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["intended_state"], "stopped", "the user's wish stands");
    assert_eq!(stopped["last_failure"], json!(null));
    nexus.check_invariants().await;
}
