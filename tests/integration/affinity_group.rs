//! Affinity and anti-affinity groups: what they are, who is in them, and what
//! comes of a change. What is tried of one kind is tried of the other.

use harness::{Answer, Client, Database, Setup, TestNexus, eventually, is};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Of a kind: where its groups are, and what one is called.
type Kind = (&'static str, &'static str);

const AFFINITY: Kind = ("affinity-groups", "affinity group");
const ANTI_AFFINITY: Kind = ("anti-affinity-groups", "anti-affinity group");
const KINDS: [Kind; 2] = [AFFINITY, ANTI_AFFINITY];

fn body(name: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "policy": "fail",
        "failure_domain": "sled",
    })
}

fn id_of(view: &Value) -> String {
    view["id"].as_str().unwrap().to_string()
}

/// Makes a group in "demo"; its id.
async fn group(nexus: &Client, kind: Kind, name: &str) -> String {
    let path = format!("/v1/{}?project=demo", kind.0);
    id_of(&nexus.post(&path, body(name)).await.expect(201))
}

/// Asks for an instance, by id or name, to be added (`POST`), shown (`GET`) or
/// removed (`DELETE`).
async fn member(
    nexus: &Client,
    method: Method,
    kind: Kind,
    group: &str,
    instance: &str,
) -> Answer {
    let path = format!("/v1/{}/{group}/members/instance/{instance}", kind.0);
    nexus.request(method, &path, None).await
}

async fn add(nexus: &Client, kind: Kind, group: &str, id: &str) -> Answer {
    member(nexus, Method::POST, kind, group, id).await
}

async fn remove(nexus: &Client, kind: Kind, group: &str, id: &str) -> Answer {
    member(nexus, Method::DELETE, kind, group, id).await
}

