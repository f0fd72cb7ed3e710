//! Distributed disks: made at once, charged to the quota, attached, booted from,
//! and gone for good.

use harness::{
    AgentSettings, Client, GIB, Setup, TestNexus, blocks_in_store, eventually,
    is,
};
use nexus::saga::Saga;
use nexus::saga::blocks_make::BlocksMake;
use serde_json::{Value, json};

const DISKS: &str = "/v1/disks?project=demo";
const INSTANCES: &str = "/v1/instances?project=demo";

fn blank(name: &str) -> Value {
    let source = json!({ "type": "blank", "block_size": 512 });
    Client::distributed(name, source)
}

/// The blocks that a sled was told of with this VMM.
fn told(nexus: &TestNexus, vmm: &str) -> Vec<(String, bool)> {
    let kept = nexus.agents[0].kept(vmm);
    let disks = find(&kept, "disks").as_array().unwrap().clone();
    disks
        .iter()
        .map(|disk| {
            let blocks = disk["blocks_id"].as_str().unwrap().to_string();
            (blocks, disk["allocate"] == true)
        })
        .collect()
}

/// The value of a key, wherever it stands.
fn find<'a>(value: &'a Value, key: &str) -> &'a Value {
    fn look<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
        let fields = value.as_object()?;
        fields.get(key).or_else(|| fields.values().find_map(|v| look(v, key)))
    }
    look(value, key).unwrap()
}

fn used(nexus: &TestNexus) -> i64 {
    let row = nexus.database.row("SELECT used_storage_bytes FROM silo_quota");
    row["used_storage_bytes"].as_i64().unwrap()
}

#[tokio::test]
async fn a_distributed_disk_is_there_when_it_is_answered() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let mut body = blank("data");
    body["size"] = (3 * GIB).into();
    let made = nexus.post(DISKS, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["state"], json!({ "state": "detached" }));
    assert_eq!(made["disk_type"], "distributed");
    assert_eq!(made["block_size"], 512);
    assert_eq!(made["read_only"], false);
    assert_eq!(made["device_path"], "/mnt/data");
    assert_eq!(used(&nexus).unsigned_abs(), 3 * GIB);
    assert!(blocks_in_store(nexus.dir.path()).contains(id));

    nexus.delete(&format!("/v1/disks/{id}")).await.expect(204);
    assert_eq!(used(&nexus), 0);
    nexus.check_invariants().await;
    assert!(blocks_in_store(nexus.dir.path()).is_empty());
}

