//! Quotas: charged with the place, and told when they do not suffice.

use super::*;

/// The silo's quota is to be so much: vCPUs, and GiB.
async fn set_quota(nexus: &TestNexus, vcpus: u64, gib: u64, storage: u64) {
    let body = json!({
        "cpus": vcpus,
        "memory": gib * GIB,
        "storage": storage * GIB,
    });
    let silo = nexus.get("/v1/me").await.expect(200)["silo_id"].clone();
    let path = format!("/v1/system/silos/{}/quotas", silo.as_str().unwrap());
    nexus.put(&path, body).await.expect(200);
}

async fn used(nexus: &TestNexus) -> Value {
    nexus.get("/v1/utilization").await.expect(200)["provisioned"].clone()
}

#[tokio::test]
async fn a_start_beyond_the_quota_says_limit_use_and_request_and_makes_no_vmm()
{
    let nexus = TestNexus::with(fleet(1, 64, 64)).await;
    set_quota(&nexus, 4, 8, 0).await;
    let (_, _) = nexus.running("first", json!({})).await;
    let before = used(&nexus).await;
    assert_eq!(before, json!({ "cpus": 2, "memory": 2 * GIB, "storage": 0 }));
    let id = nexus.create_sized("second", 3, 8).await;
    let failure = fails_as(&nexus, &id, "quota_exceeded").await;
    assert_eq!(failure["transient"], false);
    assert_eq!(
        failure["details"]["quota"],
        json!({
            "vcpus": { "limit": 4, "used": 2, "requested": 3 },
            "memory": {
                "limit": 8 * GIB,
                "used": 2 * GIB,
                "requested": 8 * GIB,
            },
            "storage": null,
        }),
    );
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("3 vCPUs (2 of 4 are in use)"), "{message}");
    assert_eq!(nexus.live_vmms(&id).await, Vec::<Value>::new());
    assert_eq!(used(&nexus).await, before);

    // It is not tried again before the quota is raised; then it is.
    nexus.rests_failed(&id).await;
    set_quota(&nexus, 5, 10, 0).await;
    nexus.wait(&id, is("running")).await;
    let after = used(&nexus).await;
    assert_eq!(after, json!({ "cpus": 5, "memory": 10 * GIB, "storage": 0 }));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_a_stop_gives_back_of_the_quota_lets_those_start_that_waited() {
    let nexus = TestNexus::with(fleet(2, 64, 64)).await;
    set_quota(&nexus, 4, 64, 0).await;
    let first = nexus.create_sized("first", 4, 1).await;
    nexus.wait(&first, is("running")).await;
    let mut waiting = Vec::new();
    for n in 0..6 {
        let id = make(&nexus, format!("waiting-{n}"), 1, 1).await;
        start(&nexus, &id).await;
        fails_as(&nexus, &id, "quota_exceeded").await;
        nexus.rests_failed(&id).await;
        waiting.push(id);
    }
    stop(&nexus, &first).await;
    eventually("four of them run", async || {
        (count(&views(&nexus, "waiting").await, "running") == 4).then_some(())
    })
    .await;
    assert_eq!(used(&nexus).await["cpus"], 4);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn however_many_start_at_once_the_quota_is_not_exceeded() {
    let nexus = TestNexus::with(fleet(4, 64, 64)).await;
    set_quota(&nexus, 10, 1000, 0).await;
    let made = (0..32).map(|n| make(&nexus, format!("other-{n}"), 1, 1));
    let made = futures::future::join_all(made).await;
    start_all(&nexus, &made).await;
    assert_eq!(those_that_run(&nexus, &made).await.len(), 10);
    assert_eq!(used(&nexus).await["cpus"], 10);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_quota_of_one_silo_is_no_concern_of_anothers() {
    let nexus = TestNexus::with(fleet(1, 64, 64)).await;
    set_quota(&nexus, 0, 0, 0).await;
    let id = make(&nexus, "none".to_string(), 1, 1).await;
    start(&nexus, &id).await;
    fails_as(&nexus, &id, "quota_exceeded").await;
    let tenant = nexus.other_silo("tenant").await;
    let path = "/v1/projects";
    let body = json!({ "name": "theirs", "description": "" });
    tenant.post(path, body).await.expect(201);
    let body = Client::instance("theirs", true);
    let path = "/v1/instances?project=theirs";
    let view = tenant.post(path, body).await.expect(201);
    tenant.wait(view["id"].as_str().unwrap(), is("running")).await;
    nexus.check_invariants().await;
}
