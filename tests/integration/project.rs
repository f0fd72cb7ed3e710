//! Projects, and that an instance is never in one that is deleted.

use harness::{Answer, Client, Setup, TestNexus, eventually};
use serde_json::{Value, json};

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::no_sled()).await
}

fn project(name: &str) -> Value {
    json!({ "name": name, "description": "" })
}

#[tokio::test]
async fn a_project_is_made_found_changed_and_deleted() {
    let nexus = nexus().await;
    let body = json!({ "name": "shop", "description": "Sells" });
    let made = nexus.post("/v1/projects", body).await.expect(201);
    assert_eq!(made["name"], "shop");
    assert_eq!(made["description"], "Sells");
    assert_eq!(made["time_modified"], made["time_created"]);
    let id = made["id"].as_str().unwrap();
    let by_id = format!("/v1/projects/{id}");
    for path in ["/v1/projects/shop", &by_id] {
        assert_eq!(nexus.get(path).await.expect(200), made);
    }
    let list = nexus.get("/v1/projects").await.expect(200);
    assert_eq!(list["items"][1], made, "after \"demo\"");
    assert_eq!(list["items"].as_array().unwrap().len(), 2);

    let change = json!({ "name": "store", "description": "Buys" });
    let changed = nexus.put("/v1/projects/shop", change).await.expect(200);
    assert_eq!(changed["id"], id);
    assert_eq!(changed["name"], "store");
    assert_eq!(changed["description"], "Buys");
    assert_eq!(changed["time_created"], made["time_created"]);
    assert_ne!(changed["time_modified"], made["time_modified"]);
    nexus.get("/v1/projects/shop").await.error(404, "ObjectNotFound");
    assert_eq!(nexus.get("/v1/projects/store").await.expect(200), changed);

    nexus.delete("/v1/projects/store").await.expect(204);
    for path in ["/v1/projects/store", &by_id] {
        nexus.get(path).await.error(404, "ObjectNotFound");
        nexus.delete(path).await.error(404, "ObjectNotFound");
        nexus.put(path, json!({})).await.error(404, "ObjectNotFound");
    }
    let list = nexus.get("/v1/projects").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_change_does_not_name_stays() {
    let nexus = nexus().await;
    let body = json!({ "name": "shop", "description": "Sells" });
    nexus.post("/v1/projects", body).await.expect(201);
    for (change, name, description) in [
        (json!({}), "shop", "Sells"),
        (json!({ "name": null, "description": null }), "shop", "Sells"),
        (json!({ "description": "Buys" }), "shop", "Buys"),
        (json!({ "name": "shop" }), "shop", "Buys"),
        (json!({ "name": "store" }), "store", "Buys"),
    ] {
        let changed = nexus.put("/v1/projects/shop", change).await.expect(200);
        assert_eq!(changed["name"], name);
        assert_eq!(changed["description"], description);
    }
}

#[tokio::test]
async fn a_project_s_name_is_its_own_in_its_silo_until_it_is_deleted() {
    let nexus = nexus().await;
    let other = nexus.other_silo("other").await;
    for client in [&nexus.admin, &other] {
        client.post("/v1/projects", project("shop")).await.expect(201);
    }
    nexus.post("/v1/projects", project("store")).await.expect(201);

    let taken = nexus.post("/v1/projects", project("shop")).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("shop"), "{message}");
    let rename = json!({ "name": "shop", "description": "not this either" });
    let taken = nexus.put("/v1/projects/store", rename).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("shop"), "{message}");
    let store = nexus.get("/v1/projects/store").await.expect(200);
    assert_eq!(store["description"], "");

    nexus.delete("/v1/projects/shop").await.expect(204);
    let rename = json!({ "name": "shop" });
    nexus.put("/v1/projects/store", rename).await.expect(200);
    nexus.post("/v1/projects", project("store")).await.expect(201);
    other.get("/v1/projects/shop").await.expect(200);
}

