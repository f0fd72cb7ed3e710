//! Local disks: allocated with the place, and bound to it from then on.

use super::*;

/// An instance with a new local disk of so many GiB for each name.
async fn with_disks(
    nexus: &TestNexus,
    name: &str,
    disks: &[(&str, u64)],
    start: bool,
) -> String {
    let mut body = Client::instance(name, start);
    body["ncpus"] = 1.into();
    body["memory"] = GIB.into();
    let disks: Vec<Value> = disks
        .iter()
        .map(|(name, gib)| {
            json!({
                "type": "create",
                "name": name,
                "description": "",
                "size": gib * GIB,
                "disk_backend": { "type": "local" },
            })
        })
        .collect();
    body["disks"] = disks.into();
    nexus.create_as(body).await
}

/// Where a disk's blocks are.
fn sled_of_disk(nexus: &TestNexus, name: &str) -> Option<String> {
    let at = nexus.database.texts(&format!(
        "SELECT COALESCE(sled_id::TEXT, '') FROM disk WHERE name = '{name}'"
    ));
    at.into_iter().next().filter(|sled| !sled.is_empty())
}

#[tokio::test]
async fn a_disk_is_allocated_where_its_instance_first_runs_and_keeps_it_there()
{
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    let id = with_disks(&nexus, "db", &[("data", 30)], false).await;
    assert_eq!(sled_of_disk(&nexus, "data"), None);
    start(&nexus, &id).await;
    nexus.wait(&id, is("running")).await;
    let sled = sled_of(&nexus, &id);
    assert_eq!(sled_of_disk(&nexus, "data"), Some(sled.clone()));
    stop(&nexus, &id).await;
    assert_eq!(sled_of_disk(&nexus, "data"), Some(sled.clone()));
    nexus.check_invariants().await;

    nexus.set_provision_policy(&sled, "non_provisionable").await;
    start(&nexus, &id).await;
    let failure = fails_as(&nexus, &id, "local_storage").await;
    assert_eq!(failure["transient"], true);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("Its local disk \"data\" is on a host"));
    assert_eq!(failure["details"]["disks"][0]["name"], "data");
    put_off_retries(&nexus);
    nexus.set_provision_policy(&sled, "provisionable").await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(sled_of(&nexus, &id), sled);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn storage_is_never_exceeded_and_what_did_not_fit_is_said() {
    // 100 GiB of storage on each of two sleds.
    let nexus = TestNexus::with(fleet(2, 64, 64)).await;
    let mut ids = Vec::new();
    for n in 0..12 {
        let disk = format!("disk-{n}");
        let name = format!("db-{n}");
        ids.push(with_disks(&nexus, &name, &[(&disk, 30)], false).await);
    }
    start_all(&nexus, &ids).await;
    let running = those_that_run(&nexus, &ids).await;
    assert_eq!(running.len(), 6);
    let waiting = ids.iter().find(|id| !running.contains(id)).unwrap();
    let failure = fails_as(&nexus, waiting, "local_storage").await;
    let details = &failure["details"];
    assert_eq!(details["requested_storage"], 30 * GIB);
    assert_eq!(details["best_sled"]["short_storage"], 20 * GIB);
    assert_eq!(details["excluded"]["storage"], 2);
    nexus.check_invariants().await;

    // What ran keeps its disk when it stops; the disk's end makes room.
    put_off_retries(&nexus);
    stop(&nexus, &running[0]).await;
    nexus.delete_instance(&running[0]).await.expect(204);
    let of = nexus.database.texts(&format!(
        "SELECT name FROM disk WHERE size_bytes = {} \
             AND instance_id IS NULL AND sled_id IS NOT NULL",
        30 * GIB
    ));
    let path = format!("/v1/disks/{}?project=demo", of[0]);
    nexus.delete(&path).await.expect(204);
    eventually("another runs", async || {
        (count(&views(&nexus, "db").await, "running") == 6).then_some(())
    })
    .await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_a_start_allocated_that_came_to_nothing_is_given_back() {
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    nexus.fault_all("register", 100, json!({ "reject": "No." })).await;
    let id = with_disks(&nexus, "db", &[("data", 30)], true).await;
    fails_as(&nexus, &id, "host_rejected").await;
    nexus.ask(&id, "stop").await.expect(202);
    assert_eq!(sled_of_disk(&nexus, "data"), None);
    nexus.clear_all_faults().await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn disks_on_two_sleds_cannot_be_had_at_once() {
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        let away = &nexus.agents[n].id;
        nexus.set_provision_policy(away, "non_provisionable").await;
        let disk = format!("disk-{name}");
        let id = with_disks(&nexus, name, &[(&disk, 1)], true).await;
        nexus.wait(&id, is("running")).await;
        stop(&nexus, &id).await;
        nexus.set_provision_policy(away, "provisionable").await;
        let path = format!("/v1/instances/{id}/disks/detach?project=demo");
        nexus.post(&path, json!({ "disk": disk })).await.expect(202);
    }
    let mut body = Client::instance("torn", true);
    body["disks"] = json!([
        { "type": "attach", "name": "disk-a" },
        { "type": "attach", "name": "disk-b" },
    ]);
    let id = nexus.create_as(body).await;
    let failure = fails_as(&nexus, &id, "local_storage").await;
    assert_eq!(failure["transient"], false);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("are on different hosts"), "{message}");
    nexus.rests_failed(&id).await;
    let path = format!("/v1/instances/{id}/disks/detach?project=demo");
    nexus.post(&path, json!({ "disk": "disk-a" })).await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(Some(sled_of(&nexus, &id)), sled_of_disk(&nexus, "disk-b"));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_disk_that_went_with_its_sled_is_named() {
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    let id = with_disks(&nexus, "db", &[("data", 1)], true).await;
    nexus.wait(&id, is("running")).await;
    let sled = sled_of(&nexus, &id);
    stop(&nexus, &id).await;
    nexus.expunge(&sled).await.expect(204);
    start(&nexus, &id).await;
    let failure = fails_as(&nexus, &id, "local_storage").await;
    assert_eq!(failure["transient"], false);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("is gone for good"), "{message}");
    nexus.check_invariants().await;
}
