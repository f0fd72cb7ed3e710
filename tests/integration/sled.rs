//! The fleet's hosts, as operators see and set them.

use harness::{Client, GIB, Setup, TestNexus, eventually, is};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const SLEDS: &str = "/v1/system/hardware/sleds";

/// What of a sled's view does not change with each heartbeat.
async fn view(nexus: &Client, sled: &str) -> Value {
    let view = nexus.get(&format!("{SLEDS}/{sled}")).await.expect(200);
    without_heartbeat(view)
}

fn without_heartbeat(mut view: Value) -> Value {
    let heartbeat = view.as_object_mut().unwrap().remove("time_last_heartbeat");
    assert!(heartbeat.is_some_and(|time| time.is_string()));
    view
}

async fn instances(nexus: &Client, sled: &str) -> Vec<Value> {
    let path = format!("{SLEDS}/{sled}/instances");
    let list = nexus.get(&path).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

/// Sets the provision policy; what it was before.
async fn set(nexus: &Client, sled: &str, policy: &str) -> String {
    let path = format!("{SLEDS}/{sled}/provision-policy");
    let answer = nexus.put(&path, json!({ "state": policy })).await.expect(200);
    assert_eq!(answer["new_state"], policy);
    let shown = &view(nexus, sled).await["policy"];
    assert_eq!(
        *shown,
        json!({ "kind": "in_service", "provision_policy": policy })
    );
    answer["old_state"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn a_sled_shows_what_it_has_and_what_of_it_is_taken() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    let empty = view(&nexus, sled).await;
    assert_eq!(empty["id"], sled.as_str());
    assert_eq!(empty["baseboard"]["serial"], "test-0");
    assert!(empty["baseboard"]["part"].is_string());
    assert!(empty["baseboard"]["revision"].is_u64());
    assert!(empty["rack_id"].is_string());
    assert_eq!(empty["state"], "active");
    assert_eq!(empty["usable_hardware_threads"], 8);
    assert_eq!(empty["usable_physical_ram"], 16 * GIB);
    assert_eq!(empty["reserved_hardware_threads"], 0);
    assert_eq!(empty["reserved_physical_ram"], 0);

    let id = nexus.create_sized("db", 3, 5).await;
    nexus.wait(&id, is("running")).await;
    let taken = view(&nexus, sled).await;
    assert_eq!(taken["reserved_hardware_threads"], 3);
    assert_eq!(taken["reserved_physical_ram"], 5 * GIB);
    assert_eq!(taken["usable_hardware_threads"], 8);

    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    assert_eq!(view(&nexus, sled).await, empty);
}

#[tokio::test]
async fn sleds_are_listed_as_each_is_shown() {
    let nexus = TestNexus::start().await;
    let list = nexus.get(SLEDS).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    for agent in &nexus.agents {
        let shown = view(&nexus, &agent.id).await;
        let items = list["items"].as_array().unwrap();
        let listed = items.iter().find(|sled| sled["id"] == agent.id.as_str());
        assert_eq!(without_heartbeat(listed.unwrap().clone()), shown);
    }
}

#[tokio::test]
async fn a_heartbeat_is_seen() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let path = format!("{SLEDS}/{}", nexus.agents[0].id);
    let before = nexus.get(&path).await.expect(200);
    eventually("the sled is heard of again", async || {
        let now = nexus.get(&path).await.expect(200);
        let (now, before) =
            (&now["time_last_heartbeat"], &before["time_last_heartbeat"]);
        (now.as_str()? > before.as_str()?).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unknown_sled_is_not_found_and_a_name_is_no_sled() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = "12345678-1234-1234-1234-123456789abc";
    for (sled, status, code) in
        [(id, 404, "ObjectNotFound"), ("sled-0", 400, "InvalidRequest")]
    {
        let sled = format!("{SLEDS}/{sled}");
        let policy = json!({ "state": "provisionable" });
        let answers = [
            nexus.get(&sled).await,
            nexus.get(&format!("{sled}/instances")).await,
            nexus.put(&format!("{sled}/provision-policy"), policy).await,
        ];
        for answer in answers {
            let message = answer.error(status, code);
            assert!(status == 400 || message.contains(id), "{message}");
        }
    }
    assert_eq!(nexus.get(SLEDS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_sled_lists_the_instances_of_all_silos_that_it_runs() {
    let nexus = TestNexus::start().await;
    let other = nexus.other_silo("other").await;
    let project = json!({ "name": "theirs", "description": "" });
    other.post("/v1/projects", project).await.expect(201);
    let theirs = other
        .post("/v1/instances?project=theirs", Client::instance("web", true))
        .await
        .expect(201);
    let theirs = theirs["id"].as_str().unwrap().to_string();
    other.wait(&theirs, is("running")).await;
    let (ours, _) = nexus.running("db", json!({})).await;
    for (id, name, project, silo) in
        [(&ours, "db", "demo", "main"), (&theirs, "web", "theirs", "other")]
    {
        let vmm = nexus.vmm_of(id).await;
        let sled = &nexus.agent_of(&vmm).await.id;
        let listed = instances(&nexus, sled).await;
        let listed = listed.iter().find(|i| i["id"] == id.as_str()).unwrap();
        assert_eq!(listed["name"], name);
        assert_eq!(listed["project_name"], project);
        assert_eq!(listed["silo_name"], silo);
        assert_eq!(listed["active_sled_id"], sled.as_str());
        assert_eq!(listed["migration_id"], json!(null));
        assert_eq!(listed["state"], "running");
        assert_eq!(listed["ncpus"], 2);
        assert_eq!(listed["memory"], 2 * GIB);
    }
    nexus.ask(&ours, "stop").await.expect(202);
    nexus.wait(&ours, is("stopped")).await;
    for agent in &nexus.agents {
        let listed = instances(&nexus, &agent.id).await;
        assert!(listed.iter().all(|i| i["id"] == theirs.as_str()));
    }
}

#[tokio::test]
async fn a_closed_sled_gets_nothing_new_and_what_it_runs_goes_on() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    let closed = nexus.agent_of(&vmm).await;
    let before = nexus.instance_view(&id).await;
    let registered = closed.calls("register").await;
    assert_eq!(
        set(&nexus, &closed.id, "non_provisionable").await,
        "provisionable"
    );
    assert_eq!(
        set(&nexus, &closed.id, "non_provisionable").await,
        "non_provisionable",
        "twice is as good as once",
    );

    // The other fills up, and so this one would be chosen.
    for name in ["one", "two", "three"] {
        let (_, elsewhere) = nexus.running(name, json!({})).await;
        assert_ne!(nexus.agent_of(&elsewhere).await.id, closed.id);
    }
    assert_eq!(closed.calls("register").await, registered);

    // Seen by whoever looks, and left alone.
    closed.called("list", 2).await;
    assert_eq!(nexus.instance_view(&id).await, before);
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    assert_eq!(instances(&nexus, &closed.id).await.len(), 1);
    assert_eq!(
        closed.counters().await["hypervisor"],
        json!({ "boot": 1 }),
        "the guest was told nothing",
    );
    nexus.ask(&id, "reboot").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.vmm_of(&id).await, vmm);

    // Once it is away, it does not come back there.
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.running("four", json!({})).await;
    nexus.ask(&id, "start").await.expect(202);
    let failed = nexus.wait(&id, is("failed")).await;
    let failure = &failed["start_failure"];
    assert_eq!(failure["kind"], "insufficient_capacity");

    assert_eq!(
        set(&nexus, &closed.id, "provisionable").await,
        "non_provisionable"
    );
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.agent_of(&nexus.vmm_of(&id).await).await.id, closed.id);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_no_sled_takes_is_started_as_soon_as_one_is_opened() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    set(&nexus, sled, "non_provisionable").await;
    let id = nexus.create("db", true).await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["start_failure"]["kind"], "no_sled_in_service");
    assert_eq!(failed["start_failure"]["transient"], true);
    // A retry by the clock is not what the sled's opening brings.
    nexus.sql(
        "UPDATE instance SET next_retry_at = now() + INTERVAL '1 day', \
             reconcile_at = now() + INTERVAL '1 day'",
    );

    set(&nexus, sled, "provisionable").await;
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["start_failure"], json!(null));
    assert_eq!(nexus.attempts(&id).await[0]["reason"], "auto_restart");
}

#[tokio::test]
async fn an_unknown_policy_is_refused_by_name_and_changes_nothing() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    let before = view(&nexus, sled).await;
    let path = format!("{SLEDS}/{sled}/provision-policy");
    for body in [json!({ "state": "closed" }), json!({ "state": 1 }), json!({})]
    {
        let refused = nexus.put(&path, body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("state"), "{message}");
    }
    assert_eq!(view(&nexus, sled).await, before);
}

