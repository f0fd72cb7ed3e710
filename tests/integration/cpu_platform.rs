//! What CPU an instance needs, and what CPU a sled says it has.

use db_model::SledCpu;
use harness::{
    AgentSettings, Answer, Client, GIB, PROJECT, Setup, TestNexus, eventually,
    is,
};
use serde_json::{Value, json};
use uuid::Uuid;

const PLATFORMS: [&str; 3] = ["amd_milan", "amd_turin", "amd_turin_v2"];

/// One sled, of this CPU.
fn sled_of(cpu: SledCpu) -> Setup {
    let agent = AgentSettings { cpu, ..AgentSettings::default() };
    Setup { agent, ..Setup::one_sled() }
}

fn body(name: &str, start: bool, platform: impl Into<Value>) -> Value {
    let mut body = Client::instance(name, start);
    body["cpu_platform"] = platform.into();
    body
}

/// Sets the platform of an instance, and what `changes` says.
async fn update(
    nexus: &Client,
    id: &str,
    platform: impl Into<Value>,
    changes: Value,
) -> Answer {
    let mut body = json!({
        "ncpus": 2,
        "memory": 2 * GIB,
        "auto_restart_policy": null,
        "boot_disk": null,
        "cpu_platform": platform.into(),
    });
    let fields = body.as_object_mut().unwrap();
    fields.extend(changes.as_object().unwrap().clone());
    nexus.put(&format!("/v1/instances/{id}"), body).await
}

#[tokio::test]
async fn an_instance_shows_the_cpu_that_it_was_made_to_need() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for platform in PLATFORMS {
        let name = platform.replace('_', "-");
        let id = nexus.create_as(body(&name, false, platform)).await;
        let view = nexus.instance_view(&id).await;
        assert_eq!(view["cpu_platform"], platform);
    }
    let id = nexus.create_as(body("any", false, Value::Null)).await;
    assert_eq!(nexus.instance_view(&id).await["cpu_platform"], Value::Null);
    let id = nexus.create("silent", false).await;
    assert_eq!(nexus.instance_view(&id).await["cpu_platform"], Value::Null);

    let path = format!("/v1/instances?project={PROJECT}");
    let list = nexus.get(&path).await.expect(200);
    let listed: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| instance["cpu_platform"].clone())
        .collect();
    let [milan, turin, v2] = PLATFORMS.map(Value::from);
    assert_eq!(listed, [milan, turin, v2, Value::Null, Value::Null]);
}

#[tokio::test]
async fn the_cpu_changes_at_rest() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    for platform in [json!("amd_turin_v2"), json!("amd_milan"), json!(null)] {
        let before = nexus.instance_view(&id).await;
        let changed = update(&nexus, &id, platform.clone(), json!({})).await;
        let changed = changed.expect(200);
        assert_eq!(changed["cpu_platform"], platform);
        assert!(changed["view_gen"].as_u64() > before["view_gen"].as_u64());
        assert_ne!(changed["time_modified"], before["time_modified"]);
        assert_eq!(nexus.instance_view(&id).await, changed);
        // The same again is no change.
        let again = update(&nexus, &id, platform, json!({})).await;
        assert_eq!(again.expect(200), changed);
    }
}

#[tokio::test]
async fn the_cpu_does_not_change_under_a_guest() {
    let nexus = TestNexus::with(sled_of(SledCpu::AmdMilan)).await;
    let change = json!({ "cpu_platform": "amd_milan" });
    let (id, _) = nexus.running("db", change).await;
    nexus.settled(&id).await;
    let before = nexus.database.instance(&id);
    for platform in [json!("amd_turin"), json!(null)] {
        let refused = update(&nexus, &id, platform, json!({})).await;
        let message = refused.error(409, "Conflict");
        assert_eq!(
            message,
            "ncpus, memory, cpu_platform and boot_disk can be changed only \
             while the instance is stopped or failed: stop it first"
        );
    }
    assert_eq!(nexus.database.instance(&id), before);

    // It need not change for all else to.
    let never = json!({ "auto_restart_policy": "never" });
    let changed = update(&nexus, &id, "amd_milan", never).await.expect(200);
    assert_eq!(changed["auto_restart_policy"], "never");
    assert_eq!(changed["cpu_platform"], "amd_milan");

    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    update(&nexus, &id, "amd_turin", json!({})).await.expect(200);
}

