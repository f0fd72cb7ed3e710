//! Sleds that an operator has expunged: what ran there is over, and what may
//! runs elsewhere.

use harness::{Agent, AgentSettings, Setup, TestNexus, Tuning, eventually, is};
use serde_json::json;

/// The sled's own agent knows that it is expunged, and has stopped its guests.
async fn all_fenced(agent: &Agent) {
    eventually("the agent learns that its sled is expunged", async || {
        agent.child.log().contains("this sled was expunged").then_some(())
    })
    .await;
    eventually("the agent has stopped its guests", async || {
        let vmms = agent.vmms().await;
        let over = |end: &serde_json::Value| {
            end["state"] == "destroyed" && end["end_reason"] == "fenced"
        };
        vmms.iter().all(over).then_some(())
    })
    .await;
}

/// How much is reserved on a sled.
fn reserved_on(nexus: &TestNexus, sled: &str) -> i64 {
    nexus.database.count(&format!(
        "SELECT reserved_vcpus + reserved_memory_bytes \
         FROM sled WHERE id = '{sled}'"
    ))
}

#[tokio::test]
async fn what_ran_on_an_expunged_sled_fails_and_what_may_is_started_elsewhere()
{
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (db, db_vmm) = nexus.running("db", json!({})).await;
    let never = json!({ "auto_restart_policy": "never" });
    let (web, _) = nexus.running("web", never).await;
    nexus.add_sled(&AgentSettings::default()).await;
    let (gone, other) = (&nexus.agents[0], &nexus.agents[1]);
    // They would take their time, if they were asked.
    gone.hold(json!({ "stop": true })).await;

    nexus.expunge(&gone.id).await.expect(204);
    let failed = nexus.wait(&web, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "fenced");
    assert_eq!(failed["intended_state"], "running");
    let running = nexus
        .wait(&db, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    assert_eq!(running["last_failure"], json!(null));
    all_fenced(gone).await;
    let vmm = nexus.vmm_of(&db).await;
    assert_ne!(vmm, db_vmm);
    assert!(other.vmms().await.iter().any(|v| v["vmm_id"] == vmm));
    let attempts = nexus.attempts(&db).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["reason"], "auto_restart");

    nexus.settled(&web).await;
    assert_eq!(nexus.attempts(&web).await.len(), 1);
    assert_eq!(reserved_on(&nexus, &gone.id), 0);
    let path = format!("/v1/system/hardware/sleds/{}", gone.id);
    let sled = nexus.get(&path).await.expect(200);
    assert_eq!(sled["policy"], json!({ "kind": "expunged" }));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_is_off_is_expunged_as_well() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    nexus.add_sled(&AgentSettings::default()).await;
    nexus.agents[0].kill().await;
    nexus.expunge(&nexus.agents[0].id).await.expect(204);
    // Twice is as good as once.
    nexus.expunge(&nexus.agents[0].id).await.expect(204);
    nexus
        .wait(&id, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    nexus.vmm_of(&id).await;
    assert_eq!(reserved_on(&nexus, &nexus.agents[0].id), 0);

    // Should it come back, it stops what it runs, and nothing is made of it.
    nexus.agents[0].restart().await;
    all_fenced(&nexus.agents[0]).await;
    nexus.settled(&id).await;
    assert_eq!(nexus.instance_view(&id).await["run_state"], "running");
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_stop_ends_when_its_silent_sled_is_expunged() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    nexus.agents[0].kill().await;
    let stopping = nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(stopping["run_state"], "stopping");
    nexus.expunge(&nexus.agents[0].id).await.expect(204);
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["intended_state"], "stopped");
    assert_eq!(stopped["last_failure"]["kind"], "fenced");
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_under_way_on_a_sled_that_is_expunged_goes_elsewhere() {
    let tuning = Tuning { sled_timeout_ms: 500, ..Tuning::default() };
    let setup = Setup { tuning, ..Setup::one_sled() };
    for operation in ["register", "state"] {
        let mut nexus = TestNexus::with(setup.clone()).await;
        let gone = &nexus.agents[0];
        gone.fault(operation, 1_000_000, json!({ "hang": true })).await;
        let id = nexus.create("db", true).await;
        eventually("the sled is asked", async || {
            (gone.calls(operation).await > 0).then_some(())
        })
        .await;
        nexus.add_sled(&AgentSettings::default()).await;
        let gone = &nexus.agents[0];
        nexus.expunge(&gone.id).await.expect(204);
        let failed = nexus
            .wait(&id, |view| {
                is("failed")(view) && !view["start_failure"].is_null()
            })
            .await;
        let why = &failed["start_failure"];
        assert_eq!(why["kind"], "host_unreachable", "{operation}: {why}");
        assert_eq!(why["transient"], true);
        assert_eq!(failed["last_failure"], json!(null), "it never ran");

        all_fenced(gone).await;
        nexus.make_due(&id);
        nexus.wait(&id, is("running")).await;
        assert_eq!(nexus.agents[1].vmms().await.len(), 1, "{operation}");
        assert_eq!(nexus.attempts(&id).await.len(), 2, "{operation}");
        assert_eq!(reserved_on(&nexus, &gone.id), 0, "{operation}");
        // What was still on its way there is refused.
        gone.clear_faults().await;
        nexus.check_invariants().await;
    }
}

#[tokio::test]
async fn what_is_kept_for_an_abandoned_vmm_is_given_back_with_its_sled() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let lost = json!({ "drop_answer_after_effect": true });
    agent.fault("register", 3, lost).await;
    agent.fault("unregister", 1_000_000, json!({ "error": 500 })).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("failed")).await;
    let abandoned = "SELECT count(*) FROM vmm WHERE state = 'abandoned'";
    assert_eq!(nexus.database.count(abandoned), 1);
    assert_ne!(reserved_on(&nexus, &agent.id), 0);

    nexus.expunge(&agent.id).await.expect(204);
    eventually("nothing is kept", async || {
        (nexus.database.count("SELECT count(*) FROM sled_reservation") == 0)
            .then_some(())
    })
    .await;
    assert_eq!(nexus.database.count(abandoned), 0);
    assert_eq!(reserved_on(&nexus, &agent.id), 0);
    let fenced = "SELECT count(*) FROM vmm WHERE end_reason = 'fenced'";
    assert_eq!(nexus.database.count(fenced), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_expunged_sled_takes_no_instances_and_never_will() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    nexus.expunge(&agent.id).await.expect(204);
    let id = nexus.create("db", true).await;
    let failed = nexus.wait(&id, is("failed")).await;
    let why = &failed["start_failure"];
    assert_eq!(why["kind"], "no_sled_in_service");
    assert_eq!(why["details"]["excluded"]["not_in_service"], 1);

    let path =
        format!("/v1/system/hardware/sleds/{}/provision-policy", agent.id);
    let open = json!({ "state": "provisionable" });
    nexus.put(&path, open).await.error(400, "InvalidRequest");
    assert_eq!(agent.calls("register").await, 0);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_is_not_known_cannot_be_expunged() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let stranger = uuid::Uuid::new_v4().to_string();
    nexus.expunge(&stranger).await.error(404, "SLED_UNKNOWN");
}
