//! Requests with an `Idempotency-Key`: done once, and answered alike, whoever
//! is asked and whoever dies.

use futures::future::join_all;
use harness::{Answer, Client, Setup, TestNexus, eventually, is};
use nexus::saga::instance_create::InstanceCreate;
use reqwest::Method;
use serde_json::{Value, json};

const INSTANCES: &str = "/v1/instances?project=demo";
const KEYS: &str = "SELECT count(*) FROM idempotency_key";

async fn create(client: &Client, key: &str, body: &Value) -> Answer {
    let headers = [("idempotency-key", key)];
    let body = body.to_string();
    client.send(Method::POST, INSTANCES, &headers, &body).await
}

async fn start(client: &Client, key: &str, id: &str) -> Answer {
    let path = format!("/v1/instances/{id}/start");
    client.send(Method::POST, &path, &[("idempotency-key", key)], "").await
}

fn instances(nexus: &TestNexus) -> i64 {
    nexus.database.count("SELECT count(*) FROM instance")
}

/// Whoever was to keep the answers died before.
fn forget_answers(nexus: &TestNexus) {
    nexus.sql("UPDATE idempotency_key SET answer = NULL");
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_was_and_does_nothing() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let body = Client::instance("db", true);
    let first = create(&nexus, "k", &body).await.expect(201);
    let id = first["id"].as_str().unwrap();
    nexus.wait(id, is("running")).await;
    // The fields come in another order, and with room between them.
    let mut lines: Vec<String> = Vec::new();
    for (name, value) in body.as_object().unwrap() {
        lines.insert(0, format!("\"{name}\" : {value}"));
    }
    let shuffled = format!("{{ {} }}", lines.join(" ,\n"));
    let headers = [("idempotency-key", "k")];
    let again = nexus.send(Method::POST, INSTANCES, &headers, &shuffled).await;
    assert_eq!(again.expect(201), first);
    assert_eq!(create(&nexus, "k", &body).await.expect(201), first);
    assert_eq!(instances(&nexus), 1);

    let stopped = async || {
        nexus.ask(id, "stop").await.expect(202);
        nexus.wait(id, is("stopped")).await;
    };
    stopped().await;
    let started = start(&nexus, "s", id).await.expect(202);
    assert_eq!(started["intended_state"], "running");
    nexus.wait(id, is("running")).await;
    stopped().await;
    assert_eq!(start(&nexus, "s", id).await.expect(202), started);
    assert_eq!(nexus.instance_view(id).await["run_state"], "stopped");
    assert_eq!(nexus.attempts(id).await.len(), 2);
}

#[tokio::test]
async fn a_key_is_for_one_request_of_one_user() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let body = Client::instance("db", false);
    let first = create(&nexus, "k", &body).await.expect(201);
    let other = Client::instance("other", false);
    let message = create(&nexus, "k", &other).await.error(409, "Conflict");
    assert!(message.starts_with("idempotency-key: "), "{message}");
    let id = first["id"].as_str().unwrap();
    start(&nexus, "k", id).await.error(409, "Conflict");
    assert_eq!(nexus.instance_view(id).await["run_state"], "stopped");

    let token = nexus.process.bootstrap("main", "second", false).await;
    let second = nexus.with_token(&token.0);
    create(&second, "k", &other).await.expect(201);
    assert_eq!(instances(&nexus), 2);
    let shown = nexus.database.row("SELECT key_hash FROM idempotency_key");
    assert_ne!(shown["key_hash"], "k");
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let body = Client::instance("db", false);
    for key in ["", &"k".repeat(256)] {
        let message =
            create(&nexus, key, &body).await.error(400, "InvalidValue");
        assert!(message.starts_with("idempotency-key: "), "{message}");
    }
    create(&nexus, &"k".repeat(255), &body).await.expect(201);
}

#[tokio::test]
async fn of_many_at_once_at_two_nexuses_one_is_done() {
    let setup = Setup { other_nexuses: 1, ..Setup::no_sled() };
    let nexus = TestNexus::with(setup).await;
    let (here, there) = (nexus.admin.clone(), nexus.at_other(0));
    let body = Client::instance("db", false);
    let asked = (0..4).flat_map(|_| [&here, &there]);
    let answers = join_all(asked.map(|c| create(c, "k", &body))).await;
    let views: Vec<_> = answers.into_iter().map(|a| a.expect(201)).collect();
    assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
    assert_eq!(instances(&nexus), 1);

    let id = views[0]["id"].as_str().unwrap();
    let asked = (0..4).flat_map(|_| [&here, &there]);
    let answers = join_all(asked.map(|c| start(c, "s", id))).await;
    let views: Vec<_> = answers.into_iter().map(|a| a.expect(202)).collect();
    assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
}

