//! A real Linux under a real QEMU, from the import of its disk to its end.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{TryStreamExt, stream};
use harness::{
    AgentSettings, Answer, Client, Console, GIB, Setup, TestNexus,
    blocks_in_store, is,
};
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How much the command line of Oxide sends at once.
const CHUNK: usize = 512 << 10;

/// How many chunks are under way at once.
const AT_ONCE: usize = 8;

/// What the guest prints first, of itself.
const GREETING: &str = "This is walrus, a trial guest with Linux ";

/// A key that nobody has the other half of.
const KEY: &str = "ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lSxYV4mA0TQzJm5l9Z3kq1mQyqzqkz3m1v";

/// The disk of a small Linux, where there is QEMU to run it.
fn linux() -> Option<PathBuf> {
    std::env::var_os("NEXUS_TEST_LINUX").map(PathBuf::from)
}

/// Imports a file as an image, leaving out what is zeroes; its id.
async fn imported(nexus: &Client, file: PathBuf) -> String {
    let ask = async |path: &str, body: Value| -> Answer {
        nexus.post(&format!("/v1/{path}"), body).await
    };
    let source = json!({ "type": "importing_blocks", "block_size": 512 });
    let body = Client::distributed("upload", source);
    let disk = ask("disks?project=demo", body).await.expect(201);
    let disk = format!("disks/{}", disk["id"].as_str().unwrap());
    let file = std::fs::File::open(file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), GIB);
    ask(&format!("{disk}/bulk-write-start"), json!({})).await.expect(204);
    let chunks = (0..GIB).step_by(CHUNK).filter_map(|offset| {
        let mut data = vec![0; CHUNK];
        file.read_exact_at(&mut data, offset).unwrap();
        data.iter().any(|byte| *byte != 0).then(|| {
            let data = STANDARD.encode(data);
            json!({ "offset": offset, "base64_encoded_data": data })
        })
    });
    let path = format!("{disk}/bulk-write");
    stream::iter(chunks.map(Ok::<_, ()>))
        .try_for_each_concurrent(AT_ONCE, async |chunk| {
            ask(&path, chunk).await.expect(204);
            Ok(())
        })
        .await
        .unwrap();
    ask(&format!("{disk}/bulk-write-stop"), json!({})).await.expect(204);
    let named = json!({ "snapshot_name": "upload" });
    ask(&format!("{disk}/finalize"), named).await.expect(204);
    nexus.delete(&format!("/v1/{disk}")).await.expect(204);

    let snapshot = "/v1/snapshots/upload?project=demo";
    let id = nexus.get(snapshot).await.expect(200)["id"].clone();
    let image = json!({
        "name": "linux",
        "description": "",
        "os": "trial",
        "version": "1",
        "source": { "type": "snapshot", "id": id },
    });
    let image = ask("images?project=demo", image).await.expect(201);
    nexus.delete(snapshot).await.expect(204);
    image["id"].as_str().unwrap().to_string()
}

async fn console(nexus: &TestNexus, id: &str) -> Console {
    nexus.console_of(id).await.unwrap()
}

#[tokio::test]
async fn a_linux_runs_from_an_imported_image_and_outlives_the_agent() {
    let Some(linux) = linux() else { return };
    let agent = AgentSettings { real: true, ..AgentSettings::default() };
    let setup = Setup { agent, ..Setup::one_sled() };
    let mut nexus = TestNexus::with(setup).await;
    let image = imported(&nexus, linux).await;
    let key = json!({ "name": "k", "description": "", "public_key": KEY });
    nexus.post("/v1/me/ssh-keys", key).await.expect(201);

    let mut body = Client::instance("walrus", true);
    let of_image = json!({ "type": "image", "image_id": image });
    body["boot_disk"] = Client::distributed("walrus", of_image);
    body["boot_disk"]["type"] = "create".into();
    body["network_interfaces"] = json!({ "type": "default_ipv4" });
    let script = "#!/bin/sh\n\
        echo \"User data, and $(grep -c ssh-ed25519 /seed/meta-data) key.\"\n";
    body["user_data"] = STANDARD.encode(script).into();
    let id = nexus.create_as(body).await;
    nexus.delete(&format!("/v1/images/{image}")).await.expect(204);
    nexus.wait(&id, is("running")).await;

    let mut first = console(&nexus, &id).await;
    first.read_past(GREETING).await;
    first.read_past("Its address is 10.0.2.").await;
    first.read_past("User data, and 1 key.").await;
    first.read_past("/ # ").await;
    first.type_in("echo left > /seed-of-doubt; echo $((6 * 7))\n").await;
    first.read_past("\r\n42\r\n").await;

    // The guest does not notice.
    nexus.agents[0].kill().await;
    nexus.agents[0].restart().await;
    let mut second = console(&nexus, &id).await;
    second.read_past("\r\n42\r\n").await;
    second.type_in("cat /seed-of-doubt; uname -n\n").await;
    second.read_past("\r\nleft\r\nwalrus\r\n").await;
    assert_eq!(nexus.instance_view(&id).await["run_state"], "running");

    // It is asked to, and not made to.
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    let end = second.ends_with(CloseCode::Normal).await;
    assert!(end.contains("reboot: Power down"), "{end}");

    // The next run is another, from the same disk.
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    console(&nexus, &id).await.read_past(GREETING).await;
    nexus.ask(&id, "reboot").await.expect(202);
    let mut third = console(&nexus, &id).await;
    third.read_past(GREETING).await;
    third.read_past(GREETING).await;
    third.read_past("/ # ").await;
    // A guest that shuts itself down is not started again.
    third.type_in("poweroff -f\n").await;
    nexus.wait(&id, is("stopped")).await;
    let view = nexus.instance_view(&id).await;
    assert_eq!(view["intended_state"], "guest_shutdown");

    nexus.delete(&format!("/v1/instances/{id}")).await.expect(204);
    nexus.delete("/v1/disks/walrus?project=demo").await.expect(204);
    harness::eventually("nothing is left in the store", async || {
        blocks_in_store(nexus.dir.path()).is_empty().then_some(())
    })
    .await;
    nexus.check_invariants().await;
}
