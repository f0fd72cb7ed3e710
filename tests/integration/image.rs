//! Images: a project's and the silo's, and who sees them.

use harness::{Client, GIB, Setup, TestNexus};
use serde_json::{Value, json};

const IMAGES: &str = "/v1/images?project=demo";

async fn nexus() -> (TestNexus, String) {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.create_blank("data").await;
    let body = json!({ "name": "s", "description": "", "disk": "data" });
    let made = nexus.post("/v1/snapshots?project=demo", body).await;
    let snapshot = made.expect(201)["id"].as_str().unwrap().to_string();
    (nexus, snapshot)
}

fn image(name: &str, snapshot: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "os": "debian",
        "version": "12",
        "source": { "type": "snapshot", "id": snapshot },
    })
}

async fn names(nexus: &Client, path: &str) -> Vec<String> {
    let list = nexus.get(path).await.expect(200);
    let items = list["items"].as_array().unwrap();
    items.iter().map(|i| i["name"].as_str().unwrap().to_string()).collect()
}

#[tokio::test]
async fn an_image_is_made_found_and_deleted() {
    let (nexus, snapshot) = nexus().await;
    let project = nexus.get("/v1/projects/demo").await.expect(200);
    let made = nexus.post(IMAGES, image("i", &snapshot)).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "id": id,
            "name": "i",
            "description": "",
            "project_id": project["id"],
            "os": "debian",
            "version": "12",
            "digest": null,
            "block_size": 512,
            "size": GIB,
            "time_created": made["time_created"],
            "time_modified": made["time_created"],
        })
    );
    for path in [format!("/v1/images/{id}"), "/v1/images/i?project=demo".into()]
    {
        assert_eq!(nexus.get(&path).await.expect(200), made);
    }
    let taken = nexus.post(IMAGES, image("i", &snapshot)).await;
    taken.error(400, "ObjectAlreadyExists");
    let message =
        nexus.delete("/v1/projects/demo").await.error(400, "InvalidRequest");
    assert!(message.contains("snapshots"), "{message}");
    assert!(message.contains("images"), "{message}");

    // Instances that were made from it keep their disks.
    let source = json!({ "type": "image", "image_id": id });
    let mut root = Client::distributed("root", source);
    root["type"] = "create".into();
    let mut body = Client::instance("db", false);
    body["boot_disk"] = root;
    let db = nexus.create_as(body).await;
    nexus.delete(&format!("/v1/images/{id}")).await.expect(204);
    nexus.get(&format!("/v1/images/{id}")).await.error(404, "ObjectNotFound");
    let disks = nexus.get(&format!("/v1/instances/{db}/disks")).await;
    let disks = disks.expect(200);
    assert_eq!(disks["items"][0]["image_id"], id);
    assert_eq!(disks["items"][0]["state"]["state"], "attached");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_image_is_promoted_for_all_projects_of_the_silo_and_demoted() {
    let (nexus, snapshot) = nexus().await;
    let other = json!({ "name": "other", "description": "" });
    nexus.post("/v1/projects", other).await.expect(201);
    let made = nexus.post(IMAGES, image("i", &snapshot)).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let source = json!({ "type": "image", "image_id": id });
    let disk = Client::distributed("root", source);
    let elsewhere = "/v1/disks?project=other";
    nexus.post(elsewhere, disk.clone()).await.error(404, "ObjectNotFound");

    let promote = "/v1/images/i/promote?project=demo";
    let promoted = nexus.post(promote, json!({})).await.expect(202);
    assert_eq!(promoted["project_id"], Value::Null);
    assert_eq!(names(&nexus, IMAGES).await, Vec::<String>::new());
    assert_eq!(names(&nexus, "/v1/images").await, ["i"]);
    nexus.get("/v1/images/i").await.expect(200);
    nexus.get(&format!("/v1/images/{id}?project=other")).await.expect(200);
    nexus.post(elsewhere, disk).await.expect(201);
    let stranger = nexus.other_silo("strangers").await;
    let of_ours = format!("/v1/images/{id}");
    stranger.get(&of_ours).await.error(404, "ObjectNotFound");
    assert_eq!(names(&stranger, "/v1/images").await, Vec::<String>::new());

    // A project's may be called as the silo's is, but not become it.
    nexus.post(IMAGES, image("i", &snapshot)).await.expect(201);
    let taken = nexus.post(promote, json!({})).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("image \"i\""), "{message}");
    let demote = |to: &str| format!("/v1/images/{id}/demote?project={to}");
    let taken = nexus.post(&demote("demo"), json!({})).await;
    taken.error(400, "ObjectAlreadyExists");
    let demoted = nexus.post(&demote("other"), json!({})).await.expect(202);
    assert_ne!(demoted["project_id"], Value::Null);
    let refused = nexus.post(&demote("demo"), json!({})).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("another project's"), "{message}");
    nexus.check_invariants().await;
}
