//! A stop or a delete that overtakes a start, wherever the start has got to.

use harness::{Gate, Setup, TestNexus, eventually, is};
use nexus::saga::instance_start::InstanceStart;
use serde_json::{Value, json};

/// The records that a start saga makes before a VMM is linked…
const UNLINKED: [(&str, &str); 5] = [
    ("claim", "started"),
    ("claim", "succeeded"),
    ("will_register", "started"),
    ("will_register", "succeeded"),
    ("place", "started"),
];

/// … and those that it makes after that.
const LINKED: [(&str, &str); 5] = [
    ("place", "succeeded"),
    ("register", "started"),
    ("register", "succeeded"),
    ("run", "started"),
    ("run", "succeeded"),
];

/// Makes an instance, to run, whose start saga halts at this record.
async fn parked(
    nexus: &TestNexus,
    (node, event): (&str, &str),
) -> (String, Gate) {
    let mut gate = nexus.database.gate::<InstanceStart>(node, event);
    let name = format!("{node}-{event}").replace('_', "-");
    let id = nexus.create(&name, true).await;
    gate.reached_by(1).await;
    (id, gate)
}

/// Checks that the instance's attempts ended like this, newest first.
async fn attempts_are(nexus: &TestNexus, id: &str, expected: &[(&str, &str)]) {
    let attempts = nexus.attempts(id).await;
    let found: Vec<_> = attempts
        .iter()
        .map(|a| {
            (a["reason"].as_str().unwrap(), a["outcome"].as_str().unwrap())
        })
        .collect();
    assert_eq!(found, expected, "{attempts:#?}");
    for attempt in &attempts {
        assert_eq!(attempt["failure"], Value::Null);
    }
}

/// Checks that nothing is left of any run, on any sled and in the record.
async fn nothing_left(nexus: &TestNexus) {
    nexus.check_invariants().await;
    for agent in &nexus.agents {
        assert_eq!(agent.vmms().await, Vec::<Value>::new());
    }
    let held = nexus.database.count("SELECT count(*) FROM sled_reservation");
    assert_eq!(held, 0);
}

/// Checks that the instance, stopped as it is, starts; and stops it again.
async fn starts_again(nexus: &TestNexus, id: &str) {
    nexus.hold_all(json!({ "boot": false })).await;
    nexus.ask(id, "start").await.expect(202);
    nexus.wait(id, is("running")).await;
    nexus.vmm_of(id).await;
    nexus.ask(id, "stop").await.expect(202);
    nexus.wait(id, is("stopped")).await;
    nexus.hold_all(json!({ "boot": true })).await;
}