#[tokio::test]
async fn a_project_that_cannot_be_is_refused_by_the_field_s_name() {
    let nexus = nexus().await;
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("No-Capitals")),
        ("name", json!("no_underscores")),
        ("name", json!("-dash")),
        ("name", json!("x".repeat(64))),
        ("name", json!("12345678-1234-1234-1234-123456789abc")),
        ("name", json!(7)),
        ("description", json!("x".repeat(513))),
        ("description", json!("a\0b")),
        ("description", json!(["a"])),
    ] {
        let mut body = project("shop");
        body[field] = value.clone();
        let refusals = [
            nexus.post("/v1/projects", body).await,
            nexus.put("/v1/projects/demo", json!({ field: value })).await,
        ];
        for refused in refusals {
            assert_eq!(refused.status, 400, "{field} {value}: {refused:?}");
            let message = refused.body["message"].as_str().unwrap();
            assert!(message.contains(field), "{field} {value}: {message}");
            assert!(refused.body["error_code"].is_string(), "{refused:?}");
        }
    }
    for field in ["name", "description"] {
        let mut body = project("shop");
        body.as_object_mut().unwrap().remove(field);
        let refused = nexus.post("/v1/projects", body).await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains(field), "{message}");
    }
    let list = nexus.get("/v1/projects").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_project_is_deleted_only_when_it_holds_no_instance() {
    let nexus = nexus().await;
    let id = nexus.create("db", false).await;
    for _ in 0..2 {
        let refused = nexus.delete("/v1/projects/demo").await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains("still has instances"), "{message}");
    }
    nexus.get("/v1/projects/demo").await.expect(200);
    nexus.instance_view(&id).await;

    nexus.delete_instance(&id).await.expect(204);
    nexus.delete("/v1/projects/demo").await.expect(204);
    nexus.get("/v1/instances?project=demo").await.error(404, "ObjectNotFound");
    let create = nexus
        .post("/v1/instances?project=demo", Client::instance("db", false))
        .await;
    create.error(404, "ObjectNotFound");
    // Its history is found by its id though the project is gone.
    assert_eq!(nexus.attempts(&id).await, Vec::<Value>::new());
}

/// An instance is made in a project that is being deleted: both have found the
/// project there, and one of the two must lose.
#[tokio::test]
async fn a_deleted_project_never_holds_an_instance_whoever_was_first() {
    const PROJECTS: i64 = 4;
    let nexus = nexus().await;
    for creates_first in [true, false] {
        let names: Vec<_> = (0..PROJECTS)
            .map(|n| format!("race-{n}-{creates_first}"))
            .collect();
        for name in &names {
            nexus.post("/v1/projects", project(name)).await.expect(201);
        }
        // Whoever is first is first in the queue for the project's row.
        let held = nexus.database.hold("SELECT id FROM project FOR UPDATE");
        let mut asked = Vec::new();
        for (n, creates) in (1..).zip([creates_first, !creates_first]) {
            let mut requests = tokio::task::JoinSet::new();
            for name in names.clone() {
                let admin = nexus.admin.clone();
                requests.spawn(async move {
                    if creates {
                        create(&admin, &name).await
                    } else {
                        delete(&admin, &name).await
                    }
                });
            }
            asked.push(requests);
            all_wait(&nexus, n * PROJECTS).await;
        }
        let [first, second] = asked.try_into().unwrap();
        held.lift();
        for answer in first.join_all().await {
            answer.expect(if creates_first { 201 } else { 204 });
        }
        for answer in second.join_all().await {
            let message = if creates_first {
                answer.error(400, "InvalidRequest")
            } else {
                answer.error(404, "ObjectNotFound")
            };
            assert!(message.contains("project"), "{message}");
        }
        for name in &names {
            let project = nexus.get(&format!("/v1/projects/{name}")).await;
            project.expect(if creates_first { 200 } else { 404 });
        }
    }
    assert_eq!(stranded(&nexus), 0);
}

#[tokio::test]
async fn a_deleted_project_never_holds_an_instance_however_they_race() {
    const RACES: usize = 24;
    let nexus = nexus().await;
    let races = (0..RACES).map(|n| {
        let admin = nexus.admin.clone();
        async move {
            let name = format!("race-{n}");
            admin.post("/v1/projects", project(&name)).await.expect(201);
            let (created, deleted) =
                tokio::join!(create(&admin, &name), delete(&admin, &name));
            let outcome = (created.status, deleted.status);
            assert!(
                outcome == (201, 400) || outcome == (404, 204),
                "{created:?} {deleted:?}",
            );
        }
    });
    futures::future::join_all(races).await;
    assert_eq!(stranded(&nexus), 0);
}

async fn create(nexus: &Client, project: &str) -> Answer {
    let path = format!("/v1/instances?project={project}");
    nexus.post(&path, Client::instance("db", false)).await
}

async fn delete(nexus: &Client, project: &str) -> Answer {
    nexus.delete(&format!("/v1/projects/{project}")).await
}

/// Waits until so many wait for a lock in the database.
async fn all_wait(nexus: &TestNexus, n: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("all wait for the project", async || {
        (nexus.database.count(waiting) == n).then_some(())
    })
    .await;
}

/// Instances in projects that are deleted.
fn stranded(nexus: &TestNexus) -> i64 {
    nexus.database.count(
        "SELECT count(*) FROM instance i JOIN project p \
             ON p.id = i.project_id \
         WHERE p.time_deleted IS NOT NULL AND i.time_deleted IS NULL",
    )
}