#[tokio::test]
async fn an_expunged_sled_is_shown_as_such_and_cannot_be_opened_again() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    let sled = &nexus.agent_of(&vmm).await.id;
    let path = format!("/sleds/{sled}/expunge");
    let operator = nexus.process.internal_client();
    for _ in 0..2 {
        operator.request(Method::POST, &path, None).await.expect(204);
    }
    let shown = view(&nexus, sled).await;
    assert_eq!(shown["policy"], json!({ "kind": "expunged" }));
    assert_eq!(shown["state"], "decommissioned");

    let path = format!("{SLEDS}/{sled}/provision-policy");
    for policy in ["provisionable", "non_provisionable"] {
        let refused = nexus.put(&path, json!({ "state": policy })).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("expunged"), "{message}");
    }
    // It is still listed, holds nothing, and what it ran goes on elsewhere.
    let listed = nexus.get(SLEDS).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    nexus
        .wait(&id, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    assert_eq!(instances(&nexus, sled).await, Vec::<Value>::new());
    assert_eq!(view(&nexus, sled).await["reserved_hardware_threads"], 0);
}

/// What a sled says of itself, right but for `changes`.
fn registration(changes: Value) -> Value {
    let mut body = json!({
        "address": "127.0.0.1:9",
        "serial": "s",
        "part": "p",
        "revision": 1,
        "vcpus": 4,
        "memory_bytes": 8 * GIB,
        "storage_bytes": GIB,
        "incarnation": Uuid::new_v4(),
    });
    let fields = body.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_sled_that_cannot_be_so_is_refused_by_the_field_s_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let sled = Uuid::new_v4().to_string();
    let inside = nexus.process.internal_client();
    let (path, beat) =
        (format!("/sleds/{sled}"), format!("/sleds/{sled}/heartbeat"));
    let wrong = [
        ("serial", json!(""), "1 to 63"),
        ("serial", json!("x".repeat(64)), "1 to 63"),
        ("serial", json!("a\u{0}b"), "control"),
        ("serial", json!("a\nb"), "control"),
        ("part", json!(""), "1 to 63"),
        ("part", json!("\u{fc}".repeat(64)), "1 to 63"),
        ("part", json!("a\u{7f}"), "control"),
        ("address", json!("0.0.0.0:1"), "0.0.0.0:1"),
        ("address", json!("[::]:1"), "[::]:1"),
        ("address", json!("127.0.0.1:0"), "127.0.0.1:0"),
        ("vcpus", json!(0), "0 is out of range"),
        ("vcpus", json!(65_537), "from 1 to 65536"),
        ("memory_bytes", json!(0), "0 is out of range"),
        ("memory_bytes", json!(u64::MAX), "it must be from 1"),
        ("storage_bytes", json!(u64::MAX), "it must be from 0"),
    ];
    for (field, value, why) in &wrong {
        let body = registration(json!({ *field: value }));
        let refused = inside.put(&path, body).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(nexus.get(SLEDS).await.expect(200)["items"], json!([]));

    // One that is known changes nothing by what is wrong, either.
    let widest = json!({
        "serial": "\u{fc}".repeat(63),
        "part": "x".repeat(63),
        "vcpus": 65_536,
    });
    inside.put(&path, registration(widest)).await.expect(200);
    let before = nexus.get(&format!("{SLEDS}/{sled}")).await.expect(200);
    for (field, value, _) in &wrong {
        let body = registration(json!({ *field: value }));
        let refused = inside.post(&beat, body).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.starts_with(&format!("{field}: ")), "{message}");
    }
    let after = nexus.get(&format!("{SLEDS}/{sled}")).await.expect(200);
    assert_eq!(after, before, "not even a heartbeat");
}

