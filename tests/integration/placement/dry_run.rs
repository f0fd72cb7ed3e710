//! Dry runs: the answer of the start that would follow, and nothing reserved.

use super::*;

/// Would it start now?
async fn asked(nexus: &Client, id: &str) -> Value {
    nexus.get(&format!("/v1/instances/{id}/placement")).await.expect(200)
}

async fn checked(nexus: &Client, body: Value) -> Value {
    let path = "/v1/placement/check?project=demo";
    nexus.post(path, body).await.expect(200)
}

/// All that a dry run must leave alone.
fn rows(nexus: &TestNexus) -> Vec<String> {
    nexus.database.texts(
        "SELECT 'sled ' || id || ' ' || reserved_vcpus || ' ' \
             || reserved_memory_bytes || ' ' || reserved_storage_bytes \
         FROM sled \
         UNION SELECT 'quota ' || used_vcpus FROM silo_quota \
         UNION SELECT 'instance ' || id || ' ' || state_gen FROM instance \
         UNION SELECT 'attempt ' || id FROM start_attempt \
         UNION SELECT 'disk ' || id FROM disk \
         UNION SELECT 'group ' || id FROM affinity_group \
         ORDER BY 1",
    )
}

#[tokio::test]
async fn a_dry_run_answers_what_the_start_that_follows_does() {
    let nexus = TestNexus::with(fleet(1, 8, 64)).await;
    let web = group(&nexus, APART, "web", "fail").await;
    let ids = members(&nexus, APART, &web, "web", 2).await;
    for (n, starts) in [(0, true), (1, false)] {
        let before = rows(&nexus);
        let answer = asked(&nexus, &ids[n]).await;
        assert_eq!(answer["would_start"], starts, "{answer:#}");
        assert_eq!(rows(&nexus), before);
        start(&nexus, &ids[n]).await;
        if starts {
            assert_eq!(answer["failure"], Value::Null);
            nexus.wait(&ids[n], is("running")).await;
            continue;
        }
        let failure = fails_as(&nexus, &ids[n], "anti_affinity").await;
        for field in ["kind", "message", "transient", "details"] {
            assert_eq!(answer["failure"][field], failure[field], "{field}");
        }
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_asked_about_as_it_would_be_made() {
    let nexus = TestNexus::with(fleet(1, 8, 64)).await;
    let web = group(&nexus, APART, "web", "fail").await;
    let ids = members(&nexus, APART, &web, "web", 1).await;
    start(&nexus, &ids[0]).await;
    nexus.wait(&ids[0], is("running")).await;
    let before = rows(&nexus);

    let fits = Client::instance("new", true);
    let answer = checked(&nexus, fits.clone()).await;
    assert_eq!(answer, json!({ "would_start": true, "failure": null }));
    for (field, value, kind) in [
        ("ncpus", json!(8), "insufficient_capacity"),
        ("anti_affinity_groups", json!(["web"]), "anti_affinity"),
        ("cpu_platform", json!("amd_milan"), "cpu_platform"),
    ] {
        let mut body = fits.clone();
        body[field] = value;
        let answer = checked(&nexus, body.clone()).await;
        assert_eq!(answer["would_start"], false);
        assert_eq!(answer["failure"]["kind"], kind, "{answer:#}");
        assert_eq!(rows(&nexus), before);
    }
    let mut body = fits.clone();
    body["anti_affinity_groups"] = json!(["web"]);
    let answer = checked(&nexus, body.clone()).await;
    let id = nexus.create_as(body).await;
    let failure = fails_as(&nexus, &id, "anti_affinity").await;
    assert_eq!(answer["failure"]["message"], failure["message"]);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_create_refuses_the_check_refuses() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let path = "/v1/placement/check?project=demo";
    let mut body = Client::instance("new", true);
    body["ncpus"] = 0.into();
    let message = nexus.post(path, body).await.error(400, "InvalidValue");
    assert!(message.contains("ncpus"), "{message}");
    let mut body = Client::instance("new", true);
    body["anti_affinity_groups"] = json!(["nope"]);
    let message = nexus.post(path, body).await.error(404, "ObjectNotFound");
    assert!(message.contains("\"nope\""), "{message}");
    let body = Client::instance("new", true);
    let path = "/v1/placement/check?project=nope";
    nexus.post(path, body).await.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn what_runs_is_asked_about_as_if_it_did_not() {
    let nexus = TestNexus::with(fleet(1, 8, 64)).await;
    let id = nexus.create_sized("large", 8, 64).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(asked(&nexus, &id).await["would_start"], true);
    nexus.set_provision_policy(&nexus.agents[0].id, "non_provisionable").await;
    let answer = asked(&nexus, &id).await;
    assert_eq!(answer["failure"]["kind"], "no_sled_in_service");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn counts_of_sleds_are_told_unless_the_operator_keeps_them() {
    for told in [true, false] {
        let mut setup = fleet(1, 8, 64);
        setup.tuning.placement_detail = told;
        let nexus = TestNexus::with(setup).await;
        let id = nexus.create_sized("large", 9, 1).await;
        let failure = fails_as(&nexus, &id, "insufficient_capacity").await;
        let attempt = nexus.attempts(&id).await.remove(0);
        let list = nexus.get("/v1/start-failures?project=demo").await;
        let listed = list.expect(200)["items"][0]["start_failure"].clone();
        let dry = asked(&nexus, &id).await["failure"].clone();
        let checked = {
            let mut body = Client::instance("other", true);
            body["ncpus"] = 9.into();
            checked(&nexus, body).await["failure"].clone()
        };
        for said in [&failure, &attempt["failure"], &listed, &dry, &checked] {
            let details = &said["details"];
            assert_eq!(details["sleds_considered"] == 1, told, "{said:#}");
            assert_eq!(details["excluded"].is_object(), told, "{said:#}");
            assert_eq!(details["best_sled"]["short_vcpus"], 1);
        }
    }
}
