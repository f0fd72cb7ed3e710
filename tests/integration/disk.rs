//! Local disks: made, attached and detached at rest, made with an instance, and
//! deleted.

use crate::unreachable::abandoned_while_it_may_run;
use harness::{Answer, Client, GIB, Setup, TestNexus, Tuning, eventually, is};
use nexus::saga::instance_create::InstanceCreate;
use reqwest::Method;
use serde_json::{Value, json};

const DISKS: &str = "/v1/disks?project=demo";
const INSTANCES: &str = "/v1/instances?project=demo";

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::no_sled()).await
}

/// The body of a disk that is right but for `changes`.
fn disk(changes: Value) -> Value {
    let mut body = Client::disk("data");
    let fields = body.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    body
}

async fn view(nexus: &Client, id: &str) -> Value {
    nexus.get(&format!("/v1/disks/{id}")).await.expect(200)
}

async fn delete(nexus: &Client, id: &str) -> Answer {
    nexus.delete(&format!("/v1/disks/{id}")).await
}

fn attached(instance: &str) -> Value {
    json!({ "state": "attached", "instance": instance })
}

fn detached() -> Value {
    json!({ "state": "detached" })
}

/// The names of a list's items.
async fn names(nexus: &Client, list: &str) -> Vec<String> {
    let page = nexus.get(list).await.expect(200);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|i| i["name"].as_str().unwrap().to_string()).collect()
}

/// The names of an instance's disks.
async fn disks_of(nexus: &Client, instance: &str) -> Vec<String> {
    names(nexus, &format!("/v1/instances/{instance}/disks")).await
}

/// The disks of an instance to be made: new ones, and those that are there.
fn wanted(new: &[&str], there: &[&str]) -> Value {
    let new = new.iter().map(|name| {
        let mut disk = Client::disk(name);
        disk["type"] = "create".into();
        disk
    });
    let there =
        there.iter().map(|name| json!({ "type": "attach", "name": name }));
    new.chain(there).collect()
}

/// What a request to create an instance is answered.
async fn create_with(nexus: &Client, name: &str, disks: Value) -> Answer {
    let mut body = Client::instance(name, false);
    body["disks"] = disks;
    nexus.post(INSTANCES, body).await
}

/// All disks that are kept, deleted ones too.
fn kept(nexus: &TestNexus) -> Value {
    nexus.database.row("SELECT jsonb_agg(d ORDER BY d.id) AS disks FROM disk d")
}