#[tokio::test]
async fn a_stop_overtakes_a_start_before_a_vmm_is_linked() {
    let nexus = TestNexus::start().await;
    for point in UNLINKED {
        let (id, gate) = parked(&nexus, point).await;
        let view = nexus.ask(&id, "stop").await.expect(202);
        assert_eq!(view["run_state"], "stopped", "{point:?}");
        assert_eq!(view["intended_state"], "stopped");
        assert_eq!(view["start_failure"], Value::Null);
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        gate.lift();
        nothing_left(&nexus).await;
        starts_again(&nexus, &id).await;
        let expected = [("user", "started"), ("create", "superseded")];
        attempts_are(&nexus, &id, &expected).await;
    }
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_stop_overtakes_a_start_whose_vmm_is_linked() {
    let nexus = TestNexus::start().await;
    nexus.hold_all(json!({ "boot": true })).await;
    for point in LINKED {
        let (id, gate) = parked(&nexus, point).await;
        let view = nexus.ask(&id, "stop").await.expect(202);
        assert_eq!(view["run_state"], "stopping", "{point:?}");
        assert_eq!(view["intended_state"], "stopped");
        assert_eq!(view["start_failure"], Value::Null);
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        nexus.ask(&id, "start").await.error(409, "Conflict");
        assert_eq!(nexus.instance_view(&id).await, view, "a 409 changes it");
        gate.lift();
        nexus.wait(&id, is("stopped")).await;
        nothing_left(&nexus).await;
        starts_again(&nexus, &id).await;
        let expected = [("user", "started"), ("create", "superseded")];
        attempts_are(&nexus, &id, &expected).await;
    }
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_stop_overtakes_a_guest_that_is_booting() {
    let nexus = TestNexus::start().await;
    nexus.hold_all(json!({ "boot": true })).await;
    let id = nexus.create("slow", true).await;
    let run = "SELECT count(*) FROM vmm WHERE state = 'starting'";
    eventually("the guest boots", async || {
        (nexus.database.count(run) == 1).then_some(())
    })
    .await;
    nexus.ask(&id, "stop").await.expect(202);
    attempts_are(&nexus, &id, &[("create", "superseded")]).await;
    nexus.wait(&id, is("stopped")).await;
    nothing_left(&nexus).await;
    starts_again(&nexus, &id).await;
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_stop_overtakes_a_start_whose_sled_does_not_answer() {
    let nexus = TestNexus::start().await;
    for operation in ["register", "state"] {
        let before = nexus.calls(operation).await;
        nexus.fault_all(operation, 1, json!({ "hang": true })).await;
        let id = nexus.create(operation, true).await;
        eventually("the sled is asked", async || {
            (nexus.calls(operation).await > before).then_some(())
        })
        .await;
        let view = nexus.ask(&id, "stop").await.expect(202);
        assert_eq!(view["run_state"], "stopping");
        // Though what was asked hangs still.
        nexus.wait(&id, is("stopped")).await;
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        nothing_left(&nexus).await;
        // Now it arrives, late.
        nexus.clear_all_faults().await;
        starts_again(&nexus, &id).await;
        nexus.hold_all(json!({ "boot": false })).await;
    }
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_stop_overtakes_a_start_that_is_being_undone() {
    let nexus = TestNexus::start().await;
    for point in [
        ("register", "failed"),
        ("will_register", "undo_started"),
        ("will_register", "undo_finished"),
        ("claim", "undo_started"),
    ] {
        nexus.fault_all("register", 1, json!({ "reject": "Not today." })).await;
        let (id, gate) = parked(&nexus, point).await;
        nexus.ask(&id, "stop").await.expect(202);
        gate.lift();
        let stopped = nexus.wait(&id, is("stopped")).await;
        assert_eq!(stopped["start_failure"], Value::Null);
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        nexus.clear_all_faults().await;
        nothing_left(&nexus).await;
    }
}

#[tokio::test]
async fn a_start_right_after_a_stop_waits_for_what_was_overtaken_and_runs() {
    let nexus = TestNexus::start().await;
    for point in UNLINKED {
        let (id, gate) = parked(&nexus, point).await;
        stopped_and_started(&nexus, &id, gate).await;
        nexus.wait(&id, is("running")).await;
        nexus.vmm_of(&id).await;
        let expected = [("user", "started"), ("create", "superseded")];
        attempts_are(&nexus, &id, &expected).await;
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
        nothing_left(&nexus).await;
    }
}

#[tokio::test]
async fn the_end_of_an_overtaken_start_does_not_end_the_next() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let blocker = nexus.create_sized("blocker", 8, 1).await;
    nexus.wait(&blocker, is("running")).await;
    // Its saga has found no room, and is about to say so.
    let (id, gate) = parked(&nexus, ("claim", "undo_started")).await;
    nexus.ask(&blocker, "stop").await.expect(202);
    nexus.wait(&blocker, is("stopped")).await;
    stopped_and_started(&nexus, &id, gate).await;
    nexus.wait(&id, is("running")).await;
    let expected = [("user", "started"), ("create", "superseded")];
    attempts_are(&nexus, &id, &expected).await;
    nexus.check_invariants().await;
}

/// Stops an instance whose start saga is parked, starts it again at once, and
/// lets the saga go on.
async fn stopped_and_started(nexus: &TestNexus, id: &str, gate: Gate) {
    nexus.ask(id, "stop").await.expect(202);
    let view = nexus.ask(id, "start").await.expect(202);
    assert_eq!(view["run_state"], "starting");
    assert_eq!(view["start_failure"], Value::Null);
    gate.lift();
}

#[tokio::test]
async fn a_delete_overtakes_a_start_before_a_vmm_is_linked() {
    let nexus = TestNexus::start().await;
    for point in UNLINKED {
        let (id, gate) = parked(&nexus, point).await;
        let name = nexus.instance_view(&id).await["name"].clone();
        nexus.delete_instance(&id).await.expect(204);
        let gone = nexus.get(&format!("/v1/instances/{id}")).await;
        gone.error(404, "ObjectNotFound");
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        let heir = nexus.create(name.as_str().unwrap(), true).await;
        gate.lift();
        nexus.wait(&heir, is("running")).await;
        nexus.check_invariants().await;
        assert_eq!(nexus.live_vmms(&id).await, Vec::<Value>::new());
        let destroyed = format!(
            "SELECT count(*) FROM instance \
             WHERE id = '{id}' AND state = 'destroyed'"
        );
        assert_eq!(nexus.database.count(&destroyed), 1);
        attempts_are(&nexus, &id, &[("create", "superseded")]).await;
        nexus.ask(&heir, "stop").await.expect(202);
        nexus.wait(&heir, is("stopped")).await;
    }
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_delete_does_not_overtake_a_start_whose_vmm_is_linked() {
    let nexus = TestNexus::start().await;
    for point in LINKED {
        let (id, gate) = parked(&nexus, point).await;
        let before = nexus.instance_view(&id).await;
        let refused = nexus.delete_instance(&id).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("must be stopped"), "{message}");
        if point != ("run", "succeeded") {
            assert_eq!(nexus.instance_view(&id).await, before);
        }
        gate.lift();
        nexus.wait(&id, is("running")).await;
        attempts_are(&nexus, &id, &[("create", "started")]).await;
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
    }
    nothing_left(&nexus).await;
}

#[tokio::test]
async fn a_stop_right_after_a_create_leaves_nothing_wherever_it_hits() {
    let nexus = TestNexus::start().await;
    let made = (0..24).map(async |n| {
        let id = nexus.create(&format!("brief-{n}"), true).await;
        nexus.ask(&id, "stop").await.expect(202);
        id
    });
    let made = futures::future::join_all(made).await;
    for id in &made {
        nexus.wait(id, is("stopped")).await;
        let attempts = nexus.attempts(id).await;
        // With 24 at once some find no room before they are stopped, and may
        // be tried again by then.
        let possible = ["superseded", "started", "failed"];
        for (n, attempt) in attempts.iter().rev().enumerate() {
            let outcome = attempt["outcome"].as_str().unwrap();
            assert!(possible.contains(&outcome), "{attempts:#?}");
            let reason = if n == 0 { "create" } else { "auto_restart" };
            assert_eq!(attempt["reason"], reason, "{attempts:#?}");
        }
    }
    nothing_left(&nexus).await;
}