#[tokio::test]
async fn with_no_sled_to_make_it_a_disk_is_refused_and_nothing_is_left() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let refused = nexus.post(DISKS, blank("data")).await;
    let message = refused.error(503, "ServiceNotAvailable");
    assert!(message.contains("disk \"data\" was not created"), "{message}");
    assert!(message.contains("no host answers"), "{message}");
    let list = nexus.get(DISKS).await.expect(200);
    assert_eq!(list["items"], json!([]));
    assert_eq!(used(&nexus), 0);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn another_sled_makes_it_when_one_does_not_answer() {
    let mut nexus = TestNexus::start().await;
    nexus.agents[0].kill().await;
    for n in 0..4 {
        let made = nexus.post(DISKS, blank(&format!("d-{n}"))).await;
        assert_eq!(made.expect(201)["state"]["state"], "detached");
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_disk_beyond_the_quota_is_refused_with_what_is_used_and_asked_for() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let path = "/v1/system/silos/main/quotas";
    let limit = json!({ "storage": 2 * GIB });
    nexus.put(path, limit).await.expect(200);
    nexus.create_blank("first").await;
    let mut body = blank("second");
    body["size"] = (2 * GIB).into();
    let refused = nexus.post(DISKS, body).await;
    let message = refused.error(400, "InvalidRequest");
    let why = "1 GiB of 2 GiB are used, and 2 GiB are requested";
    assert!(message.contains(why), "{message}");

    // At once, no more than there is room for.
    let both = futures::future::join_all(
        ["a", "b", "c"].map(|name| nexus.post(DISKS, blank(name))),
    );
    let made = both.await.into_iter().filter(|a| a.status == 201).count();
    assert_eq!(made, 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn two_of_a_name_made_at_once_are_one() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (a, b) = tokio::join!(
        nexus.post(DISKS, blank("data")),
        nexus.post(DISKS, blank("data")),
    );
    let (made, refused) = if a.status == 201 { (a, b) } else { (b, a) };
    made.expect(201);
    let message = refused.error(400, "ObjectAlreadyExists");
    assert!(message.contains("disk \"data\""), "{message}");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_boots_from_its_boot_disk_first_and_then_by_name() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let a = nexus.create_blank("a").await;
    let local = nexus.create_disk("b").await;
    let mut root = blank("root");
    root["type"] = "create".into();
    let mut body = Client::instance("db", true);
    body["boot_disk"] = root;
    body["disks"] = json!([
        { "type": "attach", "name": "b" },
        { "type": "attach", "name": "a" },
    ]);
    let made = nexus.post(INSTANCES, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    let root = made["boot_disk_id"].as_str().unwrap().to_string();
    nexus.wait(id, is("running")).await;
    let vmm = nexus.vmm_of(id).await;
    let first = told(&nexus, &vmm);
    assert_eq!(first.len(), 3);
    assert_eq!((&first[0].0, first[0].1), (&root, false));
    assert_eq!((&first[1].0, first[1].1), (&a, false));
    // A local one's blocks come about with the VMM, under a name of their own.
    assert_ne!(first[2].0, local);
    assert!(first[2].1);

    // From the second run on they are there.
    nexus.ask(id, "stop").await.expect(202);
    nexus.wait(id, is("stopped")).await;
    nexus.settled(id).await;
    nexus.ask(id, "start").await.expect(202);
    nexus.wait(id, is("running")).await;
    let second = told(&nexus, &nexus.vmm_of(id).await);
    assert_eq!(second[2], (first[2].0.clone(), false));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_boot_disk_is_changed_at_rest_and_cannot_be_detached() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (a, b) = (nexus.create_blank("a").await, nexus.create_blank("b").await);
    let id = nexus.create("db", false).await;
    let path = format!("/v1/instances/{id}");
    let change = |boot: Value| {
        json!({
            "ncpus": 1, "memory": GIB, "auto_restart_policy": null,
            "boot_disk": boot, "cpu_platform": null,
        })
    };
    let refused = nexus.put(&path, change("a".into())).await;
    let message = refused.error(400, "InvalidValue");
    assert!(message.contains("boot_disk: disk \"a\" is not attached"));
    for disk in ["a", "b"] {
        nexus.ask_disk(&id, "attach", disk).await.expect(202);
    }
    let changed = nexus.put(&path, change("a".into())).await.expect(200);
    assert_eq!(changed["boot_disk_id"], a.as_str());
    let refused = nexus.ask_disk(&id, "detach", "a").await;
    let message = refused.error(409, "Conflict");
    assert!(message.contains("set the instance's boot_disk"), "{message}");

    let changed = nexus.put(&path, change(b.clone().into())).await;
    assert_eq!(changed.expect(200)["boot_disk_id"], b.as_str());
    nexus.ask_disk(&id, "detach", "a").await.expect(202);
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let refused = nexus.put(&path, change(Value::Null)).await;
    let message = refused.error(409, "Conflict");
    assert!(message.contains("boot_disk can be changed only"), "{message}");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_runs_on_another_sled_with_a_distributed_disk() {
    let setup = Setup { agent: AgentSettings::sized(4, 4), ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    nexus.create_blank("data").await;
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    let first = nexus.agent_of(&nexus.vmm_of(&id).await).await.id.clone();
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    nexus.set_provision_policy(&first, "non_provisionable").await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let second = nexus.agent_of(&nexus.vmm_of(&id).await).await.id.clone();
    assert_ne!(first, second);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_without_its_disk_s_blocks_fails_and_names_the_disk() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let disk = nexus.create_blank("data").await;
    let store = nexus.dir.path().join("disk-store");
    let file = store.join(format!("{disk}.qcow2"));
    let aside = store.join("lost");
    std::fs::rename(&file, &aside).unwrap();
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    let view = nexus.wait(&id, is("failed")).await;
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "image_or_disk_unavailable");
    assert_eq!(failure["transient"], false);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("Disk \"data\" is not found"), "{message}");
    std::fs::rename(&aside, &file).unwrap();
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_local_disk_s_room_is_free_when_its_sled_has_deleted_its_blocks() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let disk = nexus.create_disk("data").await;
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    nexus.ask_disk(&id, "detach", "data").await.expect(202);
    nexus.agents[0].kill().await;
    nexus.delete(&format!("/v1/disks/{disk}")).await.expect(204);
    // The quota at once, the room not before it is known to be free.
    assert_eq!(used(&nexus), 0);
    let reserved = "SELECT count(*) FROM sled WHERE reserved_storage_bytes > 0";
    eventually("it was tried", async || {
        let tried = "SELECT count(*) FROM blocks_gone WHERE last_error <> ''";
        (nexus.database.count(tried) == 1).then_some(())
    })
    .await;
    assert_eq!(nexus.database.count(reserved), 1);
    nexus.agents[0].restart().await;
    nexus.sql("UPDATE blocks_gone SET next_try_at = now()");
    nexus.check_invariants().await;
    assert_eq!(nexus.database.count(reserved), 0);
}

#[tokio::test]
async fn the_local_blocks_of_an_expunged_sled_are_gone_with_it() {
    let mut nexus = TestNexus::start().await;
    let disk = nexus.create_disk("data").await;
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{ "type": "attach", "name": "data" }]);
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    let sled = nexus.agent_of(&nexus.vmm_of(&id).await).await.id.clone();
    let at = nexus.agents.iter().position(|a| a.id == sled).unwrap();
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.settled(&id).await;
    nexus.ask_disk(&id, "detach", "data").await.expect(202);
    nexus.agents[at].kill().await;
    nexus.delete(&format!("/v1/disks/{disk}")).await.expect(204);
    nexus.expunge(&sled).await.expect(204);
    nexus.sql("UPDATE blocks_gone SET next_try_at = now()");
    eventually("they are forgotten", async || {
        let left = nexus.database.count("SELECT count(*) FROM blocks_gone");
        (left == 0).then_some(())
    })
    .await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_disk_is_made_though_nexus_is_killed_meanwhile() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    // The saga gets as far as its second node.
    let row = "SELECT 1 FROM project WHERE name = 'demo' FOR UPDATE";
    let mut barrier = nexus.database.hold(row);
    let client = nexus.admin.clone();
    let asked = tokio::spawn(async move {
        client.try_request(reqwest::Method::POST, DISKS, Some(blank("d"))).await
    });
    barrier.reached_by(1).await;
    nexus.kill_nexus().await;
    barrier.lift();
    drop(asked.await);
    nexus.restart_nexus().await;
    let view = eventually("the disk is there", async || {
        let path = "/v1/disks/d?project=demo";
        let answer = nexus.get(path).await;
        (answer.status == 200).then(|| answer.expect(200))
    })
    .await;
    let id = view["id"].as_str().unwrap();
    eventually("its blocks are there", async || {
        let view = nexus.get(&format!("/v1/disks/{id}")).await.expect(200);
        (view["state"]["state"] == "detached").then_some(())
    })
    .await;
    let run = format!(
        "SELECT count(*) FROM saga WHERE name = '{}'",
        BlocksMake::NAME
    );
    assert_eq!(nexus.database.count(&run), 1);
    nexus.check_invariants().await;
}
