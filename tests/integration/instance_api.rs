//! What the API answers about an instance, and what it refuses: a refused
//! request changes nothing.

use harness::{Answer, Client, GIB, Setup, TestNexus, eventually, is};
use nexus::saga::instance_create::InstanceCreate;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LIST: &str = "/v1/instances?project=demo";

/// What a request to create is answered, whose body is right but for
/// `changes`.
async fn create(nexus: &Client, changes: Value) -> Answer {
    let mut body = Client::instance("db", false);
    let fields = body.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    nexus.post(LIST, body).await
}

async fn names(nexus: &Client) -> Vec<String> {
    let list = nexus.get(LIST).await.expect(200);
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| i["name"].as_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn an_unknown_instance_is_not_found_and_the_list_is_empty() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let list = nexus.get(LIST).await.expect(200);
    assert_eq!(list, json!({ "items": [], "next_page": null }));

    let id = "12345678-1234-1234-1234-123456789abc";
    let by_name = "/v1/instances/nobody?project=demo".to_string();
    for (path, lookup) in
        [(by_name, "nobody"), (format!("/v1/instances/{id}"), id)]
    {
        for answer in [nexus.get(&path).await, nexus.delete(&path).await] {
            let message = answer.error(404, "ObjectNotFound");
            assert!(message.contains(lookup), "{message}");
        }
    }

    let missing = nexus.get("/v1/instances?project=nowhere").await;
    let message = missing.error(404, "ObjectNotFound");
    assert!(message.contains("nowhere"), "{message}");
    let missing = nexus
        .post("/v1/instances?project=nowhere", Client::instance("db", true))
        .await;
    missing.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn a_new_instance_with_a_wrong_value_is_refused_by_the_field_s_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("No-Capitals")),
        ("name", json!("12345678-1234-1234-1234-123456789abc")),
        ("description", json!("x".repeat(513))),
        ("hostname", json!("")),
        ("hostname", json!("under_score")),
        ("hostname", json!("-dash")),
        ("hostname", json!("dot..dot")),
        ("ncpus", json!(-1)),
        ("ncpus", json!(0)),
        ("ncpus", json!(255)),
        ("ncpus", json!(1_000_000)),
        ("ncpus", json!("two")),
        ("memory", json!(-1)),
        ("memory", json!(0)),
        ("memory", json!(GIB / 2)),
        ("memory", json!(GIB + GIB / 2)),
        ("memory", json!(GIB + 1)),
        ("memory", json!(1537 * GIB)),
        ("memory", json!(u64::MAX)),
        ("user_data", json!("#")),
        ("ssh_public_keys", json!(["nobody-s"])),
        ("auto_restart_policy", json!("sometimes")),
        ("start", json!("yes")),
        ("disks", json!([{ "type": "attach", "name": "D" }])),
        ("disks", json!([{ "type": "detach", "name": "d" }])),
        ("boot_disk", json!({ "type": "attach", "name": "D" })),
        ("external_ips", json!([{ "type": "ephemeral" }])),
    ] {
        let answer = create(&nexus, json!({ field: value })).await;
        assert_eq!(answer.status, 400, "{field} {value}: {answer:?}");
        let code = answer.body["error_code"].clone();
        let code = code.as_str().unwrap_or_default();
        assert!(["InvalidRequest", "InvalidValue"].contains(&code), "{code}");
        let message = answer.error(400, code);
        assert!(message.contains(field), "{field} {value}: {message}");
    }
    for field in ["name", "description", "hostname", "ncpus", "memory"] {
        let mut body = Client::instance("db", false);
        body.as_object_mut().unwrap().remove(field);
        let refused = nexus.post(LIST, body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains(field), "{message}");
    }
    assert_eq!(names(&nexus).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_says_where() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for text in ["", "{\"name\": ", "[]", "{\"name\": \"db\"}}"] {
        let refused = nexus.send_text(Method::POST, LIST, text).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("line 1 column"), "{text}: {message}");
    }
}

