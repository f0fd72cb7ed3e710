//! CPU platforms: only where the CPU has what is asked for.

use super::*;
use db_model::SledCpu;

fn with_cpu(cpu: SledCpu) -> AgentSettings {
    AgentSettings { cpu, ..AgentSettings::sized(8, 16) }
}

async fn needing(nexus: &TestNexus, name: &str, platform: &str) -> String {
    let mut body = Client::instance(name, true);
    body["cpu_platform"] = platform.into();
    nexus.create_as(body).await
}

#[tokio::test]
async fn it_waits_for_a_sled_with_such_a_cpu_and_lands_there_when_one_joins() {
    let mut nexus = TestNexus::with(fleet(1, 8, 16)).await;
    let id = needing(&nexus, "turin", "amd_turin_v2").await;
    let failure = fails_as(&nexus, &id, "cpu_platform").await;
    assert_eq!(failure["transient"], false);
    assert_eq!(failure["details"]["requested_cpu_platform"], "amd_turin_v2");
    assert_eq!(failure["details"]["excluded"]["cpu_platform"], 1);
    nexus.rests_failed(&id).await;
    // Milan is of the same lineage, and older.
    nexus.add_sled(&with_cpu(SledCpu::AmdMilan)).await;
    assert_eq!(nexus.instance_view(&id).await["run_state"], "failed");
    let turin = nexus.add_sled(&with_cpu(SledCpu::AmdTurin)).await.id.clone();
    nexus.wait(&id, is("running")).await;
    assert_eq!(sled_of(&nexus, &id), turin);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_older_platform_runs_on_newer_cpus_and_any_on_any() {
    let mut nexus = TestNexus::with(fleet(1, 8, 16)).await;
    let turin = nexus.add_sled(&with_cpu(SledCpu::AmdTurin)).await.id.clone();
    for name in ["a", "b", "c"] {
        let id = needing(&nexus, name, "amd_milan").await;
        nexus.wait(&id, is("running")).await;
        assert_eq!(sled_of(&nexus, &id), turin);
    }
    nexus.running("any", json!({})).await;
    nexus.check_invariants().await;
}
