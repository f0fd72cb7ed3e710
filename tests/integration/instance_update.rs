//! Changing an instance: its size at rest, its hostname and its restart policy
//! at any time, and all of it seen by the next start.

use harness::{Answer, Client, GIB, Setup, TestNexus, eventually, is};
use nexus::saga::instance_create::InstanceCreate;
use serde_json::{Value, json};

/// All that can be changed of an instance, as [`Client::instance`] makes it,
/// but for `changes`.
fn settings(changes: Value) -> Value {
    let mut body = json!({
        "ncpus": 2,
        "memory": 2 * GIB,
        "auto_restart_policy": null,
        "boot_disk": null,
        "cpu_platform": null,
    });
    let fields = body.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    body
}

async fn update(nexus: &Client, id: &str, changes: Value) -> Answer {
    nexus.put(&format!("/v1/instances/{id}"), settings(changes)).await
}

/// Checks that now the size cannot be changed, which changes nothing, and
/// that hostname and policy can.
async fn all_but_the_size_can_change(nexus: &TestNexus, id: &str) {
    let before = nexus.database.instance(id);
    for change in [json!({ "ncpus": 3 }), json!({ "memory": 3 * GIB })] {
        let refused = update(nexus, id, change).await;
        let message = refused.error(409, "Conflict");
        assert!(message.contains("stop it first"), "{message}");
    }
    let both = json!({ "ncpus": 3, "auto_restart_policy": "never" });
    update(nexus, id, both).await.error(409, "Conflict");
    let both = json!({ "ncpus": 3, "hostname": "other" });
    update(nexus, id, both).await.error(409, "Conflict");
    assert_eq!(nexus.database.instance(id), before);

    for policy in [json!("never"), json!("best_effort"), json!(null)] {
        let change = json!({ "auto_restart_policy": policy });
        let view = update(nexus, id, change).await.expect(200);
        assert_eq!(view["auto_restart_policy"], policy);
        assert_eq!(view["auto_restart_enabled"], policy != "never");
    }
    for hostname in ["other.example", "db"] {
        let change = json!({ "hostname": hostname });
        let view = update(nexus, id, change).await.expect(200);
        assert_eq!(view["hostname"], hostname);
    }
}

#[tokio::test]
async fn the_size_can_be_changed_at_rest_only_and_the_rest_at_any_time() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    sled.hold(json!({ "boot": true, "stop": true })).await;

    let mut gate = nexus.database.gate::<InstanceCreate>("finish", "started");
    let create = tokio::spawn({
        let admin = nexus.admin.clone();
        async move { admin.create("db", true).await }
    });
    gate.reached_by(1).await;
    let creating = nexus.get("/v1/instances/db?project=demo").await.expect(200);
    assert_eq!(creating["run_state"], "creating");
    let id = creating["id"].as_str().unwrap();
    all_but_the_size_can_change(&nexus, id).await;
    gate.lift();
    assert_eq!(create.await.unwrap(), id);

    let vmm = nexus.wait_for_vmm(id).await;
    eventually("Nexus knows that the guest boots", async || {
        let vmm = nexus.database.row("SELECT state FROM vmm");
        (vmm["state"] == "starting").then_some(())
    })
    .await;
    all_but_the_size_can_change(&nexus, id).await;
    sled.guest(&vmm, "booted").await;
    nexus.wait(id, is("running")).await;
    nexus.settled(id).await;
    all_but_the_size_can_change(&nexus, id).await;
    nexus.ask(id, "stop").await.expect(202);
    eventually("Nexus knows that the guest stops", async || {
        let vmm = nexus.database.row("SELECT state FROM vmm");
        (vmm["state"] == "stopping").then_some(())
    })
    .await;
    all_but_the_size_can_change(&nexus, id).await;

    sled.guest(&vmm, "halted").await;
    nexus.wait(id, is("stopped")).await;
    let change = json!({ "ncpus": 3, "memory": 3 * GIB });
    let view = update(&nexus, id, change).await.expect(200);
    assert_eq!((&view["ncpus"], &view["memory"]), (&json!(3), &json!(3 * GIB)));
}

#[tokio::test]
async fn the_next_start_has_the_new_size() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let path = format!("/v1/system/hardware/sleds/{}", nexus.agents[0].id);
    let (id, _) = nexus.running("db", json!({})).await;
    for (ncpus, gib) in [(5, 7), (1, 1)] {
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
        let change = json!({ "ncpus": ncpus, "memory": gib * GIB });
        update(&nexus, &id, change).await.expect(200);
        nexus.ask(&id, "start").await.expect(202);
        nexus.wait(&id, is("running")).await;
        let sled = nexus.get(&path).await.expect(200);
        assert_eq!(sled["reserved_hardware_threads"], ncpus);
        assert_eq!(sled["reserved_physical_ram"], gib * GIB);
    }
}