#[tokio::test]
async fn an_instance_is_reached_by_its_id_and_by_its_name_in_its_project() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = nexus.get("/v1/projects/demo").await.expect(200);
    let project = project["id"].as_str().unwrap();
    let other = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", other).await.expect(201);
    let id = nexus.create("db", false).await;
    let view = nexus.instance_view(&id).await;
    for path in [
        format!("/v1/instances/{id}?project=demo"),
        format!("/v1/instances/{id}?project={project}"),
        "/v1/instances/db?project=demo".to_string(),
        format!("/v1/instances/db?project={project}"),
    ] {
        assert_eq!(nexus.get(&path).await.expect(200), view, "{path}");
    }
    for path in [
        format!("/v1/instances/{id}?project=other"),
        format!("/v1/instances/{id}?project=nowhere"),
        "/v1/instances/db?project=other".to_string(),
    ] {
        nexus.get(&path).await.error(404, "ObjectNotFound");
    }
}

#[tokio::test]
async fn a_name_without_its_project_is_refused_and_told_so() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    nexus.create("db", false).await;
    let update = json!({
        "ncpus": 2, "memory": GIB, "auto_restart_policy": null,
        "boot_disk": null, "cpu_platform": null,
    });
    for (method, path, body) in [
        (Method::GET, "/v1/instances/db", None),
        (Method::PUT, "/v1/instances/db", Some(update)),
        (Method::DELETE, "/v1/instances/db", None),
        (Method::POST, "/v1/instances/db/start", None),
        (Method::POST, "/v1/instances/db/stop", None),
        (Method::POST, "/v1/instances/db/reboot", None),
        (Method::GET, "/v1/instances/db/start-attempts", None),
    ] {
        let refused = nexus.request(method, path, body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("?project="), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_name_is_taken_until_its_instance_is_deleted() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let other = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", other).await.expect(201);
    let first = nexus.create("db", false).await;

    let taken = nexus.post(LIST, Client::instance("db", true)).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("db"), "{message}");
    assert_eq!(names(&nexus).await, ["db"]);
    assert_eq!(nexus.instance_view(&first).await["intended_state"], "stopped");
    nexus
        .post("/v1/instances?project=other", Client::instance("db", false))
        .await
        .expect(201);

    nexus.delete_instance(&first).await.expect(204);
    let second = nexus.create("db", false).await;
    assert_ne!(second, first);
    nexus.get(&format!("/v1/instances/{first}")).await.expect(404);
    let by_name = nexus.get("/v1/instances/db?project=demo").await.expect(200);
    assert_eq!(by_name["id"], second.as_str());
}

#[tokio::test]
async fn of_many_who_want_a_name_at_once_one_gets_it() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let requests = (0..8).map(|_| create(&nexus, json!({})));
    let answers = futures::future::join_all(requests).await;
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|a| a.status == 201);
    assert_eq!(made.len(), 1, "{made:?}");
    for answer in refused {
        answer.error(400, "ObjectAlreadyExists");
    }
    assert_eq!(names(&nexus).await, ["db"]);
}

/// From here on no create gets to its end.
const REFUSE: &str = "CREATE FUNCTION refuse() RETURNS trigger \
     LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a test says no'; END $$; \
     CREATE TRIGGER refuse BEFORE UPDATE ON instance FOR EACH ROW \
     WHEN (OLD.state = 'creating' AND NEW.state = 'no_vmm') \
     EXECUTE FUNCTION refuse()";

#[tokio::test]
async fn a_create_that_fails_leaves_nothing_and_its_name_is_free() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.sql(REFUSE);
    let failed = create(&nexus, json!({ "start": true })).await;
    let message = failed.error(500, "Internal");
    assert!(message.contains("incident"), "{message}");
    assert!(!message.contains("a test says no"), "{message}");
    assert_eq!(names(&nexus).await, Vec::<String>::new());
    nexus.check_invariants().await;
    let left = "SELECT count(*) FROM instance WHERE state <> 'destroyed'";
    assert_eq!(nexus.database.count(left), 0);

    nexus.sql("DROP TRIGGER refuse ON instance");
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
}

#[tokio::test]
async fn a_start_taken_during_a_create_that_fails_has_failed_with_it() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let mut gate = nexus.database.gate::<InstanceCreate>("finish", "started");
    let creating = tokio::spawn({
        let admin = nexus.admin.clone();
        async move { create(&admin, json!({ "start": false })).await }
    });
    gate.reached_by(1).await;
    let path = "/v1/instances/db?project=demo";
    let view = nexus.get(path).await.expect(200);
    let id = view["id"].as_str().unwrap();
    nexus.ask(id, "start").await.expect(202);
    nexus.sql(REFUSE);
    gate.lift();
    creating.await.unwrap().error(500, "Internal");
    nexus.get(path).await.error(404, "ObjectNotFound");
    // What was taken is not lost: it ended, and is found by the id.
    let attempts = nexus.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "failed");
    assert_eq!(attempts[0]["failure"]["kind"], "internal");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn without_start_an_instance_rests_until_it_is_started() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    assert_eq!(view["run_state"], "stopped");
    assert_eq!(view["intended_state"], "stopped");
    assert_eq!(nexus.attempts(&id).await, Vec::<Value>::new());

    nexus.ask(&id, "start").await.expect(202);
    let running = nexus.wait(&id, is("running")).await;
    assert_eq!(running["intended_state"], "running");
    let attempts = nexus.attempts(&id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["reason"], "user");
}

