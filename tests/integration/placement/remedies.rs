//! Remedies: whatever is offered is made, as a user would, and the instance
//! then runs.

use super::*;
use db_model::SledCpu;

/// Makes a change, as whoever reads of it would.
async fn make_change(nexus: &TestNexus, id: &str, change: &Value) {
    let text = |field: &str| change[field].as_str().unwrap().to_string();
    match change["type"].as_str().unwrap() {
        "resize" => {
            let view = nexus.instance_view(id).await;
            let platform = view["cpu_platform"].clone();
            let (ncpus, memory) = (&change["ncpus"], &change["memory"]);
            update(nexus, id, ncpus, memory, platform).await;
        }
        "any_cpu_platform" => {
            let view = nexus.instance_view(id).await;
            let (ncpus, memory) = (&view["ncpus"], &view["memory"]);
            update(nexus, id, ncpus, memory, Value::Null).await;
        }
        "leave_group" => {
            let kind = text("kind").replace('_', "-");
            leave(nexus, &kind, &text("id"), id).await;
        }
        "detach_disk" => {
            let path = format!("/v1/instances/{id}/disks/detach");
            let body = json!({ "disk": text("id") });
            nexus.post(&path, body).await.expect(202);
        }
        "stop_instance" => stop(nexus, &text("id")).await,
        "raise_quota" => {
            let field = match change["resource"].as_str().unwrap() {
                "vcpus" => "cpus",
                other => other,
            };
            let me = nexus.get("/v1/me").await.expect(200);
            let silo = me["silo_id"].as_str().unwrap();
            let path = format!("/v1/system/silos/{silo}/quotas");
            let body = json!({ field: change["to"] });
            nexus.put(&path, body).await.expect(200);
        }
        other => unreachable!("{other}"),
    }
}

async fn update(
    nexus: &TestNexus,
    id: &str,
    ncpus: &Value,
    memory: &Value,
    platform: Value,
) {
    let body = json!({
        "ncpus": ncpus,
        "memory": memory,
        "auto_restart_policy": null,
        "boot_disk": null,
        "cpu_platform": platform,
    });
    let path = format!("/v1/instances/{id}");
    // Another change may have led to a retry, which must have failed first.
    eventually("it is taken", async || {
        let answer = nexus.put(&path, body.clone()).await;
        (answer.status != 409).then(|| answer.expect(200))
    })
    .await;
}

/// For each remedy that a failed start in such a fleet is offered, the fleet is
/// made anew, and the remedy applied. The kinds of changes that were made.
async fn each_helps(
    setup: impl Fn() -> Setup,
    scene: impl AsyncFn(&TestNexus) -> String,
    kind: &str,
) -> Vec<Vec<String>> {
    let mut made: Vec<Vec<String>> = Vec::new();
    loop {
        let nexus = TestNexus::with(setup()).await;
        let id = scene(&nexus).await;
        let failure = fails_as(&nexus, &id, kind).await;
        let remedies = failure["details"]["remedies"].as_array().unwrap();
        let mut not_to_wait =
            remedies.iter().filter(|r| r["changes"][0]["type"] != "wait");
        let Some(remedy) = not_to_wait.nth(made.len()) else {
            assert!(!made.is_empty(), "{failure:#}");
            return made;
        };
        put_off_retries(&nexus);
        let changes = remedy["changes"].as_array().unwrap();
        for change in changes {
            make_change(&nexus, &id, change).await;
        }
        // A retry comes by itself, but for what nobody could tell it by.
        nexus.wait(&id, is("running")).await;
        nexus.check_invariants().await;
        let types = changes.iter().map(|c| c["type"].as_str().unwrap());
        made.push(types.map(str::to_string).collect());
    }
}

/// One sled of 8 vCPUs and 16 GiB.
fn small() -> Setup {
    fleet(1, 8, 16)
}

#[tokio::test]
async fn for_want_of_room_it_is_shrunk_or_others_are_stopped() {
    let scene = async |nexus: &TestNexus| {
        for n in 0..3 {
            let id = make(nexus, format!("own-{n}"), 2, 4).await;
            start(nexus, &id).await;
            nexus.wait(&id, is("running")).await;
        }
        nexus.create_sized("large", 5, 4).await
    };
    let made = each_helps(small, scene, "insufficient_capacity").await;
    assert_eq!(made, [vec!["resize"], vec!["stop_instance", "stop_instance"]]);
}