#[tokio::test]
async fn the_next_start_has_the_new_hostname() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", json!({})).await;
    let hostname = |vmm: &str| {
        sled.kept(vmm)["spec"]["hostname"].as_str().unwrap().to_owned()
    };
    assert_eq!(hostname(&vmm), "db");

    // While it runs: the guest goes on as it is, and a reboot is no start.
    let change = json!({ "hostname": "while-it-ran" });
    let changed = update(&nexus, &id, change).await.expect(200);
    assert_eq!(changed["hostname"], "while-it-ran");
    assert_eq!(changed["run_state"], "running");
    nexus.ask(&id, "reboot").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(hostname(&vmm), "db");

    // What does not speak of it leaves it, be it absent or null.
    for change in [json!({}), json!({ "hostname": null })] {
        let view = update(&nexus, &id, change).await.expect(200);
        assert_eq!(view["hostname"], "while-it-ran");
    }

    // The system's own start has it, too.
    sled.guest(&vmm, "panic").await;
    nexus
        .wait(&id, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    let again = nexus.vmm_of(&id).await;
    assert_ne!(again, vmm);
    assert_eq!(hostname(&again), "while-it-ran");

    // At rest.
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    let change = json!({ "hostname": "At-Rest.example" });
    let changed = update(&nexus, &id, change).await.expect(200);
    assert_eq!(changed["hostname"], "At-Rest.example");
    assert_eq!(changed["run_state"], "stopped");
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(hostname(&nexus.vmm_of(&id).await), "At-Rest.example");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_next_failure_obeys_the_new_policy() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    let (id, vmm) = nexus.running("db", json!({})).await;
    let never = json!({ "auto_restart_policy": "never" });
    update(&nexus, &id, never).await.expect(200);
    sled.guest(&vmm, "panic").await;
    nexus.wait(&id, is("failed")).await;
    nexus.settled(&id).await;
    assert_eq!(nexus.attempts(&id).await.len(), 1, "nobody starts it again");

    // That it may be restarted now is seen at once, too.
    let again = json!({ "auto_restart_policy": "best_effort" });
    update(&nexus, &id, again).await.expect(200);
    nexus.wait(&id, is("running")).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0]["reason"], "auto_restart");
}

#[tokio::test]
async fn what_was_too_large_is_started_when_it_is_made_smaller() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for (name, policy, by) in [
        ("by-itself", json!(null), "auto_restart"),
        ("when-asked", json!("never"), "user"),
    ] {
        let mut body = Client::instance(name, true);
        body["ncpus"] = 9.into();
        body["auto_restart_policy"] = policy.clone();
        let id = nexus.create_as(body).await;
        let failed = nexus.wait(&id, is("failed")).await;
        assert_eq!(failed["start_failure"]["kind"], "insufficient_capacity");
        assert_eq!(failed["start_failure"]["transient"], false);
        nexus.settled(&id).await;

        let change = json!({ "ncpus": 4, "auto_restart_policy": policy });
        update(&nexus, &id, change).await.expect(200);
        if by == "user" {
            nexus.settled(&id).await;
            assert_eq!(nexus.attempts(&id).await.len(), 1);
            nexus.ask(&id, "start").await.expect(202);
        }
        let running = nexus.wait(&id, is("running")).await;
        assert_eq!(running["start_failure"], json!(null));
        assert_eq!(nexus.attempts(&id).await[0]["reason"], by);
    }
}

#[tokio::test]
async fn a_change_of_nothing_changes_nothing() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let before = nexus.instance_view(&id).await;
    assert_eq!(update(&nexus, &id, json!({})).await.expect(200), before);

    let changed = update(&nexus, &id, json!({ "ncpus": 3 })).await.expect(200);
    assert!(changed["view_gen"].as_u64() > before["view_gen"].as_u64());
    assert_ne!(changed["time_modified"], before["time_modified"]);
    assert_eq!(
        changed["time_run_state_updated"], before["time_run_state_updated"],
        "that is another time",
    );
}

#[tokio::test]
async fn a_wrong_or_missing_value_is_refused_by_name_and_nothing_changes() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let before = nexus.database.instance(&id);
    for (field, value) in [
        ("ncpus", json!(0)),
        ("ncpus", json!(-1)),
        ("ncpus", json!(255)),
        ("ncpus", json!(null)),
        ("memory", json!(0)),
        ("memory", json!(GIB / 2)),
        ("memory", json!(GIB + 1)),
        ("memory", json!(1537 * GIB)),
        ("hostname", json!("")),
        ("hostname", json!("under_score")),
        ("hostname", json!("-dash")),
        ("hostname", json!("dot..dot")),
        ("hostname", json!("x".repeat(254))),
        ("hostname", json!(1)),
        ("auto_restart_policy", json!("sometimes")),
        ("boot_disk", json!("A-disk")),
        ("cpu_platform", json!("amd_rome")),
        ("multicast_groups", json!([{ "group": "g" }])),
        ("enable_jumbo_frames", json!(true)),
    ] {
        let refused = update(&nexus, &id, json!({ field: value })).await;
        assert_eq!(refused.status, 400, "{field} {value}: {refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
        assert!(refused.body["error_code"].is_string(), "{refused:?}");
    }
    for field in
        ["ncpus", "memory", "auto_restart_policy", "boot_disk", "cpu_platform"]
    {
        let mut body = settings(json!({ "ncpus": 3 }));
        body.as_object_mut().unwrap().remove(field);
        let refused = nexus.put(&format!("/v1/instances/{id}"), body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains(field), "{message}");
    }
    assert_eq!(nexus.database.instance(&id), before);
}

#[tokio::test]
async fn what_is_deleted_cannot_be_changed() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.delete_instance(&id).await.expect(204);
    let refused = update(&nexus, &id, json!({ "ncpus": 3 })).await;
    refused.error(404, "ObjectNotFound");
}
