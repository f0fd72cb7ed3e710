//! The long walk of an instance's life.

use harness::{TestNexus, is};

#[tokio::test]
async fn an_instance_starts_reboots_stops_and_is_deleted() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("walker", true).await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["intended_state"], "running");

    let again = nexus.ask(&id, "start").await.expect(202);
    assert_eq!(again, running, "start of a running instance is a no-op");

    nexus.ask(&id, "reboot").await.expect(202);
    nexus.wait(&id, is("running")).await;

    let refused = nexus.delete_instance(&id).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("must be stopped"), "{message}");

    nexus.ask(&id, "stop").await.expect(202);
    let stopped = nexus.wait(&id, is("stopped")).await;
    let again = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(again, stopped, "stop of a stopped instance is a no-op");
    nexus.ask(&id, "reboot").await.error(400, "InvalidRequest");

    nexus.delete_instance(&id).await.expect(204);
    for what in ["start", "stop", "reboot"] {
        nexus.ask(&id, what).await.error(404, "ObjectNotFound");
    }
}