#[tokio::test]
async fn where_a_group_is_in_the_way_it_is_left_or_a_member_stopped() {
    let scene = async |nexus: &TestNexus| {
        let web = group(nexus, APART, "web", "fail").await;
        let ids = members(nexus, APART, &web, "web", 2).await;
        start(nexus, &ids[0]).await;
        nexus.wait(&ids[0], is("running")).await;
        start(nexus, &ids[1]).await;
        ids[1].clone()
    };
    let made = each_helps(small, scene, "anti_affinity").await;
    assert_eq!(made, [vec!["leave_group"], vec!["stop_instance"]]);
}

#[tokio::test]
async fn where_groups_contradict_each_other_one_of_them_is_left() {
    let scene = async |nexus: &TestNexus| {
        let db = group(nexus, TOGETHER, "db", "fail").await;
        let web = group(nexus, APART, "web", "fail").await;
        let ids = members(nexus, TOGETHER, &db, "both", 2).await;
        for id in &ids {
            join(nexus, APART, &web, id).await;
        }
        start(nexus, &ids[0]).await;
        nexus.wait(&ids[0], is("running")).await;
        start(nexus, &ids[1]).await;
        ids[1].clone()
    };
    let two = || fleet(2, 8, 16);
    let made = each_helps(two, scene, "affinity_conflict").await;
    assert_eq!(made, [vec!["leave_group"], vec!["stop_instance"]]);
}

#[tokio::test]
async fn beyond_the_quota_it_is_raised_or_less_is_asked_for() {
    let scene = async |nexus: &TestNexus| {
        let me = nexus.get("/v1/me").await.expect(200);
        let silo = me["silo_id"].as_str().unwrap();
        let path = format!("/v1/system/silos/{silo}/quotas");
        let body = json!({ "cpus": 4 });
        nexus.put(&path, body).await.expect(200);
        nexus.running("first", json!({})).await;
        nexus.create_sized("second", 4, 4).await
    };
    let made = each_helps(small, scene, "quota_exceeded").await;
    let expected = [vec!["raise_quota"], vec!["resize"], vec!["stop_instance"]];
    assert_eq!(made, expected);
}

#[tokio::test]
async fn without_such_a_cpu_any_will_do() {
    let scene = async |nexus: &TestNexus| {
        let mut body = Client::instance("turin", true);
        body["cpu_platform"] = "amd_turin".into();
        nexus.create_as(body).await
    };
    let milan = || {
        let mut setup = small();
        setup.agent.cpu = SledCpu::AmdMilan;
        setup
    };
    let made = each_helps(milan, scene, "cpu_platform").await;
    assert_eq!(made, [vec!["any_cpu_platform"]]);
}

#[tokio::test]
async fn disks_that_fit_nowhere_are_detached() {
    let scene = async |nexus: &TestNexus| {
        let mut body = Client::instance("db", true);
        let disk = |name: &str, gib: u64| {
            json!({
                "type": "create",
                "name": name,
                "description": "",
                "size": gib * GIB,
                "disk_backend": { "type": "local" },
            })
        };
        body["disks"] = json!([disk("large", 90), disk("small", 20)]);
        nexus.create_as(body).await
    };
    let made = each_helps(small, scene, "local_storage").await;
    assert_eq!(made, [vec!["detach_disk"]]);
}

#[tokio::test]
async fn what_needs_two_changes_is_offered_both() {
    let scene = async |nexus: &TestNexus| {
        let web = group(nexus, APART, "web", "fail").await;
        let ids = members(nexus, APART, &web, "web", 1).await;
        start(nexus, &ids[0]).await;
        nexus.wait(&ids[0], is("running")).await;
        let mut body = Client::instance("large", true);
        body["ncpus"] = 9.into();
        body["anti_affinity_groups"] = json!(["web"]);
        nexus.create_as(body).await
    };
    let made = each_helps(small, scene, "anti_affinity").await;
    assert!(
        made.contains(&vec!["leave_group".to_string(), "resize".to_string()])
    );
}

#[tokio::test]
async fn only_the_users_own_instances_are_offered_to_be_stopped() {
    let nexus = TestNexus::with(small()).await;
    let tenant = nexus.other_silo("tenant").await;
    let body = json!({ "name": "theirs", "description": "" });
    tenant.post("/v1/projects", body).await.expect(201);
    let mut body = Client::instance("theirs", true);
    body["ncpus"] = 8.into();
    let path = "/v1/instances?project=theirs";
    let view = tenant.post(path, body).await.expect(201);
    tenant.wait(view["id"].as_str().unwrap(), is("running")).await;
    let id = nexus.create_sized("ours", 8, 1).await;
    let failure = fails_as(&nexus, &id, "insufficient_capacity").await;
    let remedies = failure["details"]["remedies"].as_array().unwrap();
    let said: Vec<&Value> = remedies.iter().map(|r| &r["message"]).collect();
    assert_eq!(said, ["Wait until a host has room for it."]);
    nexus.check_invariants().await;
}
