//! What is left of a start, and of its failure, when who asked hangs up, when
//! Nexus is killed, when the sled is down.

use harness::{AgentSettings, Client, Setup, TestNexus, eventually, is};
use nexus::saga::Saga;
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::instance_start::InstanceStart;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The reasons and outcomes of an instance's attempts, newest first.
async fn history(nexus: &TestNexus, id: &str) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let attempts = nexus.attempts(id).await;
    attempts.iter().map(|a| (text(&a["reason"]), text(&a["outcome"]))).collect()
}

fn past(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

/// A client that sends a POST and says nothing of the answer.
async fn post_unheard(nexus: &TestNexus, path: &str, body: &str) -> TcpStream {
    let token = nexus.process.bootstrap("main", "admin", true).await;
    let address = nexus.process.external();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        token.0,
        body.len(),
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Asks for a start, and hangs up before it is answered.
async fn start_and_hang_up(nexus: &TestNexus, id: &str) {
    // Nobody else writes to the instance when it is held.
    nexus.check_invariants().await;
    let row = format!("SELECT 1 FROM instance WHERE id = '{id}' FOR UPDATE");
    let mut barrier = nexus.database.hold(&row);
    let path = format!("/v1/instances/{id}/start");
    let stream = post_unheard(nexus, &path, "").await;
    barrier.reached_by(1).await;
    drop(stream);
    barrier.lift();
}

#[tokio::test]
async fn a_start_whose_client_hangs_up_is_carried_out() {
    let nexus = TestNexus::start().await;
    let id = nexus.create("abandoned", false).await;
    start_and_hang_up(&nexus, &id).await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(history(&nexus, &id).await, past(&[("user", "started")]));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_create_whose_client_hangs_up_is_carried_out() {
    let nexus = TestNexus::start().await;
    let mut barrier = nexus.database.hold("SELECT 1 FROM project FOR UPDATE");
    let body = Client::instance("abandoned", true).to_string();
    let path = "/v1/instances?project=demo";
    let stream = post_unheard(&nexus, path, &body).await;
    barrier.reached_by(1).await;
    drop(stream);
    barrier.lift();
    let id = created(&nexus, "abandoned").await;
    nexus.wait(&id, is("running")).await;
    assert_eq!(history(&nexus, &id).await, past(&[("create", "started")]));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn why_a_start_failed_can_be_read_though_its_client_hung_up() {
    let nexus = TestNexus::start().await;
    let mut body = Client::instance("giant", false);
    body["ncpus"] = 100.into();
    let id = nexus.create_as(body).await;
    start_and_hang_up(&nexus, &id).await;
    let view = nexus.wait(&id, is("failed")).await;
    assert_eq!(view["start_failure"]["kind"], "insufficient_capacity");
    assert_eq!(history(&nexus, &id).await, past(&[("user", "failed")]));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_start_is_carried_out_though_nexus_is_killed_right_after_its_202() {
    let mut nexus = TestNexus::start().await;
    for n in 0..4 {
        let id = nexus.create(&format!("accepted-{n}"), false).await;
        nexus.ask(&id, "start").await.expect(202);
        nexus.kill_nexus().await;
        nexus.restart_nexus().await;
        nexus.wait(&id, is("running")).await;
        nexus.vmm_of(&id).await;
        assert_eq!(history(&nexus, &id).await, past(&[("user", "started")]));
    }
    nexus.check_invariants().await;
}

/// Each record that a saga of this kind makes when it succeeds.
fn records<S: Saga>() -> Vec<(&'static str, &'static str)> {
    let nodes = S::nodes().into_iter().map(|node| node.name);
    nodes.flat_map(|n| [(n, "started"), (n, "succeeded")]).collect()
}

#[tokio::test]
async fn a_start_survives_nexus_killed_at_any_record_of_its_saga() {
    let mut nexus = TestNexus::with(roomy()).await;
    let points = records::<InstanceStart>();
    let mut gates = nexus.database.gates::<InstanceStart>(&points);
    let mut made = Vec::new();
    for n in 1..=points.len() {
        made.push(nexus.create(&format!("at-{n}"), true).await);
        gates.reached_by(i64::try_from(n).unwrap()).await;
    }
    nexus.kill_nexus().await;
    gates.lift();
    nexus.restart_nexus().await;
    for (id, point) in made.iter().zip(points) {
        nexus.wait(id, is("running")).await;
        nexus.vmm_of(id).await;
        let expected = past(&[("create", "started")]);
        assert_eq!(history(&nexus, id).await, expected, "{point:?}");
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_create_survives_nexus_killed_at_any_record_of_its_saga() {
    let mut nexus = TestNexus::with(roomy()).await;
    let points = records::<InstanceCreate>();
    let mut gates = nexus.database.gates::<InstanceCreate>(&points);
    let mut unheard = Vec::new();
    for n in 1..=points.len() {
        let body = Client::instance(&format!("at-{n}"), true).to_string();
        let path = "/v1/instances?project=demo";
        unheard.push(post_unheard(&nexus, path, &body).await);
        gates.reached_by(i64::try_from(n).unwrap()).await;
    }
    nexus.kill_nexus().await;
    gates.lift();
    nexus.restart_nexus().await;
    // Their sagas were written down, so they are carried through.
    for (n, point) in (1..).zip(points) {
        let id = created(&nexus, &format!("at-{n}")).await;
        nexus.wait(&id, is("running")).await;
        let expected = past(&[("create", "started")]);
        assert_eq!(history(&nexus, &id).await, expected, "{point:?}");
    }
    nexus.check_invariants().await;
}

/// The id of the instance of this name, once there is one.
async fn created(nexus: &TestNexus, name: &str) -> String {
    let path = format!("/v1/instances/{name}?project=demo");
    eventually("the instance is there", async || {
        let answer = nexus.get(&path).await;
        answer.body["id"].as_str().map(str::to_string)
    })
    .await
}

#[tokio::test]
async fn a_start_survives_nexus_killed_while_the_sled_is_asked() {
    let mut nexus = TestNexus::start().await;
    for operation in ["register", "state"] {
        let before = nexus.calls(operation).await;
        nexus.fault_all(operation, 1, json!({ "hang": true })).await;
        let id = nexus.create(operation, true).await;
        eventually("the sled is asked", async || {
            (nexus.calls(operation).await > before).then_some(())
        })
        .await;
        nexus.kill_nexus().await;
        nexus.restart_nexus().await;
        nexus.wait(&id, is("running")).await;
        nexus.vmm_of(&id).await;
        // What the one that was killed had asked for arrives now.
        nexus.clear_all_faults().await;
        assert_eq!(history(&nexus, &id).await, past(&[("create", "started")]));
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn why_a_start_failed_outlives_every_nexus_that_had_to_do_with_it() {
    let mut nexus = TestNexus::start().await;
    nexus.fault_all("register", 100, json!({ "reject": "Not now." })).await;
    let id = nexus.create("unlucky", false).await;
    let mut gate = nexus.database.gate::<InstanceStart>("register", "started");
    nexus.ask(&id, "start").await.expect(202);
    gate.reached_by(1).await;
    // The Nexus that accepted the start is gone before it fails…
    nexus.kill_nexus().await;
    gate.lift();
    nexus.restart_nexus().await;
    nexus.wait(&id, is("failed")).await;
    // No retry is to come in between.
    nexus.sql(
        "UPDATE instance SET next_retry_at = now() + INTERVAL '1 hour', \
             reconcile_at = now() + INTERVAL '1 hour'",
    );
    let view = nexus.instance_view(&id).await;
    let attempts = nexus.attempts(&id).await;
    assert_eq!(view["start_failure"]["kind"], "host_rejected");
    assert_eq!(history(&nexus, &id).await, past(&[("user", "failed")]));
    // … and so is the one that saw it fail.
    nexus.kill_nexus().await;
    nexus.restart_nexus().await;
    assert_eq!(nexus.instance_view(&id).await, view);
    assert_eq!(nexus.attempts(&id).await, attempts);
}

#[tokio::test]
async fn a_start_on_a_sled_that_is_down_fails_and_works_when_it_is_back() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].kill().await;
    let id = nexus.create("unlucky", true).await;
    let view = nexus.wait(&id, is("failed")).await;
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "host_unreachable");
    assert_eq!(failure["transient"], true);
    assert!(failure["next_retry_at"].is_string());
    // Nobody knows what became of its VMM, so that keeps its place.
    let kept = "SELECT count(*) FROM sled_reservation WHERE role = 'abandoned'";
    assert_eq!(nexus.database.count(kept), 1);
    nexus.check_invariants().await;

    nexus.kill_nexus().await;
    nexus.restart_nexus().await;
    nexus.agents[0].restart().await;
    eventually("the sled is asked about it", async || {
        (nexus.database.count(kept) == 0).then_some(())
    })
    .await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    nexus.vmm_of(&id).await;
    let attempts = nexus.attempts(&id).await;
    let first = attempts.last().unwrap();
    assert_eq!(first["reason"], "create");
    assert_eq!(first["failure"]["kind"], "host_unreachable");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_dies_during_a_start_holds_it_up_and_does_not_lose_it() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let mut gate = nexus.database.gate::<InstanceStart>("run", "started");
    let id = nexus.create("held-up", true).await;
    gate.reached_by(1).await;
    nexus.agents[0].kill().await;
    gate.lift();
    // The order to run goes nowhere, and is given again.
    let tried = "SELECT count(*) FROM saga \
                 WHERE name = 'instance_start' AND time_ended IS NOT NULL";
    eventually("the saga leaves it to the boot deadline", async || {
        (nexus.database.count(tried) == 1).then_some(())
    })
    .await;
    nexus.agents[0].restart().await;
    nexus.wait(&id, is("running")).await;
    nexus.vmm_of(&id).await;
    nexus.check_invariants().await;
}

/// A fleet that holds all of a test's instances.
fn roomy() -> Setup {
    let agent = AgentSettings::sized(250, 250);
    Setup { agent, ..Setup::default() }
}

/// Creates instances, to run, all at once; the names of those whose creation
/// was answered with 201 before Nexus was killed, which is after so long.
async fn create_until_killed(
    nexus: &mut TestNexus,
    names: Vec<String>,
    after: Duration,
) -> Vec<String> {
    let token = nexus.process.bootstrap("main", "admin", true).await;
    let url = format!(
        "http://{}/v1/instances?project=demo",
        nexus.process.external()
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let creates: Vec<_> = names
        .into_iter()
        .map(|name| {
            let request = http
                .post(&url)
                .bearer_auth(&token.0)
                .json(&Client::instance(&name, true));
            tokio::spawn(async move {
                let answer = request.send().await.ok()?;
                (answer.status() == 201).then_some(name)
            })
        })
        .collect();
    // Not to wait for something: any moment is as good as another.
    tokio::time::sleep(after).await;
    nexus.kill_nexus().await;
    let answered = futures::future::join_all(creates).await;
    answered.into_iter().filter_map(Result::unwrap).collect()
}

#[tokio::test]
async fn whatever_moment_nexus_is_killed_at_what_was_created_runs() {
    const ROUNDS: u32 = 8;
    let mut nexus = TestNexus::with(roomy()).await;
    let names = |round| (0..6).map(move |n| format!("r{round}-{n}"));
    // How long it takes here when nobody is killed: the kills come at all
    // times up to one and a half of that.
    let began = Instant::now();
    let made = names(0).collect::<Vec<_>>();
    let made = made.iter().map(|name| nexus.create(name, true));
    for id in futures::future::join_all(made).await {
        nexus.wait(&id, is("running")).await;
    }
    let undisturbed = began.elapsed();

    let mut promised = Vec::new();
    for round in 1..=ROUNDS {
        let after = undisturbed * 3 * round / (2 * ROUNDS);
        let names = names(round).collect();
        promised.extend(create_until_killed(&mut nexus, names, after).await);
        nexus.restart_nexus().await;
    }
    nexus.check_invariants().await;
    let page = nexus.get("/v1/instances?project=demo&limit=1000").await;
    let instances = page.expect(200)["items"].as_array().unwrap().clone();
    for instance in &instances {
        let id = instance["id"].as_str().unwrap();
        assert_eq!(instance["run_state"], "running", "{instance:#}");
        assert_eq!(history(&nexus, id).await, past(&[("create", "started")]));
    }
    for name in &promised {
        let mut found = instances.iter().filter(|i| i["name"] == **name);
        assert!(found.next().is_some(), "{name} was promised");
    }
    // Else the kills came too early or too late to show anything.
    assert!(!promised.is_empty());
    let cut_off = "SELECT count(*) FROM saga WHERE adopt_generation > 1";
    assert!(nexus.database.count(cut_off) > 0);
}
