//! The long walk of an instance's life, every state on the way seen.

use harness::{Setup, TestNexus, is};
use serde_json::json;

#[tokio::test]
async fn an_instance_starts_reboots_stops_and_is_deleted() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    // The guest goes on when the walk does.
    sled.hold(json!({ "boot": true, "stop": true })).await;

    let id = nexus.create("walker", true).await;
    let starting = nexus.wait(&id, is("starting")).await;
    assert_eq!(starting["intended_state"], "running");
    let again = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(again["run_state"], "starting");
    let vmm = nexus.wait_for_vmm(&id).await;
    nexus.ask(&id, "reboot").await.error(400, "InvalidRequest");

    sled.guest(&vmm, "booted").await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["intended_state"], "running");
    assert_ne!(
        running["time_run_state_updated"],
        starting["time_run_state_updated"]
    );
    nexus.settled(&id).await;
    let running = nexus.instance_view(&id).await;
    let again = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(again, running, "start of a running instance is a no-op");

    nexus.ask(&id, "reboot").await.expect(202);
    let rebooting = nexus.wait(&id, is("rebooting")).await;
    assert_eq!(rebooting["intended_state"], "running");
    sled.guest(&vmm, "booted").await;
    nexus.wait(&id, is("running")).await;

    let refused = nexus.delete_instance(&id).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("must be stopped"), "{message}");

    let stopping = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopping["run_state"], "stopping");
    assert_eq!(stopping["intended_state"], "stopped");
    let refused = nexus.ask(&id, "reboot").await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("not running"), "{message}");
    let again = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(again["run_state"], "stopping");
    sled.guest(&vmm, "halted").await;
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    let stopped = nexus.instance_view(&id).await;
    assert_eq!(stopped["last_failure"], json!(null), "it went as asked");
    let again = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(again, stopped, "stop of a stopped instance is a no-op");
    let refused = nexus.ask(&id, "reboot").await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("not running"), "{message}");

    nexus.delete_instance(&id).await.expect(204);
    for what in ["start", "stop", "reboot"] {
        nexus.ask(&id, what).await.error(404, "ObjectNotFound");
    }
    nexus.delete_instance(&id).await.error(404, "ObjectNotFound");
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 1, "one start, and its record is there still");
    assert_eq!(attempts[0]["outcome"], "started");
    nexus.check_invariants().await;
}