async fn items(nexus: &Client, path: &str) -> Vec<Value> {
    let page = nexus.get(path).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

/// The names of a group's members.
async fn members(nexus: &Client, kind: Kind, group: &str) -> Vec<String> {
    let list = items(nexus, &format!("/v1/{}/{group}/members", kind.0)).await;
    let name = |m: &Value| m["value"]["name"].as_str().unwrap().to_string();
    list.iter().map(name).collect()
}

/// The names of the groups that an instance is in.
async fn groups_of(nexus: &Client, kind: Kind, id: &str) -> Vec<String> {
    let list = items(nexus, &format!("/v1/instances/{id}/{}", kind.0)).await;
    let name = |g: &Value| g["name"].as_str().unwrap().to_string();
    list.iter().map(name).collect()
}

#[tokio::test]
async fn a_group_is_made_found_changed_and_deleted() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = nexus.get("/v1/projects/demo").await.expect(200);
    for (kind, policy) in [(AFFINITY, "allow"), (ANTI_AFFINITY, "fail")] {
        let list = format!("/v1/{}?project=demo", kind.0);
        let new = json!({
            "name": "db",
            "description": "Replicas",
            "policy": policy,
            "failure_domain": "sled",
        });
        let made = nexus.post(&list, new).await.expect(201);
        let times = &made["time_created"];
        let expected = json!({
            "id": made["id"],
            "name": "db",
            "description": "Replicas",
            "project_id": project["id"],
            "policy": policy,
            "failure_domain": "sled",
            "time_created": times,
            "time_modified": times,
        });
        assert_eq!(made, expected);
        let by_id = format!("/v1/{}/{}", kind.0, id_of(&made));
        let by_name = format!("/v1/{}/db?project=demo", kind.0);
        for path in [&by_id, &by_name] {
            assert_eq!(nexus.get(path).await.expect(200), made);
        }
        assert_eq!(items(&nexus, &list).await, std::slice::from_ref(&made));

        for (change, name, description) in [
            (json!({}), "db", "Replicas"),
            (json!({ "name": null, "description": null }), "db", "Replicas"),
            (json!({ "description": "" }), "db", ""),
            (json!({ "name": "db-1" }), "db-1", ""),
            (json!({ "name": "db-1", "description": "x" }), "db-1", "x"),
        ] {
            let changed = nexus.put(&by_id, change).await.expect(200);
            assert_eq!(changed["name"], name);
            assert_eq!(changed["description"], description);
            assert_eq!(changed["policy"], policy);
            assert_eq!(changed["time_created"], made["time_created"]);
            assert_ne!(changed["time_modified"], made["time_modified"]);
        }
        nexus.get(&by_name).await.error(404, "ObjectNotFound");

        let by_name = format!("/v1/{}/db-1?project=demo", kind.0);
        nexus.delete(&by_name).await.expect(204);
        for path in [&by_id, &by_name] {
            nexus.get(path).await.error(404, "ObjectNotFound");
            nexus.put(path, json!({})).await.error(404, "ObjectNotFound");
            nexus.delete(path).await.error(404, "ObjectNotFound");
        }
        assert_eq!(items(&nexus, &list).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_group_is_found_by_its_id_or_in_its_project_and_as_its_kind_alone() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", project).await.expect(201);
    for (kind, other) in [(AFFINITY, ANTI_AFFINITY), (ANTI_AFFINITY, AFFINITY)]
    {
        let id = group(&nexus, kind, "db").await;
        let path = format!("/v1/{}", kind.0);
        for found in [
            format!("{path}/{id}"),
            format!("{path}/{id}?project=demo"),
            format!("{path}/db?project=demo"),
        ] {
            assert_eq!(nexus.get(&found).await.expect(200)["id"], id);
        }
        let nameless = nexus.get(&format!("{path}/db")).await;
        let message = nameless.error(400, "InvalidRequest");
        assert_eq!(
            message,
            format!(
                "{} \"db\" is given by name: name its project with ?project=, \
                 or give its id",
                kind.1,
            ),
        );
        for missing in [
            format!("{path}/{id}?project=other"),
            format!("{path}/db?project=other"),
            format!("{path}/web?project=demo"),
            format!("/v1/{}/{id}", other.0),
        ] {
            let message = nexus.get(&missing).await;
            let message = message.error(404, "ObjectNotFound");
            assert!(message.contains(" group with "), "{message}");
        }
        let nowhere = nexus.get(&format!("{path}/{id}?project=nope")).await;
        let message = nowhere.error(404, "ObjectNotFound");
        assert!(message.contains("project with name \"nope\""), "{message}");
        nexus.delete(&format!("{path}/{id}")).await.expect(204);
    }
}

#[tokio::test]
async fn a_group_s_name_is_its_own_among_its_kind_until_it_is_deleted() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", project).await.expect(201);
    for kind in KINDS {
        // The same in each kind, and in each project.
        let id = group(&nexus, kind, "db").await;
        let elsewhere = format!("/v1/{}?project=other", kind.0);
        nexus.post(&elsewhere, body("db")).await.expect(201);
        let web = group(&nexus, kind, "web").await;
        let web = format!("/v1/{}/{web}", kind.0);

        let list = format!("/v1/{}?project=demo", kind.0);
        let rename = json!({ "name": "db", "description": "nor this" });
        for taken in
            [nexus.post(&list, body("db")).await, nexus.put(&web, rename).await]
        {
            let message = taken.error(400, "ObjectAlreadyExists");
            let expected = format!("already exists: {} \"db\"", kind.1);
            assert_eq!(message, expected);
        }
        assert_eq!(nexus.get(&web).await.expect(200)["description"], "");

        nexus.delete(&format!("/v1/{}/{id}", kind.0)).await.expect(204);
        let rename = json!({ "name": "db" });
        nexus.put(&web, rename).await.expect(200);
        group(&nexus, kind, "web").await;
    }
}

#[tokio::test]
async fn a_group_that_cannot_be_is_refused_by_the_field_s_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for kind in KINDS {
        let list = format!("/v1/{}?project=demo", kind.0);
        for (field, value) in [
            ("name", json!("No-Capitals")),
            ("description", json!("x".repeat(513))),
            ("description", json!("a\0b")),
            ("policy", json!("maybe")),
            ("policy", json!(null)),
            ("failure_domain", json!("rack")),
        ] {
            let mut new = body("db");
            new[field] = value;
            let refused = nexus.post(&list, new).await.expect(400);
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(field), "{message}");
        }
        for field in ["name", "description", "policy", "failure_domain"] {
            let mut new = body("db");
            new.as_object_mut().unwrap().remove(field);
            let refused = nexus.post(&list, new).await;
            let message = refused.error(400, "InvalidRequest");
            assert!(message.contains(field), "{message}");
        }
        let nowhere = format!("/v1/{}?project=nope", kind.0);
        let refused = nexus.post(&nowhere, body("db")).await;
        refused.error(404, "ObjectNotFound");
        assert_eq!(items(&nexus, &list).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn members_are_added_shown_and_removed() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let db = nexus.create("db", false).await;
    let web = nexus.create("web", false).await;
    for kind in KINDS {
        let id = group(&nexus, kind, "g").await;
        for added in [
            add(&nexus, kind, &id, &web).await,
            // Twice is as once.
            add(&nexus, kind, &id, &web).await,
            add(&nexus, kind, "g", "web?project=demo").await,
            // The group says which project it is.
            add(&nexus, kind, &id, "web").await,
            member(&nexus, Method::GET, kind, &id, &web).await,
        ] {
            assert!([201, 200].contains(&added.status), "{added:?}");
            let value =
                json!({ "id": web, "name": "web", "run_state": "stopped" });
            let expected = json!({ "type": "instance", "value": value });
            assert_eq!(added.body, expected);
        }
        assert_eq!(members(&nexus, kind, &id).await, ["web"]);
        assert_eq!(groups_of(&nexus, kind, &web).await, ["g"]);

        let message = member(&nexus, Method::GET, kind, &id, &db).await;
        let message = message.error(404, "ObjectNotFound");
        let expected = format!("{} member with id \"{db}\"", kind.1);
        assert_eq!(message, format!("not found: {expected}"));
        remove(&nexus, kind, &id, &db).await.error(404, "ObjectNotFound");

        add(&nexus, kind, &id, &db).await.expect(201);
        assert_eq!(members(&nexus, kind, &id).await, ["db", "web"]);
        remove(&nexus, kind, "g", "web?project=demo").await.expect(204);
        assert_eq!(members(&nexus, kind, &id).await, ["db"]);
        assert_eq!(groups_of(&nexus, kind, &web).await, Vec::<String>::new());
        let again = remove(&nexus, kind, "g", "web?project=demo").await;
        let message = again.error(404, "ObjectNotFound");
        let expected = format!("{} member with name \"web\"", kind.1);
        assert_eq!(message, format!("not found: {expected}"));
        add(&nexus, kind, &id, &web).await.expect(201);
    }
    // The two kinds know nothing of each other.
    remove(&nexus, AFFINITY, "g", "db?project=demo").await.expect(204);
    assert_eq!(groups_of(&nexus, ANTI_AFFINITY, &db).await, ["g"]);
}

#[tokio::test]
async fn only_an_instance_of_the_group_s_project_joins() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", project).await.expect(201);
    let new = Client::instance("foreign", false);
    let made = nexus.post("/v1/instances?project=other", new).await;
    let foreign = id_of(&made.expect(201));
    let gone = nexus.create("gone", false).await;
    nexus.delete_instance(&gone).await.expect(204);
    let nobody = uuid::Uuid::new_v4().to_string();
    for kind in KINDS {
        let id = group(&nexus, kind, "g").await;
        for instance in [&foreign, "foreign", &gone, "gone", &nobody] {
            for method in [Method::POST, Method::GET, Method::DELETE] {
                let refused = member(&nexus, method, kind, &id, instance);
                let message = refused.await.error(404, "ObjectNotFound");
                assert!(message.contains("instance with"), "{message}");
            }
        }
        // A project that is neither's says that there is no such group.
        let path = format!("{foreign}?project=other");
        let refused = add(&nexus, kind, &id, &path).await;
        let message = refused.error(404, "ObjectNotFound");
        assert!(message.contains("group with id"), "{message}");
        assert_eq!(members(&nexus, kind, &id).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_has_a_place_on_a_sled_leaves_groups_and_joins_none() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let sled = &nexus.agents[0];
    let mut groups = Vec::new();
    for kind in KINDS {
        groups.push((kind, group(&nexus, kind, "g").await));
    }
    let id = nexus.create("db", false).await;
    sled.hold(json!({ "boot": true, "stop": true })).await;
    nexus.ask(&id, "start").await.expect(202);
    let vmm = nexus.wait_for_vmm(&id).await;
    let refused = async |state: &str| {
        nexus.wait(&id, |view| view["run_state"] == state).await;
        for (kind, group) in &groups {
            let refused = add(&nexus, *kind, group, &id).await;
            let message = refused.error(400, "InvalidRequest");
            let expected = format!(
                "instance \"{id}\" cannot be added to {} \"g\": the instance \
                 must be stopped first",
                kind.1,
            );
            assert_eq!(message, expected, "{state}");
            let none = Vec::<String>::new();
            assert_eq!(members(&nexus, *kind, group).await, none);
        }
    };
    refused("starting").await;
    sled.guest(&vmm, "booted").await;
    refused("running").await;
    nexus.ask(&id, "stop").await.expect(202);
    refused("stopping").await;
    sled.hold(json!({ "boot": false, "stop": false })).await;
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    for (kind, group) in &groups {
        add(&nexus, *kind, group, &id).await.expect(201);
    }

    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    for (kind, group) in &groups {
        let shown = member(&nexus, Method::GET, *kind, group, &id).await;
        assert_eq!(shown.expect(200)["value"]["run_state"], "running");
        // It is one already: nothing is asked for that is not so.
        add(&nexus, *kind, group, &id).await.expect(201);
        remove(&nexus, *kind, group, &id).await.expect(204);
        add(&nexus, *kind, group, &id).await.error(400, "InvalidRequest");
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_group_has_at_most_32_members_whoever_races_whom() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let create = (0..34).map(|n| {
        let admin = nexus.admin.clone();
        async move { admin.create(&format!("db-{n}"), false).await }
    });
    let ids = futures::future::join_all(create).await;
    let (late, ids) = ids.split_last().unwrap();
    for kind in KINDS {
        let id = group(&nexus, kind, "g").await;
        let adds = ids.iter().map(|i| add(&nexus, kind, &id, i));
        let mut refused = futures::future::join_all(adds).await;
        refused.retain(|answer| answer.status != 201);
        assert_eq!(refused.len(), 1, "{refused:?}");
        let message = refused[0].clone().error(400, "InvalidRequest");
        let expected =
            format!("{} \"g\": a group has at most 32 members", kind.1);
        assert!(message.ends_with(&expected), "{message}");
        assert_eq!(members(&nexus, kind, &id).await.len(), 32);

        let first = members(&nexus, kind, &id).await.remove(0);
        add(&nexus, kind, &id, late).await.error(400, "InvalidRequest");
        add(&nexus, kind, &id, &first).await.expect(201);
        remove(&nexus, kind, &id, &first).await.expect(204);
        add(&nexus, kind, &id, late).await.expect(201);
    }
}

#[tokio::test]
async fn an_instance_is_in_at_most_16_groups_of_each_kind() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    for kind in KINDS {
        for n in 0..16 {
            let group = group(&nexus, kind, &format!("g-{n}")).await;
            add(&nexus, kind, &group, &id).await.expect(201);
        }
        let late = group(&nexus, kind, "late").await;
        let refused = add(&nexus, kind, &late, &id).await;
        let message = refused.error(400, "InvalidRequest");
        let expected = format!(
            "instance \"{id}\" cannot be added to {} \"late\": an instance is \
             in at most 16 groups of each kind",
            kind.1,
        );
        assert_eq!(message, expected);
        assert_eq!(groups_of(&nexus, kind, &id).await.len(), 16);
        // A deleted group does not count.
        let path = format!("/v1/{}/g-0?project=demo", kind.0);
        nexus.delete(&path).await.expect(204);
        add(&nexus, kind, &late, &id).await.expect(201);
    }
}

#[tokio::test]
async fn a_deleted_instance_is_in_no_group_and_a_deleted_group_has_no_members()
{
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let db = nexus.create("db", false).await;
    let web = nexus.create("web", false).await;
    for kind in KINDS {
        let id = group(&nexus, kind, "g").await;
        add(&nexus, kind, &id, &db).await.expect(201);
        add(&nexus, kind, &id, &web).await.expect(201);
    }
    nexus.delete_instance(&db).await.expect(204);
    for kind in KINDS {
        let path = format!("/v1/{}/g/members?project=demo", kind.0);
        assert_eq!(items(&nexus, &path).await.len(), 1);
        let path = format!("/v1/{}/g?project=demo", kind.0);
        nexus.delete(&path).await.expect(204);
        assert_eq!(groups_of(&nexus, kind, &web).await, Vec::<String>::new());
        // The next of that name begins with nobody in it.
        let id = group(&nexus, kind, "g").await;
        assert_eq!(members(&nexus, kind, &id).await, Vec::<String>::new());
    }
    nexus.instance_view(&web).await;
    let rows = "SELECT count(*) FROM affinity_group_member";
    assert_eq!(nexus.database.count(rows), 0);
}

/// An instance of these groups.
fn instance_in(name: &str, groups: &Value, start: bool) -> Value {
    let mut new = Client::instance(name, start);
    new["anti_affinity_groups"] = groups.clone();
    new
}

#[tokio::test]
async fn an_instance_may_join_anti_affinity_groups_as_it_is_made() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let a = group(&nexus, ANTI_AFFINITY, "a").await;
    group(&nexus, ANTI_AFFINITY, "b").await;
    // To be called twice is to be called.
    let groups = json!(["b", a, "a", "b"]);
    let id = nexus.create_as(instance_in("db", &groups, true)).await;
    assert_eq!(groups_of(&nexus, ANTI_AFFINITY, &id).await, ["a", "b"]);
    assert_eq!(groups_of(&nexus, AFFINITY, &id).await, Vec::<String>::new());
    nexus.wait(&id, is("running")).await;
    let shown = member(&nexus, Method::GET, ANTI_AFFINITY, &a, &id).await;
    assert_eq!(shown.expect(200)["value"]["run_state"], "running");
    let id = nexus.create_as(instance_in("alone", &json!([]), false)).await;
    assert_eq!(groups_of(&nexus, ANTI_AFFINITY, &id).await.len(), 0);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_that_cannot_join_is_not_made_and_leaves_nothing_behind() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let project = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", project).await.expect(201);
    let elsewhere = "/v1/anti-affinity-groups?project=other";
    let foreign = nexus.post(elsewhere, body("foreign")).await.expect(201);
    let foreign = id_of(&foreign);
    group(&nexus, ANTI_AFFINITY, "a").await;
    group(&nexus, AFFINITY, "together").await;
    let full = group(&nexus, ANTI_AFFINITY, "full").await;
    for n in 0..32 {
        let new = instance_in(&format!("m-{n}"), &json!(["full"]), false);
        nexus.create_as(new).await;
    }
    let rows = "SELECT count(*) FROM affinity_group_member";
    assert_eq!(nexus.database.count(rows), 32);

    let many: Vec<_> = (0..17).map(|n| format!("g-{n}")).collect();
    let not_found = |which: &str| {
        let what = format!("not found: anti-affinity group with {which}");
        (404, "ObjectNotFound", what)
    };
    let field = |why: &str| {
        let what = format!("anti_affinity_groups: {why}");
        (400, "InvalidValue", what)
    };
    for (groups, (status, code, expected)) in [
        (json!(["a", "nope"]), not_found("name \"nope\"")),
        (json!(["a", "foreign"]), not_found("name \"foreign\"")),
        (json!(["a", foreign]), not_found(&format!("id \"{foreign}\""))),
        // Not an anti-affinity group.
        (json!(["together"]), not_found("name \"together\"")),
        (
            json!(["a", full]),
            field("one of them is full: a group has at most 32 members"),
        ),
        (json!(many), field("17 are too many: at most 16")),
    ] {
        for start in [true, false] {
            let new = instance_in("db", &groups, start);
            let refused = nexus.post("/v1/instances?project=demo", new).await;
            assert_eq!(refused.error(status, code), expected);
        }
    }
    assert_eq!(nexus.database.count(rows), 32);
    let path = "/v1/instances/db?project=demo";
    nexus.get(path).await.error(404, "ObjectNotFound");
    nexus.create_as(instance_in("db", &json!(["a"]), false)).await;
    nexus.check_invariants().await;
}

/// Waits until so many wait for a lock in the database.
async fn waiting(nexus: &TestNexus, n: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("they wait for the group", async || {
        (nexus.database.count(waiting) == n).then_some(())
    })
    .await;
}

/// The group is found, and then deleted before the instance joins.
#[tokio::test]
async fn a_group_that_goes_while_an_instance_is_made_is_named_all_the_same() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = group(&nexus, ANTI_AFFINITY, "g").await;
    let held = nexus.database.hold("SELECT id FROM affinity_group FOR UPDATE");
    let (admin, path) =
        (nexus.admin.clone(), format!("/v1/anti-affinity-groups/{id}"));
    let deleted = tokio::spawn(async move { admin.delete(&path).await });
    waiting(&nexus, 1).await;
    let admin = nexus.admin.clone();
    let created = tokio::spawn(async move {
        let new = instance_in("db", &json!(["g"]), true);
        admin.post("/v1/instances?project=demo", new).await
    });
    waiting(&nexus, 2).await;
    held.lift();
    deleted.await.unwrap().expect(204);
    let message = created.await.unwrap().error(404, "ObjectNotFound");
    assert!(message.contains("group with name \"g\""), "{message}");
    let path = "/v1/instances/db?project=demo";
    nexus.get(path).await.error(404, "ObjectNotFound");
    let rows = "SELECT count(*) FROM affinity_group_member";
    assert_eq!(nexus.database.count(rows), 0);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_project_is_deleted_only_when_it_holds_no_group() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for kind in KINDS {
        let id = group(&nexus, kind, "g").await;
        let refused = nexus.delete("/v1/projects/demo").await;
        let message = refused.error(400, "InvalidRequest");
        let expected = format!(
            "project \"demo\" still has {}s: delete them first",
            kind.1,
        );
        assert_eq!(message, expected);
        nexus.delete(&format!("/v1/{}/{id}", kind.0)).await.expect(204);
    }
    nexus.delete("/v1/projects/demo").await.expect(204);
}