#[tokio::test]
async fn a_refused_delete_changes_nothing_the_restart_least_of_all() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.settled(&id).await;
    let before = nexus.database.instance(&id);
    for _ in 0..2 {
        let refused = nexus.delete_instance(&id).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("must be stopped"), "{message}");
    }
    assert_eq!(nexus.database.instance(&id), before);

    nexus.agent_of(&vmm).await.guest(&vmm, "panic").await;
    let restarted = nexus
        .wait(&id, |view| {
            is("running")(view) && !view["time_last_auto_restarted"].is_null()
        })
        .await;
    assert_eq!(restarted["intended_state"], "running");
}

#[tokio::test]
async fn a_start_while_it_stops_is_refused_and_changes_nothing() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].hold(json!({ "stop": true })).await;
    nexus.ask(&id, "stop").await.expect(202);
    // The guest has been told, so nothing but its halt is to come.
    eventually("the guest stops", async || {
        let live = nexus.live_vmms(&id).await;
        (live[0]["state"] == "stopping").then_some(())
    })
    .await;
    let said = "SELECT count(*) FROM vmm WHERE state = 'stopping'";
    eventually("Nexus knows", async || {
        (nexus.database.count(said) == 1).then_some(())
    })
    .await;

    let before = nexus.database.instance(&id);
    for _ in 0..2 {
        let refused = nexus.ask(&id, "start").await.error(409, "Conflict");
        assert!(refused.contains("still stopping"), "{refused}");
    }
    let message = nexus.delete_instance(&id).await.error(400, "InvalidRequest");
    assert!(message.contains("must be stopped"), "{message}");
    assert_eq!(nexus.database.instance(&id), before);
    assert_eq!(nexus.instance_view(&id).await["run_state"], "stopping");

    nexus.agents[0].guest(&vmm, "halted").await;
    let stopped = nexus.wait(&id, is("stopped")).await;
    assert_eq!(stopped["intended_state"], "stopped");
    assert_eq!(nexus.attempts(&id).await.len(), 1, "only the first start");
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
}

#[tokio::test]
async fn a_start_while_it_is_created_is_taken_and_comes_after() {
    for start in [false, true] {
        let nexus = TestNexus::with(Setup::one_sled()).await;
        let mut gate =
            nexus.database.gate::<InstanceCreate>("finish", "started");
        let creating = tokio::spawn({
            let admin = nexus.admin.clone();
            async move { create(&admin, json!({ "start": start })).await }
        });
        gate.reached_by(1).await;
        let path = "/v1/instances/db?project=demo";
        let view = nexus.get(path).await.expect(200);
        assert_eq!(view["run_state"], "creating");
        let id = view["id"].as_str().unwrap();

        // What cannot be taken now is refused, and changes nothing.
        let before = nexus.database.instance(id);
        for what in ["stop", "reboot"] {
            let refused = nexus.ask(id, what).await;
            let message = refused.error(400, "InvalidRequest");
            assert!(message.contains("being created"), "{message}");
        }
        nexus.delete_instance(id).await.error(400, "InvalidRequest");
        assert_eq!(nexus.database.instance(id), before);

        for _ in 0..2 {
            let taken = nexus.ask(id, "start").await.expect(202);
            assert_eq!(taken["run_state"], "creating");
            assert_eq!(taken["intended_state"], "running");
        }
        gate.lift();
        creating.await.unwrap().expect(201);
        nexus.wait(id, is("running")).await;
        let attempts = nexus.attempts(id).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!(attempts[0]["outcome"], "started");
        let reason = if start { "create" } else { "user" };
        assert_eq!(attempts[0]["reason"], reason);
    }
}

