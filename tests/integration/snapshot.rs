//! Snapshots: of disks at rest, and what becomes of them.

use harness::{Client, GIB, Setup, TestNexus, eventually, is};
use serde_json::{Value, json};

const SNAPSHOTS: &str = "/v1/snapshots?project=demo";
const DISKS: &str = "/v1/disks?project=demo";

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::one_sled()).await
}

fn snapshot(name: &str, disk: &str) -> Value {
    json!({ "name": name, "description": "Then", "disk": disk })
}

#[tokio::test]
async fn a_snapshot_is_made_found_and_deleted() {
    let nexus = nexus().await;
    let project = nexus.get("/v1/projects/demo").await.expect(200);
    let disk = nexus.create_blank("data").await;
    let made = nexus.post(SNAPSHOTS, snapshot("s", "data")).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "id": id,
            "name": "s",
            "description": "Then",
            "project_id": project["id"],
            "disk_id": disk,
            "size": GIB,
            "state": "ready",
            "time_created": made["time_created"],
            "time_modified": made["time_created"],
        })
    );
    let by_id = format!("/v1/snapshots/{id}");
    let by_name = "/v1/snapshots/s?project=demo";
    for path in [by_id.as_str(), by_name] {
        assert_eq!(nexus.get(path).await.expect(200), made);
    }
    let list = nexus.get(SNAPSHOTS).await.expect(200);
    assert_eq!(list["items"], json!([made]));
    let taken = nexus.post(SNAPSHOTS, snapshot("s", "data")).await;
    taken.error(400, "ObjectAlreadyExists");
    let message =
        nexus.get("/v1/snapshots/s").await.error(400, "InvalidRequest");
    assert!(message.contains("name its project"), "{message}");

    // What is made from it stays when it is deleted, and the disk, too.
    let source = json!({
        "type": "snapshot", "snapshot_id": id, "read_only": true,
    });
    let copy = nexus.post(DISKS, Client::distributed("copy", source)).await;
    let copy = copy.expect(201);
    assert_eq!(copy["snapshot_id"], id);
    assert_eq!(copy["read_only"], true);
    nexus.delete(by_name).await.expect(204);
    for path in [by_id.as_str(), by_name] {
        nexus.get(path).await.error(404, "ObjectNotFound");
    }
    let path = format!("/v1/disks/{}", copy["id"].as_str().unwrap());
    assert_eq!(
        nexus.get(&path).await.expect(200)["state"]["state"],
        "detached"
    );
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_disk_is_snapshotted_at_rest_only() {
    let nexus = nexus().await;
    nexus.create_blank("data").await;
    nexus.create_disk("local").await;
    let refused = nexus.post(SNAPSHOTS, snapshot("s", "local")).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("disk \"local\" is a local one"), "{message}");
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    let refused = nexus.post(SNAPSHOTS, snapshot("s", "data")).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("instance that is not stopped"), "{message}");
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    nexus.post(SNAPSHOTS, snapshot("s", "data")).await.expect(201);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_is_smaller_than_its_source_or_has_none_is_refused() {
    let nexus = nexus().await;
    let mut large = Client::distributed(
        "large",
        json!({ "type": "blank", "block_size": 4096 }),
    );
    large["size"] = (2 * GIB).into();
    nexus.post(DISKS, large).await.expect(201);
    let made = nexus.post(SNAPSHOTS, snapshot("s", "large")).await.expect(201);
    let source = |id: &Value| json!({ "type": "snapshot", "snapshot_id": id });
    let small = Client::distributed("small", source(&made["id"]));
    let refused = nexus.post(DISKS, small.clone()).await;
    let message = refused.error(400, "InvalidValue");
    let why = "size: 1 GiB is less than the 2 GiB of snapshot \"s\"";
    assert!(message.contains(why), "{message}");
    let mut grown = small;
    grown["size"] = (3 * GIB).into();
    nexus.post(DISKS, grown).await.expect(201);
    let nothing = json!("12345678-1234-1234-1234-123456789abc");
    let of_nothing = Client::distributed("none", source(&nothing));
    nexus.post(DISKS, of_nothing).await.error(404, "ObjectNotFound");
    nexus.check_invariants().await;
}

/// As long as a snapshot is being made, its disk is let alone. Here the saga was
/// stopped in the middle: its row is as it leaves it before the blocks are
/// there.
#[tokio::test]
async fn while_a_snapshot_is_made_no_guest_has_the_disk() {
    let nexus = nexus().await;
    let disk = nexus.create_blank("data").await;
    nexus.post(SNAPSHOTS, snapshot("s", "data")).await.expect(201);
    nexus.sql("UPDATE snapshot SET made = FALSE");
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    let view = nexus.wait(&id, is("failed")).await;
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "image_or_disk_unavailable");
    assert_eq!(failure["transient"], true);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("Disk \"data\" cannot be used: a snapshot"));
    nexus.ask_disk(&id, "detach", "data").await.expect(202);
    let refused = nexus.delete(&format!("/v1/disks/{disk}")).await;
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("a snapshot of it is being made"), "{message}");

    nexus.sql("UPDATE snapshot SET made = TRUE");
    nexus.delete(&format!("/v1/disks/{disk}")).await.expect(204);
    eventually("it starts without", async || {
        let view = nexus.instance_view(&id).await;
        (view["run_state"] == "running").then_some(())
    })
    .await;
    nexus.check_invariants().await;
}
