//! Disks whose contents are sent: in chunks, in any order, and finalized.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{Answer, Client, GIB, Setup, TestNexus, blocks_in_store};
use serde_json::{Value, json};

const DISKS: &str = "/v1/disks?project=demo";
const CHUNK: usize = 512 << 10;

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::one_sled()).await
}

/// Makes a disk of 1 GiB to be imported; its id.
async fn import(nexus: &Client, name: &str) -> String {
    let source = json!({ "type": "importing_blocks", "block_size": 512 });
    let body = Client::distributed(name, source);
    let made = nexus.post(DISKS, body).await.expect(201);
    assert_eq!(made["state"], json!({ "state": "import_ready" }));
    made["id"].as_str().unwrap().to_string()
}

async fn ask(nexus: &Client, id: &str, what: &str, body: Value) -> Answer {
    nexus.post(&format!("/v1/disks/{id}/{what}"), body).await
}

async fn write(nexus: &Client, id: &str, offset: u64, data: &[u8]) -> Answer {
    let data = STANDARD.encode(data);
    let body = json!({ "offset": offset, "base64_encoded_data": data });
    ask(nexus, id, "bulk-write", body).await
}

async fn state(nexus: &Client, id: &str) -> String {
    let view = nexus.get(&format!("/v1/disks/{id}")).await.expect(200);
    view["state"]["state"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn a_disk_is_imported_as_oxide_s_command_line_does_it() {
    let nexus = nexus().await;
    let id = import(&nexus, "upload").await;
    ask(&nexus, &id, "bulk-write-start", json!({})).await.expect(204);
    assert_eq!(state(&nexus, &id).await, "importing_from_bulk_writes");
    // Several at once, in any order, some twice, and none of zeroes alone.
    let chunks = [7_u64, 2, 5, 0, 3, 2, 7].map(|n| {
        let (nexus, id) = (&nexus, &id);
        async move {
            let data = vec![u8::try_from(n + 1).unwrap(); CHUNK];
            let offset = n * u64::try_from(CHUNK).unwrap();
            write(nexus, id, offset, &data).await.expect(204);
        }
    });
    futures::future::join_all(chunks).await;
    ask(&nexus, &id, "bulk-write-stop", json!({})).await.expect(204);
    assert_eq!(state(&nexus, &id).await, "import_ready");
    let named = json!({ "snapshot_name": "upload-snapshot" });
    ask(&nexus, &id, "finalize", named).await.expect(204);
    assert_eq!(state(&nexus, &id).await, "detached");

    let path = "/v1/snapshots/upload-snapshot?project=demo";
    let snapshot = nexus.get(path).await.expect(200);
    assert_eq!(snapshot["state"], "ready");
    assert_eq!(snapshot["disk_id"], id.as_str());
    assert_eq!(snapshot["size"], GIB);
    let image = json!({
        "name": "debian-12",
        "description": "",
        "os": "debian",
        "version": "12",
        "source": { "type": "snapshot", "id": snapshot["id"] },
    });
    let image = nexus.post("/v1/images?project=demo", image).await.expect(201);
    // The command line tidies up.
    nexus.delete(&format!("/v1/disks/{id}")).await.expect(204);
    nexus.delete(path).await.expect(204);

    let image = image["id"].as_str().unwrap();
    let source = json!({ "type": "image", "image_id": image });
    let body = Client::distributed("root", source);
    let root = nexus.post(DISKS, body).await.expect(201);
    assert_eq!(root["image_id"], image);
    assert_eq!(root["block_size"], 512);
    nexus.check_invariants().await;
    assert_eq!(blocks_in_store(nexus.dir.path()).len(), 2);
    let raw = read(&nexus, root["id"].as_str().unwrap());
    for n in 0..8_u8 {
        let at = usize::from(n) * CHUNK;
        let expected = if [0, 2, 3, 5, 7].contains(&n) { n + 1 } else { 0 };
        assert!(raw[at..at + CHUNK].iter().all(|b| *b == expected), "{n}");
    }
}

/// The first 4 MiB of blocks in the store.
fn read(nexus: &TestNexus, id: &str) -> Vec<u8> {
    let file = nexus.dir.path().join(format!("disk-store/{id}.qcow2"));
    let raw = nexus.dir.path().join("raw");
    let status = std::process::Command::new("qemu-img")
        .args(["dd", "-U", "-f", "qcow2", "-O", "raw", "count=8"])
        .arg(format!("bs={CHUNK}"))
        .arg(format!("if={}", file.display()))
        .arg(format!("of={}", raw.display()))
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(raw).unwrap()
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_is_refused_by_what_is_wrong() {
    let nexus = nexus().await;
    let id = import(&nexus, "upload").await;
    ask(&nexus, &id, "bulk-write-start", json!({})).await.expect(204);
    for (offset, length, why) in [
        (0, CHUNK + 512, "base64_encoded_data: 524800 bytes are too many"),
        (0, 0, "base64_encoded_data: 0 bytes are no whole number of blocks"),
        (0, 100, "base64_encoded_data: 100 bytes are no whole number"),
        (100, 512, "offset: 100 is not a multiple of the block size, 512"),
        (GIB, 512, "offset: 512 bytes from 1073741824 on do not fit"),
        (GIB - 512, 1024, "offset: 1024 bytes from 1073741312 on do not fit"),
    ] {
        let refused = write(&nexus, &id, offset, &vec![1; length]).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.contains(why), "{message}");
    }
    let body = json!({ "offset": 0, "base64_encoded_data": "?" });
    let refused = ask(&nexus, &id, "bulk-write", body).await;
    let message = refused.error(400, "InvalidValue");
    assert!(message.contains("this is no base64"), "{message}");
    write(&nexus, &id, GIB - 512, &[1; 512]).await.expect(204);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn each_step_of_an_import_is_taken_in_its_state_only() {
    let nexus = nexus().await;
    let id = import(&nexus, "upload").await;
    let steps = ["bulk-write-start", "bulk-write-stop", "finalize"];
    let wrong = async |what: &str, state: &str| {
        let body = json!({ "offset": 0, "base64_encoded_data": "" });
        let body = if what == "bulk-write" { body } else { json!({}) };
        let refused = ask(&nexus, &id, what, body).await;
        let message = refused.error(400, "InvalidRequest");
        let why = format!("its state is \"{state}\"");
        assert!(message.contains(&why), "{what}: {message}");
        assert!(message.contains("disk \"upload\""), "{message}");
    };
    let not_attached = async |state: &str| {
        let name = format!("i-{state}").replace('_', "-");
        let instance = nexus.create(&name, false).await;
        let refused = nexus.ask_disk(&instance, "attach", "upload").await;
        let message = refused.error(400, "InvalidRequest");
        assert!(message.contains(state), "{message}");
    };
    wrong("bulk-write", "import_ready").await;
    not_attached("import_ready").await;
    // What is so already is no change.
    ask(&nexus, &id, "bulk-write-stop", json!({})).await.expect(204);
    for _ in 0..2 {
        ask(&nexus, &id, "bulk-write-start", json!({})).await.expect(204);
    }
    wrong("finalize", "importing_from_bulk_writes").await;
    not_attached("importing_from_bulk_writes").await;
    ask(&nexus, &id, "bulk-write-stop", json!({})).await.expect(204);
    ask(&nexus, &id, "finalize", json!({})).await.expect(204);
    for what in steps.into_iter().chain(["bulk-write"]) {
        wrong(what, "detached").await;
    }
    nexus.create_disk("local").await;
    let refused =
        nexus.post("/v1/disks/local/finalize?project=demo", json!({})).await;
    refused.error(400, "InvalidRequest");

    // One that is being imported can be given up.
    let other = import(&nexus, "other").await;
    ask(&nexus, &other, "bulk-write-start", json!({})).await.expect(204);
    nexus.delete(&format!("/v1/disks/{other}")).await.expect(204);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn of_two_who_finalize_with_one_snapshot_s_name_one_is_refused() {
    let nexus = nexus().await;
    let (a, b) = (import(&nexus, "a").await, import(&nexus, "b").await);
    let named = || json!({ "snapshot_name": "taken" });
    let answers = tokio::join!(
        ask(&nexus, &a, "finalize", named()),
        ask(&nexus, &b, "finalize", named()),
    );
    let (refused, left) = match (answers.0.status, answers.1.status) {
        (204, _) => (answers.1, &b),
        _ => (answers.0, &a),
    };
    let message = refused.error(400, "ObjectAlreadyExists");
    assert!(message.contains("snapshot \"taken\""), "{message}");
    // It is as it was, and can be finalized without.
    assert_eq!(state(&nexus, left).await, "import_ready");
    ask(&nexus, left, "finalize", json!({})).await.expect(204);
    nexus.check_invariants().await;
}