/// The path that waits for the view to change from `seen`.
fn waiting(id: &str, seen: u64, secs: u64) -> String {
    let wait = format!("wait_for_change={seen}&wait_seconds={secs}");
    format!("/v1/instances/{id}?{wait}")
}

fn view_gen(view: &Value) -> u64 {
    view["view_gen"].as_u64().unwrap()
}

/// Far from both "at once" and the timeouts that the tests give.
const NOT_LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_wait_for_a_change_that_was_already_is_answered_at_once() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    let began = Instant::now();
    for seen in [0, view_gen(&view) - 1] {
        let answer = nexus.get(&waiting(&id, seen, 60)).await.expect(200);
        assert_eq!(answer, view);
    }
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wait_is_answered_with_the_change_that_it_waits_for() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    let by_id = waiting(&id, view_gen(&view), 60);
    let by_name = by_id.replace(&format!("/{id}?"), "/db?project=demo&");
    let began = Instant::now();
    let waits: Vec<_> = [by_id, by_name]
        .into_iter()
        .map(|path| {
            let admin = nexus.admin.clone();
            tokio::spawn(async move { admin.get(&path).await })
        })
        .collect();
    // Whether they ask before the change or after, they are answered with it.
    let change = json!({
        "ncpus": 3, "memory": GIB, "auto_restart_policy": null,
        "boot_disk": null, "cpu_platform": null,
    });
    nexus.put(&format!("/v1/instances/{id}"), change).await.expect(200);
    for wait in waits {
        let changed = wait.await.unwrap().expect(200);
        assert!(view_gen(&changed) > view_gen(&view));
        assert_eq!(changed["ncpus"], 3);
    }
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wait_sees_what_another_process_changed() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let seen = view_gen(&nexus.instance_view(&id).await);
    let wait = tokio::spawn({
        let (admin, path) = (nexus.admin.clone(), waiting(&id, seen, 60));
        async move { admin.get(&path).await }
    });
    let began = Instant::now();
    nexus.sql("UPDATE instance SET description = 'x', view_gen = view_gen + 1");
    let changed = wait.await.unwrap().expect(200);
    assert_eq!(changed["description"], "x");
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wait_that_sees_no_change_ends_with_the_view_as_it_is() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    for seen in [view_gen(&view), view_gen(&view) + 100] {
        let began = Instant::now();
        let answer = nexus.get(&waiting(&id, seen, 1)).await.expect(200);
        assert_eq!(answer, view);
        assert!(began.elapsed() >= Duration::from_secs(1), "too early");
    }
}

#[tokio::test]
async fn a_wait_ends_when_its_instance_is_deleted() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let seen = view_gen(&nexus.instance_view(&id).await);
    let wait = tokio::spawn({
        let (admin, path) = (nexus.admin.clone(), waiting(&id, seen, 60));
        async move { admin.get(&path).await }
    });
    let began = Instant::now();
    nexus.delete_instance(&id).await.expect(204);
    wait.await.unwrap().error(404, "ObjectNotFound");
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wait_holds_up_no_shutdown() {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    // Held where it reads the view, which nothing else does here, so that it is
    // known to be there.
    let mut door =
        nexus.database.hold("LOCK TABLE project IN ACCESS EXCLUSIVE MODE");
    let wait = tokio::spawn({
        let admin = nexus.admin.clone();
        let path = waiting(&id, view_gen(&view), 60);
        async move { admin.get(&path).await }
    });
    door.reached_by(1).await;
    door.lift();
    let began = Instant::now();
    assert_eq!(nexus.process.child.terminate().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "it waited for the wait");
    assert_eq!(wait.await.unwrap().expect(200), view);
}

#[tokio::test]
async fn a_wait_that_cannot_be_is_refused_by_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    for (query, field) in [
        ("wait_for_change=1&wait_seconds=0", "wait_seconds"),
        ("wait_for_change=1&wait_seconds=61", "wait_seconds"),
        ("wait_seconds=61", "wait_seconds"),
        ("wait_for_change=1&wait_seconds=-1", ""),
        ("wait_for_change=1&wait_seconds=soon", ""),
        ("wait_for_change=-1", ""),
        ("wait_for_change=18446744073709551615", "wait_for_change"),
    ] {
        let refused = nexus.get(&format!("/v1/instances/{id}?{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
        let named = !field.is_empty();
        let code = if named { "InvalidValue" } else { "InvalidRequest" };
        let message = refused.error(400, code);
        assert!(message.contains(field), "{query}: {message}");
    }
}