#[tokio::test]
async fn a_disk_is_made_found_and_deleted() {
    let nexus = nexus().await;
    let project = nexus.get("/v1/projects/demo").await.expect(200);
    let body = disk(json!({ "description": "Rows", "size": 3 * GIB }));
    let made = nexus.post(DISKS, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "id": id,
            "name": "data",
            "description": "Rows",
            "project_id": project["id"],
            "size": 3 * GIB,
            "block_size": 4096,
            "disk_type": "local",
            "state": { "state": "detached" },
            "device_path": "/mnt/data",
            "read_only": false,
            "image_id": null,
            "snapshot_id": null,
            "time_created": made["time_created"],
            "time_modified": made["time_created"],
        })
    );
    let by_id = format!("/v1/disks/{id}");
    let by_name = "/v1/disks/data?project=demo".to_string();
    let by_both = format!("{by_id}?project=demo");
    for path in [&by_id, &by_name, &by_both] {
        assert_eq!(nexus.get(path).await.expect(200), made);
    }
    let list = nexus.get(DISKS).await.expect(200);
    assert_eq!(list["items"], json!([made]));

    nexus.delete(&by_name).await.expect(204);
    for path in [&by_id, &by_name, &by_both] {
        nexus.get(path).await.error(404, "ObjectNotFound");
        let message = nexus.delete(path).await.error(404, "ObjectNotFound");
        assert!(message.contains("disk with"), "{message}");
    }
    assert_eq!(names(&nexus, DISKS).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_disk_s_name_is_its_own_in_its_project_until_it_is_deleted() {
    let nexus = nexus().await;
    let other = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", other).await.expect(201);
    let first = nexus.create_disk("data").await;
    let taken = nexus.post(DISKS, disk(json!({}))).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("disk \"data\""), "{message}");
    let others = "/v1/disks?project=other";
    nexus.post(others, disk(json!({}))).await.expect(201);

    delete(&nexus, &first).await.expect(204);
    let second = nexus.create_disk("data").await;
    assert_ne!(first, second);
    let found = nexus.get("/v1/disks/data?project=demo").await.expect(200);
    assert_eq!(found["id"], second.as_str());
    let elsewhere = format!("/v1/disks/{second}?project=other");
    nexus.get(&elsewhere).await.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn a_disk_that_cannot_be_is_refused_by_the_field_s_name() {
    let nexus = nexus().await;
    let odd = json!({ "type": "blank", "block_size": 1000 });
    let odd = json!({ "type": "distributed", "disk_source": odd });
    for (field, value) in [
        ("name", json!("No-Capitals")),
        ("description", json!("x".repeat(513))),
        ("size", json!(-1)),
        ("size", json!(0)),
        ("size", json!(GIB - 1)),
        ("size", json!(GIB + 512)),
        ("size", json!((64 * 1024 + 1) * GIB)),
        ("size", json!(u64::MAX)),
        ("disk_backend", odd),
        ("disk_backend", json!({ "type": "floppy" })),
    ] {
        let body = disk(json!({ field: value }));
        let refused = nexus.post(DISKS, body).await;
        assert_eq!(refused.status, 400, "{field} {value}: {refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{field} {value}: {message}");
    }
    for field in ["name", "description", "size", "disk_backend"] {
        let mut body = disk(json!({}));
        body.as_object_mut().unwrap().remove(field);
        let refused = nexus.post(DISKS, body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains(field), "{message}");
    }
    for size in [GIB, 64 * 1024 * GIB] {
        let name = format!("d-{size}");
        let body = disk(json!({ "name": name, "size": size }));
        let made = nexus.post(DISKS, body).await.expect(201);
        assert_eq!(made["size"], size);
    }
    assert_eq!(names(&nexus, DISKS).await.len(), 2);
}

#[tokio::test]
async fn a_name_without_its_project_is_refused_and_told_so() {
    let nexus = nexus().await;
    nexus.create_disk("data").await;
    nexus.create("db", false).await;
    let body = json!({ "disk": "data" });
    for (method, path, body) in [
        (Method::GET, "/v1/disks/data", None),
        (Method::DELETE, "/v1/disks/data", None),
        (Method::GET, "/v1/instances/db/disks", None),
        (Method::POST, "/v1/instances/db/disks/attach", Some(body.clone())),
        (Method::POST, "/v1/instances/db/disks/detach", Some(body)),
    ] {
        let refused = nexus.request(method, path, body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("?project="), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_disk_is_attached_and_detached_by_id_and_by_name() {
    let nexus = nexus().await;
    let instance = nexus.create("db", false).await;
    let disk = nexus.create_disk("data").await;
    let made = view(&nexus, &disk).await;
    let before = nexus.instance_view(&instance).await;
    for (instance_path, called) in
        [(instance.clone(), &disk), ("db".to_string(), &"data".to_string())]
    {
        let path = |moved| {
            format!("/v1/instances/{instance_path}/disks/{moved}?project=demo")
        };
        let body = json!({ "disk": called });
        let now = nexus.post(&path("attach"), body.clone()).await.expect(202);
        assert_eq!(now["state"], attached(&instance));
        assert_ne!(now["time_modified"], made["time_modified"]);
        assert_eq!(now["time_created"], made["time_created"]);
        assert_eq!(view(&nexus, &disk).await, now);
        let list = format!("/v1/instances/{instance_path}/disks?project=demo");
        let list = nexus.get(&list).await.expect(200);
        assert_eq!(list["items"], json!([now]));
        // It is so already, so nothing changes.
        let again = nexus.post(&path("attach"), body.clone()).await;
        assert_eq!(again.expect(202), now);

        let now = nexus.post(&path("detach"), body.clone()).await.expect(202);
        assert_eq!(now["state"], detached());
        assert_eq!(view(&nexus, &disk).await, now);
        assert_eq!(disks_of(&nexus, &instance).await, Vec::<String>::new());
        let again = nexus.post(&path("detach"), body).await;
        assert_eq!(again.expect(202), now);
    }
    assert_eq!(nexus.instance_view(&instance).await, before);
}

#[tokio::test]
async fn a_disk_that_is_attached_is_nobody_else_s_and_is_not_deleted() {
    let nexus = nexus().await;
    let holder = nexus.create("holder", false).await;
    let other = nexus.create("other", false).await;
    let disk = nexus.create_disk("data").await;
    nexus.ask_disk(&holder, "attach", &disk).await.expect(202);
    let before = kept(&nexus);

    let refusals = [
        nexus.ask_disk(&other, "attach", &disk).await,
        nexus.ask_disk(&other, "detach", &disk).await,
        delete(&nexus, &disk).await,
        create_with(&nexus, "third", wanted(&[], &["data"])).await,
    ];
    for refused in refusals {
        let message = refused.error(400, "InvalidRequest");
        assert!(message.starts_with("disk \"data\" cannot be "), "{message}");
        assert!(message.contains("attached to instance \"holder\""));
    }
    assert_eq!(kept(&nexus), before);
    assert_eq!(names(&nexus, INSTANCES).await, ["holder", "other"]);

    nexus.ask_disk(&holder, "detach", &disk).await.expect(202);
    nexus.ask_disk(&other, "attach", &disk).await.expect(202);
    nexus.ask_disk(&other, "detach", &disk).await.expect(202);
    delete(&nexus, &disk).await.expect(204);
}

#[tokio::test]
async fn only_disks_of_its_own_project_are_attached_to_an_instance() {
    let nexus = nexus().await;
    let body = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", body).await.expect(201);
    let instance = nexus.create("db", false).await;
    let theirs = "/v1/disks?project=other";
    let theirs = nexus.post(theirs, disk(json!({}))).await.expect(201);
    let unknown = "12345678-1234-1234-1234-123456789abc";
    for disk in [theirs["id"].as_str().unwrap(), "data", unknown] {
        for moved in ["attach", "detach"] {
            let missing = nexus.ask_disk(&instance, moved, disk).await;
            let message = missing.error(404, "ObjectNotFound");
            assert!(message.contains(disk), "{message}");
        }
    }
    let missing = create_with(&nexus, "new", wanted(&[], &["data"])).await;
    let message = missing.error(404, "ObjectNotFound");
    assert!(message.contains("disk with name \"data\""), "{message}");
    let unknown = format!("/v1/instances/{unknown}/disks");
    nexus.get(&unknown).await.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn an_instance_has_at_most_twelve_disks() {
    let nexus = nexus().await;
    let all: Vec<_> = (0..13).map(|n| format!("d-{n:02}")).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    for name in &all[..10] {
        nexus.create_disk(name).await;
    }
    let many = wanted(&all[10..], &all[..10]);
    let refused = create_with(&nexus, "db", many).await;
    let message = refused.error(400, "InvalidValue");
    assert!(message.contains("disks: 13 are too many"), "{message}");
    assert_eq!(names(&nexus, DISKS).await, all[..10]);

    let enough = wanted(&all[10..12], &all[..10]);
    let made = create_with(&nexus, "db", enough).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(disks_of(&nexus, id).await, all[..12]);
    let last = nexus.create_disk(all[12]).await;
    let refused = nexus.ask_disk(id, "attach", &last).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("at most 12 disks"), "{message}");
    assert_eq!(view(&nexus, &last).await["state"], detached());

    let path = "/v1/disks/d-03?project=demo";
    let other = nexus.get(path).await.expect(200)["id"].clone();
    let other = other.as_str().unwrap();
    nexus.ask_disk(id, "detach", other).await.expect(202);
    nexus.ask_disk(id, "attach", &last).await.expect(202);
}

#[tokio::test]
async fn of_many_who_want_a_disk_at_once_one_gets_it() {
    const MANY: usize = 8;
    let nexus = nexus().await;
    let disk = nexus.create_disk("data").await;
    let mut instances = Vec::new();
    for n in 0..MANY {
        instances.push(nexus.create(&format!("db-{n}"), false).await);
    }
    let attach = instances.iter().map(|i| nexus.ask_disk(i, "attach", &disk));
    let creates = (0..MANY).map(|n| {
        let (name, disks) = (format!("new-{n}"), wanted(&[], &["data"]));
        let nexus = &nexus;
        async move { create_with(nexus, &name, disks).await }
    });
    let (attach, creates) = tokio::join!(
        futures::future::join_all(attach),
        futures::future::join_all(creates),
    );
    let (got, refused): (Vec<_>, Vec<_>) =
        attach.into_iter().chain(creates).partition(|a| a.status < 300);
    assert_eq!(got.len(), 1, "{got:?}");
    for answer in refused {
        let message = answer.error(400, "InvalidRequest");
        assert!(message.contains("attached to instance \""), "{message}");
    }
    nexus.check_invariants().await;
}

/// Checks that now no disk is attached to it or detached from it, and that
/// nothing changes.
async fn no_disk_can_be_moved(nexus: &TestNexus, id: &str) {
    let before = (nexus.database.instance(id), kept(nexus));
    for (moved, disk) in [("attach", "spare"), ("detach", "data")] {
        let refused = nexus.ask_disk(id, moved, disk).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("must be stopped first"), "{message}");
        assert!(message.contains("instance \"db\""), "{message}");
    }
    // What is so already is no change.
    nexus.ask_disk(id, "attach", "data").await.expect(202);
    nexus.ask_disk(id, "detach", "spare").await.expect(202);
    assert_eq!((nexus.database.instance(id), kept(nexus)), before);
}

#[tokio::test]
async fn disks_are_attached_and_detached_at_rest_only() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    sled.hold(json!({ "boot": true, "stop": true })).await;
    nexus.create_disk("spare").await;
    let made = create_with(&nexus, "db", wanted(&["data"], &[])).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_string();
    let moved_at_rest = async || {
        for disk in ["data", "spare"] {
            for moved in ["detach", "attach", "detach"] {
                nexus.ask_disk(&id, moved, disk).await.expect(202);
            }
        }
        nexus.ask_disk(&id, "attach", "data").await.expect(202);
    };
    moved_at_rest().await;

    nexus.ask(&id, "start").await.expect(202);
    let vmm = nexus.wait_for_vmm(&id).await;
    eventually("Nexus knows that the guest boots", async || {
        let vmm = nexus.database.row("SELECT state FROM vmm");
        (vmm["state"] == "starting").then_some(())
    })
    .await;
    no_disk_can_be_moved(&nexus, &id).await;
    sled.guest(&vmm, "booted").await;
    nexus.wait(&id, is("running")).await;
    nexus.settled(&id).await;
    no_disk_can_be_moved(&nexus, &id).await;
    nexus.ask(&id, "stop").await.expect(202);
    eventually("Nexus knows that the guest stops", async || {
        let vmm = nexus.database.row("SELECT state FROM vmm");
        (vmm["state"] == "stopping").then_some(())
    })
    .await;
    no_disk_can_be_moved(&nexus, &id).await;
    sled.guest(&vmm, "halted").await;
    nexus.wait(&id, is("stopped")).await;
    moved_at_rest().await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_disk_more_or_less_has_a_failed_start_tried_again() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.create_disk("data").await;
    for moved in ["attach", "detach"] {
        let mut body = Client::instance(moved, true);
        body["ncpus"] = 9.into();
        let id = nexus.create_as(body).await;
        nexus.rests_failed(&id).await;
        if moved == "detach" {
            nexus.ask_disk(&id, "attach", "data").await.expect(202);
            nexus.rests_failed(&id).await;
        }
        // It would fit now, and nobody knows.
        nexus.sql(&format!("UPDATE instance SET ncpus = 2 WHERE id = '{id}'"));
        nexus.ask_disk(&id, moved, "data").await.expect(202);
        nexus.wait(&id, is("running")).await;
        let attempts = nexus.attempts(&id).await;
        assert_eq!(attempts[0]["reason"], "auto_restart");
        assert_eq!(attempts[0]["outcome"], "started");
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
        nexus.ask_disk(&id, "detach", "data").await.expect(202);
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_failed_start_that_is_not_to_be_tried_again_is_not() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.create_disk("data").await;
    let mut body = Client::instance("db", true);
    body["ncpus"] = 9.into();
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("failed")).await;
    nexus.settled(&id).await;
    let before = nexus.database.instance(&id);
    nexus.ask_disk(&id, "attach", "data").await.expect(202);
    nexus.ask_disk(&id, "detach", "data").await.expect(202);
    assert_eq!(nexus.database.instance(&id), before);
}

#[tokio::test]
async fn an_instance_is_made_with_new_disks_and_with_those_that_are_there() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let there = nexus.create_disk("there").await;
    let mut body = Client::instance("db", true);
    body["disks"] = wanted(&["new-1", "new-2"], &["there"]);
    body["disks"][0]["size"] = (7 * GIB).into();
    body["disks"][0]["description"] = "Rows".into();
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(disks_of(&nexus, &id).await, ["new-1", "new-2", "there"]);
    assert_eq!(view(&nexus, &there).await["state"], attached(&id));
    let list = nexus.get(DISKS).await.expect(200);
    for disk in list["items"].as_array().unwrap() {
        assert_eq!(disk["state"], attached(&id));
        assert!(
            disk["time_modified"].as_str() >= disk["time_created"].as_str()
        );
    }
    assert_eq!(list["items"][0]["size"], 7 * GIB);
    assert_eq!(list["items"][0]["description"], "Rows");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_that_is_not_made_leaves_no_disk_behind() {
    let nexus = nexus().await;
    nexus.create("db", false).await;
    nexus.create_disk("there").await;
    let before = kept(&nexus);
    let both = || wanted(&["new"], &["there"]);
    let taken = create_with(&nexus, "db", both()).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("instance \"db\""), "{message}");
    assert_eq!(kept(&nexus), before);

    let taken = create_with(&nexus, "db-2", wanted(&["there"], &[])).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("disk \"there\""), "{message}");
    for (disks, why) in [
        (wanted(&[], &["there", "there"]), "\"there\" is there twice"),
        (wanted(&["new", "new"], &[]), "\"new\" is there twice"),
        (wanted(&["there"], &["there"]), "\"there\" is there twice"),
    ] {
        let refused = create_with(&nexus, "db-2", disks).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.starts_with("disks: "), "{message}");
        assert!(message.contains(why), "{message}");
    }
    let mut wrong = both();
    wrong[0]["size"] = 1.into();
    let refused = create_with(&nexus, "db-2", wrong).await;
    let message = refused.error(400, "InvalidValue");
    assert!(message.starts_with("disks: \"new\": size: "), "{message}");
    assert_eq!(kept(&nexus), before);
    assert_eq!(names(&nexus, INSTANCES).await, ["db"]);

    create_with(&nexus, "db-2", both()).await.expect(201);
}