#[tokio::test]
async fn a_deleted_project_never_holds_a_group_however_they_race() {
    const RACES: usize = 24;
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let races = (0..RACES).map(|n| {
        let admin = nexus.admin.clone();
        async move {
            let name = format!("race-{n}");
            let project = json!({ "name": name, "description": "" });
            admin.post("/v1/projects", project).await.expect(201);
            let list = format!("/v1/{}?project={name}", KINDS[n % 2].0);
            let project = format!("/v1/projects/{name}");
            let (created, deleted) = tokio::join!(
                admin.post(&list, body("g")),
                admin.delete(&project),
            );
            let outcome = (created.status, deleted.status);
            assert!(
                outcome == (201, 400) || outcome == (404, 204),
                "{created:?} {deleted:?}",
            );
        }
    });
    futures::future::join_all(races).await;
    let stranded = nexus.database.count(
        "SELECT count(*) FROM affinity_group g JOIN project p \
             ON p.id = g.project_id \
         WHERE p.time_deleted IS NOT NULL AND g.time_deleted IS NULL",
    );
    assert_eq!(stranded, 0);
}

/// Has an instance fail to start for good: no retry is planned, and nobody
/// means to look.
async fn fails_for_good(nexus: &TestNexus, id: &str) {
    nexus.agents[0].fault("register", 1, json!({ "reject": "No." })).await;
    nexus.ask(id, "start").await.expect(202);
    nexus.wait(id, is("failed")).await;
    nexus.sql(&format!(
        "UPDATE instance SET next_retry_at = NULL, reconcile_at = NULL \
         WHERE id = '{id}'"
    ));
}