#[tokio::test]
async fn a_cpu_that_there_is_not_is_refused_by_name_and_nothing_changes() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create_as(body("db", false, "amd_turin")).await;
    nexus.settled(&id).await;
    let before = nexus.database.instance(&id);
    let path = format!("/v1/instances?project={PROJECT}");
    for wrong in [
        json!("amd_rome"),
        json!("unknown"),
        json!("AMD_MILAN"),
        json!("amd-milan"),
        json!(""),
        json!(1),
        json!(["amd_milan"]),
    ] {
        let made = nexus.post(&path, body("new", false, wrong.clone())).await;
        let changed = update(&nexus, &id, wrong.clone(), json!({})).await;
        for refused in [made, changed] {
            let message = refused.error(400, "InvalidRequest");
            assert!(message.contains("cpu_platform"), "{wrong}: {message}");
        }
    }
    assert_eq!(nexus.database.instance(&id), before);
    let list = nexus.get(&path).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

// ---- Sleds ----

async fn cpu_of(nexus: &Client, sled: &str) -> Value {
    let path = format!("/v1/system/hardware/sleds/{sled}");
    nexus.get(&path).await.expect(200)["cpu"].clone()
}

#[tokio::test]
async fn a_sled_has_the_cpu_that_its_agent_says() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    for cpu in [SledCpu::AmdMilan, SledCpu::AmdTurin] {
        let settings = AgentSettings { cpu, ..AgentSettings::default() };
        nexus.add_sled(&settings).await;
    }
    let [unknown, milan, turin] = &nexus.agents[..] else { unreachable!() };
    assert_eq!(cpu_of(&nexus, &unknown.id).await, "unknown");
    assert_eq!(cpu_of(&nexus, &milan.id).await, "amd_milan");
    assert_eq!(cpu_of(&nexus, &turin.id).await, "amd_turin");
    let list = nexus.get("/v1/system/hardware/sleds").await.expect(200);
    let turins = list["items"].as_array().unwrap();
    let turins = turins.iter().filter(|sled| sled["cpu"] == "amd_turin");
    assert_eq!(turins.count(), 1);
}

#[tokio::test]
async fn a_sled_with_another_cpu_is_known_by_it_once_its_agent_is_back() {
    let mut nexus = TestNexus::with(sled_of(SledCpu::AmdMilan)).await;
    let sled = nexus.agents[0].id.clone();
    for cpu in [SledCpu::AmdTurin, SledCpu::Unknown, SledCpu::AmdMilan] {
        nexus.agents[0].change_cpu(cpu);
        nexus.agents[0].kill().await;
        nexus.agents[0].restart().await;
        eventually("the sled has the other CPU", async || {
            (cpu_of(&nexus, &sled).await == cpu.as_str()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_agent_that_says_nothing_of_its_cpu_is_taken_and_not_what_is_wrong()
{
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let sled = Uuid::new_v4().to_string();
    let (path, beat) =
        (format!("/sleds/{sled}"), format!("/sleds/{sled}/heartbeat"));
    let inside = nexus.process.internal_client();
    // As agents of before said it.
    let silent = json!({
        "address": "127.0.0.1:9",
        "serial": "s",
        "part": "p",
        "revision": 1,
        "vcpus": 4,
        "memory_bytes": 8 * GIB,
        "storage_bytes": GIB,
        "incarnation": Uuid::new_v4(),
    });
    inside.put(&path, silent.clone()).await.expect(200);
    assert_eq!(cpu_of(&nexus, &sled).await, "unknown");
    let mut said = silent.clone();
    for cpu in ["amd_turin", "amd_milan", "unknown", "amd_milan"] {
        said["cpu"] = cpu.into();
        inside.post(&beat, said.clone()).await.expect(200);
        assert_eq!(cpu_of(&nexus, &sled).await, cpu);
    }
    for wrong in [json!("amd_turin_v2"), json!(""), json!(null), json!(1)] {
        said["cpu"] = wrong.clone();
        for refused in [
            inside.put(&path, said.clone()).await,
            inside.post(&beat, said.clone()).await,
        ] {
            let message = refused.error(400, "InvalidRequest");
            assert!(message.contains("cpu"), "{wrong}: {message}");
        }
    }
    assert_eq!(cpu_of(&nexus, &sled).await, "amd_milan");
    inside.post(&beat, silent).await.expect(200);
    assert_eq!(cpu_of(&nexus, &sled).await, "unknown");
}