#[tokio::test]
async fn what_nobody_was_told_of_is_told_to_who_asks_again() {
    let setup = Setup { other_nexuses: 1, ..Setup::one_sled() };
    let nexus = TestNexus::with(setup).await;
    let body = Client::instance("db", true);
    let first = create(&nexus, "k", &body).await.expect(201);
    let id = first["id"].as_str().unwrap();
    nexus.wait(id, is("running")).await;
    start(&nexus, "s", id).await.expect(202);
    forget_answers(&nexus);
    let other = nexus.at_other(0);
    let again = create(&other, "k", &body).await.expect(201);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["run_state"], "running", "as it is by now");
    nexus.ask(id, "stop").await.expect(202);
    nexus.wait(id, is("stopped")).await;
    assert_eq!(create(&nexus, "k", &body).await.expect(201), again);
    assert_eq!(start(&other, "s", id).await.expect(202)["id"], first["id"]);
    assert_eq!(nexus.instance_view(id).await["run_state"], "stopped");
    assert_eq!(instances(&nexus), 1);
}

#[tokio::test]
async fn a_create_goes_on_under_its_key_though_nexus_is_killed() {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    for (n, node) in ["will_insert", "insert", "finish"].iter().enumerate() {
        let mut gate = nexus.database.gate::<InstanceCreate>(node, "started");
        let (client, key) = (nexus.admin.clone(), format!("k{n}"));
        let body = Client::instance(&format!("db-{n}"), false);
        let unheard = {
            let (key, body) = (key.clone(), body.clone());
            tokio::spawn(async move {
                let headers = [("idempotency-key", key.as_str())];
                let body = body.to_string();
                client.try_send(Method::POST, INSTANCES, &headers, &body).await
            })
        };
        gate.reached_by(1).await;
        nexus.kill_nexus().await;
        gate.lift();
        assert!(unheard.await.unwrap().is_err());
        nexus.restart_nexus().await;
        let id = eventually("it is made", async || {
            let answer = create(&nexus, &key, &body).await;
            // While nobody knows what became of the first.
            (answer.status != 503).then(|| answer.expect(201)["id"].clone())
        })
        .await;
        let again = create(&nexus, &key, &body).await.expect(201);
        assert_eq!(again["id"], id, "killed before {node}");
        let path = format!("/v1/instances/db-{n}?project=demo");
        assert_eq!(nexus.get(&path).await.expect(200)["id"], id);
    }
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let body = Client::instance("db", true);
    let id = nexus.create_as(body.clone()).await;
    create(&nexus, "k", &body).await.error(400, "ObjectAlreadyExists");
    nexus.wait(&id, is("running")).await;
    nexus.fault_all("state", 1000, json!({ "hang": true })).await;
    nexus.ask(&id, "stop").await.expect(202);
    start(&nexus, "s", &id).await.error(409, "Conflict");
    nexus.clear_all_faults().await;
    nexus.wait(&id, is("stopped")).await;
    assert_eq!(nexus.database.count(KEYS), 0);
    start(&nexus, "s", &id).await.expect(202);
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.delete_instance(&id).await.expect(204);
    create(&nexus, "k", &body).await.expect(201);
    assert_eq!(nexus.database.count(KEYS), 2);
}

#[tokio::test]
async fn a_key_counts_for_a_day_and_is_forgotten() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let body = Client::instance("db", false);
    let age = |hours: u32| {
        nexus.sql(&format!(
            "UPDATE idempotency_key \
             SET time_created = now() - INTERVAL '{hours} hours'"
        ));
    };
    let first = create(&nexus, "k", &body).await.expect(201);
    let store = nexus.database.datastore();
    age(23);
    store.idempotency_keys_prune(None).await.unwrap();
    assert_eq!(create(&nexus, "k", &body).await.expect(201), first);
    age(25);
    create(&nexus, "k", &body).await.error(400, "ObjectAlreadyExists");
    let other = Client::instance("other", false);
    create(&nexus, "k", &other).await.expect(201);
    create(&nexus, "k", &body).await.error(409, "Conflict");
    assert_eq!(nexus.database.count(KEYS), 1);
    age(25);
    let pruned = store.idempotency_keys_prune(None).await.unwrap();
    assert_eq!(pruned.deleted, 1);
    assert_eq!(nexus.database.count(KEYS), 0);
}