#[tokio::test]
async fn a_failed_start_is_tried_again_when_the_instance_leaves_a_group() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for kind in KINDS {
        let group = group(&nexus, kind, "g").await;
        let id = nexus.create(&format!("db-{}", kind.0), false).await;
        add(&nexus, kind, &group, &id).await.expect(201);
        fails_for_good(&nexus, &id).await;
        remove(&nexus, kind, &group, &id).await.expect(204);
        nexus.wait(&id, is("running")).await;
        assert_eq!(nexus.attempts(&id).await.len(), 2);
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_failed_start_is_tried_again_when_the_instance_is_bound_to_others() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", false).await;
    fails_for_good(&nexus, &id).await;
    // What only shuts out more is no reason to try again.
    let apart = group(&nexus, ANTI_AFFINITY, "apart").await;
    let before = nexus.database.instance(&id);
    add(&nexus, ANTI_AFFINITY, &apart, &id).await.expect(201);
    assert_eq!(nexus.database.instance(&id), before);
    let together = group(&nexus, AFFINITY, "together").await;
    add(&nexus, AFFINITY, &together, &id).await.expect(201);
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.attempts(&id).await.len(), 2);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_a_user_has_stopped_is_not_started_by_a_change_of_its_groups() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let never = nexus.create("never", false).await;
    nexus.sql("UPDATE instance SET auto_restart_policy = 'never'");
    fails_for_good(&nexus, &never).await;
    let stopped = nexus.create("stopped", false).await;
    for kind in KINDS {
        let g = group(&nexus, kind, "g").await;
        for id in [&never, &stopped] {
            add(&nexus, kind, &g, id).await.expect(201);
            let before = nexus.database.instance(id);
            remove(&nexus, kind, &g, id).await.expect(204);
            assert_eq!(nexus.database.instance(id), before);
        }
    }
    nexus.settled(&never).await;
    nexus.settled(&stopped).await;
    assert_eq!(nexus.instance_view(&never).await["run_state"], "failed");
    assert_eq!(nexus.instance_view(&stopped).await["run_state"], "stopped");
}