#[tokio::test]
async fn a_heartbeat_of_a_sled_that_never_registered_says_so() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let sled = Uuid::new_v4().to_string();
    let inside = nexus.process.internal_client();
    let path = format!("/sleds/{sled}/heartbeat");
    let refused = inside.post(&path, registration(json!({}))).await;
    let message = refused.error(404, "SLED_UNKNOWN");
    assert!(message.contains(&sled), "{message}");
    assert_eq!(nexus.get(SLEDS).await.expect(200)["items"], json!([]));

    let register = format!("/sleds/{sled}");
    inside.put(&register, registration(json!({}))).await.expect(200);
    inside.post(&path, registration(json!({}))).await.expect(200);
}

#[tokio::test]
async fn a_report_is_taken_only_of_a_vmm_that_the_sled_was_given() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.settled(&id).await;
    let sled = nexus.agent_of(&vmm).await;
    let other = nexus.agents.iter().find(|a| a.id != sled.id).unwrap();
    let inside = nexus.process.internal_client();
    let mut report = sled.vmms().await.remove(0);
    assert_eq!(report["vmm_id"], vmm.as_str());
    let generation = report["generation"].as_u64().unwrap();
    assert!(generation > 1, "{report}");
    let rows = || {
        let vmm = nexus.database.row("SELECT state, generation FROM vmm");
        (vmm, nexus.database.instance(&id))
    };
    let before = rows();

    // An end, as the newest news: it would be seen if it were taken.
    report["state"] = "destroyed".into();
    report["end_reason"] = "guest_shutdown".into();
    report["generation"] = (generation + 1).into();
    let path = format!("/sleds/{}/vmms/{vmm}", other.id);
    let refused = inside.put(&path, report.clone()).await;
    refused.error(404, "NO_SUCH_VMM");
    let path = format!("/sleds/{}/vmms/{vmm}", Uuid::new_v4());
    let refused = inside.put(&path, report.clone()).await;
    refused.error(404, "NO_SUCH_VMM");
    let unknown = Uuid::new_v4().to_string();
    let mut of_unknown = report.clone();
    of_unknown["vmm_id"] = unknown.as_str().into();
    let path = format!("/sleds/{}/vmms/{unknown}", sled.id);
    let refused = inside.put(&path, of_unknown).await;
    let message = refused.error(404, "NO_SUCH_VMM");
    assert!(message.contains(&unknown), "{message}");

    // Old news is taken, so that it is not told again, and is no news.
    let path = format!("/sleds/{}/vmms/{vmm}", sled.id);
    for old in [1, generation - 1, generation] {
        report["generation"] = old.into();
        inside.put(&path, report.clone()).await.expect(204);
    }
    assert_eq!(rows(), before);

    // The same, once it is news.
    report["generation"] = (generation + 1).into();
    inside.put(&path, report.clone()).await.expect(204);
    assert_ne!(rows(), before);
}