#[tokio::test]
async fn a_create_that_is_undone_takes_back_its_disks() {
    let nexus = nexus().await;
    nexus.create_disk("there").await;
    nexus.sql(
        "CREATE FUNCTION refuse() RETURNS trigger \
         LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a test says no'; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON instance FOR EACH ROW \
         WHEN (OLD.state = 'creating' AND NEW.state = 'no_vmm') \
         EXECUTE FUNCTION refuse()",
    );
    let both = || wanted(&["new"], &["there"]);
    create_with(&nexus, "db", both()).await.error(500, "Internal");
    let left = nexus.get(DISKS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["name"], "there");
    assert_eq!(left["items"][0]["state"], detached());

    nexus.sql("DROP TRIGGER refuse ON instance");
    create_with(&nexus, "db", both()).await.expect(201);
}

/// What a new instance was to have was there when that was looked up, and is
/// another's when it is to be made.
#[tokio::test]
async fn who_loses_a_disk_on_the_way_is_told_which() {
    let nexus = nexus().await;
    let holder = nexus.create("holder", false).await;
    nexus.create_disk("there").await;
    for (n, disks, change, status, why) in [
        (
            1,
            wanted(&[], &["there"]),
            format!("UPDATE disk SET instance_id = '{holder}'"),
            400,
            "attached to instance \"holder\"",
        ),
        (
            2,
            wanted(&[], &["there"]),
            "UPDATE disk SET time_deleted = now()".to_string(),
            404,
            "disk with name \"there\"",
        ),
        (
            3,
            wanted(&["there"], &[]),
            "UPDATE disk SET time_deleted = NULL".to_string(),
            400,
            "disk \"there\"",
        ),
    ] {
        let mut gate =
            nexus.database.gate::<InstanceCreate>("insert", "started");
        let creating = tokio::spawn({
            let admin = nexus.admin.clone();
            async move { create_with(&admin, &format!("db-{n}"), disks).await }
        });
        gate.reached_by(1).await;
        nexus.sql(&change);
        gate.lift();
        let refused = creating.await.unwrap();
        assert_eq!(refused.status, status, "{refused:?}");
        let message = refused.body["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
        nexus.sql("UPDATE disk SET instance_id = NULL");
    }
    assert_eq!(names(&nexus, INSTANCES).await, ["holder"]);
}

#[tokio::test]
async fn a_deleted_instance_s_disks_are_there_and_free() {
    let nexus = nexus().await;
    let there = nexus.create_disk("there").await;
    let disks = wanted(&["new"], &["there"]);
    let made = create_with(&nexus, "db", disks).await.expect(201);
    let id = made["id"].as_str().unwrap();
    nexus.delete_instance(id).await.expect(204);
    assert_eq!(names(&nexus, DISKS).await, ["new", "there"]);
    let list = nexus.get(DISKS).await.expect(200);
    for disk in list["items"].as_array().unwrap() {
        assert_eq!(disk["state"], detached());
    }
    let next = nexus.create("next", false).await;
    nexus.ask_disk(&next, "attach", &there).await.expect(202);
    for list in ["/disks", "/disks/attach"] {
        let path = format!("/v1/instances/{id}{list}");
        let gone = if list == "/disks" {
            nexus.get(&path).await
        } else {
            nexus.post(&path, json!({ "disk": "new" })).await
        };
        gone.error(404, "ObjectNotFound");
    }
}

#[tokio::test]
async fn the_disks_of_what_may_still_run_are_kept_from_others() {
    let tuning = Tuning { boot_allowance_ms: 300, ..Tuning::default() };
    let setup = Setup { tuning, ..Setup::one_sled() };
    let nexus = TestNexus::with(setup).await;
    let agent = &nexus.agents[0];
    let disk = nexus.create_disk("data").await;
    let other = nexus.create("other", false).await;
    let id = abandoned_while_it_may_run(&nexus, agent).await;
    nexus.sql(&format!("UPDATE disk SET instance_id = '{id}'"));

    let refused = nexus.ask_disk(&id, "detach", &disk).await;
    let message = refused.error(409, "Conflict");
    assert!(message.contains("an earlier run"), "{message}");
    nexus.delete_instance(&id).await.expect(204);
    for refused in [
        nexus.ask_disk(&other, "attach", &disk).await,
        delete(&nexus, &disk).await,
    ] {
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("which is deleted"), "{message}");
    }
    assert_eq!(view(&nexus, &disk).await["state"], attached(&id));

    agent.clear_faults().await;
    nexus.settled(&id).await;
    assert_eq!(view(&nexus, &disk).await["state"], detached());
    nexus.ask_disk(&other, "attach", &disk).await.expect(202);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_project_is_deleted_only_when_it_holds_no_disk() {
    let nexus = nexus().await;
    let instance = nexus.create("db", false).await;
    let disk = nexus.create_disk("data").await;
    let refused = async || {
        let refused = nexus.delete("/v1/projects/demo").await;
        refused.error(400, "InvalidRequest")
    };
    let message = refused().await;
    assert!(message.contains("still has instances and disks"), "{message}");
    nexus.delete_instance(&instance).await.expect(204);
    let message = refused().await;
    assert!(message.contains("still has disks"), "{message}");
    delete(&nexus, &disk).await.expect(204);
    nexus.delete("/v1/projects/demo").await.expect(204);
    let late = nexus.post(DISKS, Client::disk("late")).await;
    late.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn a_deleted_project_never_holds_a_disk_however_they_race() {
    let nexus = nexus().await;
    let races = (0..16).map(|n| {
        let admin = nexus.admin.clone();
        async move {
            let body =
                json!({ "name": format!("race-{n}"), "description": "" });
            admin.post("/v1/projects", body).await.expect(201);
            let disks = format!("/v1/disks?project=race-{n}");
            let project = format!("/v1/projects/race-{n}");
            let (made, deleted) = tokio::join!(
                admin.post(&disks, Client::disk("data")),
                admin.delete(&project),
            );
            let outcome = (made.status, deleted.status);
            assert!(
                outcome == (201, 400) || outcome == (404, 204),
                "{made:?} {deleted:?}",
            );
        }
    });
    futures::future::join_all(races).await;
    let stranded = "SELECT count(*) FROM disk d \
         JOIN project p ON p.id = d.project_id \
         WHERE p.time_deleted IS NOT NULL AND d.time_deleted IS NULL";
    assert_eq!(nexus.database.count(stranded), 0);
}

/// What is held of storage: of all sleds, and of all quotas, in GiB.
fn held(nexus: &TestNexus) -> Value {
    nexus.database.row(
        "SELECT (SELECT sum(reserved_storage_bytes) / (1 << 30) FROM sled) \
                 ::INT8 AS sleds, \
             (SELECT sum(used_storage_bytes) / (1 << 30) FROM silo_quota) \
                 ::INT8 AS quotas",
    )
}

#[tokio::test]
async fn a_disk_that_is_deleted_gives_back_its_room() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    for (name, gib) in [("small", 1), ("large", 5), ("nowhere", 9)] {
        let body = disk(json!({ "name": name, "size": gib * GIB }));
        nexus.post(DISKS, body).await.expect(201);
    }
    // As a start allocates them.
    nexus.sql(&format!(
        "UPDATE disk SET sled_id = '{sled}', allocated_by = gen_random_uuid() \
             WHERE name <> 'nowhere'; \
         UPDATE sled SET reserved_storage_bytes = 6::INT8 << 30; \
         UPDATE silo_quota SET used_storage_bytes = 6::INT8 << 30 \
             WHERE silo_id = (SELECT id FROM silo WHERE name = 'main')"
    ));
    for (name, left) in [("large", 1), ("nowhere", 1), ("small", 0)] {
        let path = format!("/v1/disks/{name}?project=demo");
        nexus.delete(&path).await.expect(204);
        // The sled's as soon as it has said that the blocks are gone.
        assert_eq!(held(&nexus)["quotas"], left);
        eventually("the sled has its room back", async || {
            (held(&nexus)["sleds"] == left).then_some(())
        })
        .await;
        nexus.delete(&path).await.error(404, "ObjectNotFound");
    }
    let allocated = "SELECT count(*) FROM disk WHERE sled_id IS NOT NULL \
         OR allocated_by IS NOT NULL OR time_deleted IS NULL";
    assert_eq!(nexus.database.count(allocated), 0);
}

#[tokio::test]
async fn a_disk_that_is_detached_keeps_its_room() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    let made = create_with(&nexus, "db", wanted(&["data"], &[])).await;
    let id = made.expect(201)["id"].as_str().unwrap().to_string();
    let allocate = format!(
        "UPDATE disk SET sled_id = '{sled}', allocated_by = gen_random_uuid()"
    );
    nexus.sql(&allocate);
    let place = "SELECT sled_id, allocated_by FROM disk";
    let before = nexus.database.row(place);
    nexus.ask_disk(&id, "detach", "data").await.expect(202);
    nexus.ask_disk(&id, "attach", "data").await.expect(202);
    nexus.delete_instance(&id).await.expect(204);
    assert_eq!(nexus.database.row(place), before);
}

#[tokio::test]
async fn room_that_a_disk_gives_back_wakes_who_waits_for_it() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0].id;
    nexus.create_disk("data").await;
    nexus.set_provision_policy(sled, "non_provisionable").await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("failed")).await;
    // Nobody means to look, nor heard that the sled is open.
    nexus.sql(&format!(
        "UPDATE sled SET provision_policy = 'provisionable', \
             reserved_storage_bytes = 1::INT8 << 30; \
         UPDATE silo_quota SET used_storage_bytes = 1::INT8 << 30; \
         UPDATE disk SET sled_id = '{sled}', allocated_by = gen_random_uuid(); \
         UPDATE instance SET reconcile_at = NULL, \
             next_retry_at = now() WHERE id = '{id}'"
    ));
    nexus.delete("/v1/disks/data?project=demo").await.expect(204);
    nexus.wait(&id, is("running")).await;
}