/// Room that nobody was told of is found when a change of the group has its
/// members looked at.
#[tokio::test]
async fn those_whom_a_member_leaves_behind_are_looked_at() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for kind in KINDS {
        nexus.sql("UPDATE sled SET reserved_vcpus = vcpus");
        let g = group(&nexus, kind, "g").await;
        let waits = nexus.create(&format!("waits-{}", kind.0), true).await;
        nexus.wait(&waits, is("failed")).await;
        let leaves = nexus.create(&format!("leaves-{}", kind.0), false).await;
        let late = nexus.create(&format!("late-{}", kind.0), true).await;
        nexus.wait(&late, is("failed")).await;
        for id in [&waits, &leaves, &late] {
            nexus.sql(&format!(
                "INSERT INTO affinity_group_member VALUES ('{g}', '{id}')"
            ));
        }
        // What is planned is planned for later than this test.
        nexus.sql(
            "UPDATE instance SET next_retry_at = now() + INTERVAL '1 hour', \
                 reconcile_at = now() + INTERVAL '1 hour' \
             WHERE state = 'failed'; \
             UPDATE sled SET reserved_vcpus = 0",
        );
        remove(&nexus, kind, &g, &leaves).await.expect(204);
        // Where they must not meet, either may be the first.
        let mut left = vec![waits, late];
        while !left.is_empty() {
            let id = eventually("one of them runs", async || {
                for (n, id) in left.iter().enumerate() {
                    let view = nexus.instance_view(id).await;
                    if view["run_state"] == "running" {
                        return Some(left.remove(n));
                    }
                }
                None
            })
            .await;
            nexus.ask(&id, "stop").await.expect(202);
            nexus.wait(&id, is("stopped")).await;
        }
    }
    nexus.check_invariants().await;
}

/// Twelve failed members of a group, the first of which has waited longest;
/// of these one is not to be restarted, and one had run.
const WAITING: &str = "
INSERT INTO silo VALUES (md5('s')::UUID, 's', '', now(), now(), NULL);
INSERT INTO project VALUES
    (md5('p')::UUID, md5('s')::UUID, 'p', '', now(), now(), NULL);
INSERT INTO affinity_group VALUES
    (md5('g')::UUID, md5('p')::UUID, 'anti_affinity', 'g', '', 'fail', now(),
     now(), NULL);
INSERT INTO instance (id, project_id, name, description, time_created,
    time_modified, hostname, ncpus, memory_bytes, user_data,
    network_interfaces, auto_restart_policy, state, state_gen,
    time_state_updated, failed_starts, reconcile_errors, view_gen,
    intended_state)
SELECT md5('i-' || n)::UUID, md5('p')::UUID, 'i-' || n, '', now(), now(), 'h',
    1, 1, '', '{}', CASE n WHEN 1 THEN 'never'::auto_restart_policy END,
    'failed', 1, now() - (100 - n) * INTERVAL '1 minute',
    CASE n WHEN 2 THEN 0 ELSE 1 END, 0, 1, 'running'
FROM generate_series(0, 12) n;
INSERT INTO affinity_group_member
SELECT md5('g')::UUID, md5('i-' || n)::UUID FROM generate_series(0, 11) n;
";

#[tokio::test]
async fn a_deleted_group_wakes_a_few_of_its_members_the_longest_waiting_first()
{
    let database = Database::create().await;
    database.try_sql(WAITING).unwrap();
    let id = database.row("SELECT id FROM affinity_group")["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    database.datastore().affinity_group_delete(id).await.unwrap();
    let woken = database
        .texts("SELECT name FROM instance WHERE reconcile_at <= now()")
        .into_iter()
        .collect::<BTreeSet<_>>();
    let expected = [0, 3, 4, 5, 6, 7, 8, 9].map(|n| format!("i-{n}"));
    assert_eq!(woken, BTreeSet::from(expected));
}
