//! More at once than there is room for: on the sleds, and in Nexus itself.

use diesel::connection::SimpleConnection;
use harness::{AgentSettings, Answer, Client, GIB, PROJECT, Setup, TestNexus};
use harness::{eventually, is};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Instances that are asked for at once.
const ASKED: usize = 500;

/// A sled with room for 50 of them.
const SLED: AgentSettings = AgentSettings::sized(50, 64);

/// A test's Nexus has 16 connections to the database: so many requests are at
/// work at once.
const PLACES: usize = 8;

/// And so many wait for a place.
const LINE: usize = 128;

#[tokio::test]
async fn of_500_at_once_200_run_and_others_start_as_room_appears() {
    let setup = Setup { sleds: 4, agent: SLED, ..Setup::default() };
    let mut nexus = TestNexus::with(setup).await;
    let mut times = Vec::new();

    let began = Instant::now();
    let clients: Vec<_> = (0..ASKED)
        .map(|n| tokio::spawn(create(nexus.admin.clone(), n)))
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.extend(client.await.unwrap());
    }
    times.push(("all answered", began.elapsed()));
    nexus.check_invariants().await;
    times.push(("all settled", began.elapsed()));

    let views = instances(&nexus).await;
    assert_eq!(views.len(), ASKED);
    assert_eq!(run_states(&views), [("failed", 300), ("running", 200)].into());
    for view in views.iter().filter(|v| is("failed")(v)) {
        waits_for_room(view);
    }
    let failed_at_first = failed_attempts(&nexus);

    // Nothing is retried by the clock from here on: who starts was woken.
    nexus.sql(
        "UPDATE instance SET next_retry_at = now() + INTERVAL '1 hour', \
             reconcile_at = now() + INTERVAL '1 hour' \
         WHERE state = 'failed'",
    );
    let began = Instant::now();
    let (one, other) = tokio::join!(
        nexus.process.agent(4, &SLED),
        nexus.process.agent(5, &SLED),
    );
    nexus.agents.extend([one, other]);
    eventually("as many more run as there is room for", async || {
        let running = "SELECT count(*) FROM vmm WHERE state = 'running'";
        (nexus.database.count(running) == 300).then_some(())
    })
    .await;
    times.push(("100 more run", began.elapsed()));
    nexus.check_invariants().await;

    let views = instances(&nexus).await;
    assert_eq!(run_states(&views), [("failed", 200), ("running", 300)].into());
    for view in views.iter().filter(|v| is("failed")(v)) {
        waits_for_room(view);
    }
    // Each sled wakes eight, and each that starts, the next: not all who wait
    // have run for the room of a third of them.
    let in_vain = failed_attempts(&nexus) - failed_at_first;
    assert!(in_vain <= 32, "{in_vain} attempts in vain");
    report(&answers, failed_at_first, in_vain, &times);
}

#[tokio::test]
async fn who_finds_the_queue_full_is_told_when_to_come_back() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let (_, vmm) = nexus.running("db", json!({})).await;
    let mut holding = nexus.database.connect();
    holding.batch_execute("BEGIN; SELECT id FROM project FOR UPDATE").unwrap();
    let asked: Vec<_> = (0..PLACES + LINE)
        .map(|n| {
            let client = nexus.admin.clone();
            let body = json!({ "description": format!("{n}") });
            tokio::spawn(async move {
                client.put("/v1/projects/demo", body).await.status
            })
        })
        .collect();
    eventually("the queue is full", async || {
        let metrics = nexus.process.metrics().await;
        (metrics.at("nexus_requests_in_progress") == 8.0
            && metrics.at("nexus_requests_waiting") == 128.0)
            .then_some(())
    })
    .await;

    // Who it is was not asked, since that is a question to the database.
    for client in [&nexus.admin, &nexus.with_token("nobody's")] {
        let answer = client.get("/v1/me").await;
        assert!((1..=4).contains(&retry_after(&answer)));
        let message = answer.error(503, "ServiceNotAvailable");
        assert!(message.contains("Nothing was done"), "{message}");
    }
    nexus.get("/v1/ping").await.expect(200);
    // Sleds are heard meanwhile.
    nexus.agents[0].guest(&vmm, "shutdown").await;
    let ended = format!(
        "SELECT count(*) FROM vmm \
         WHERE id = '{vmm}' AND time_ended IS NOT NULL"
    );
    eventually("the sled's report is taken in", async || {
        (nexus.database.count(&ended) == 1).then_some(())
    })
    .await;

    holding.batch_execute("COMMIT").unwrap();
    for task in asked {
        assert_eq!(task.await.unwrap(), 200);
    }
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_requests_refused_total"), 2.0);
    assert_eq!(metrics.at("nexus_requests_in_progress"), 0.0);
    assert_eq!(metrics.at("nexus_requests_waiting"), 0.0);
}

#[tokio::test]
async fn those_who_wait_for_a_change_keep_nobody_waiting() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let seen = nexus.instance_view(&id).await["view_gen"].clone();
    let path =
        format!("/v1/instances/{id}?wait_for_change={seen}&wait_seconds=60");
    let mut waiting = Vec::new();
    for come in [100.0, 200.0] {
        // To begin with each has to take its turn.
        waiting.extend((0..100).map(|_| {
            let (client, path) = (nexus.admin.clone(), path.clone());
            tokio::spawn(async move { client.get(&path).await.expect(200) })
        }));
        eventually("they wait for a change", async || {
            let metrics = nexus.process.metrics().await;
            (metrics.at("nexus_requests_aside") == come).then_some(())
        })
        .await;
    }
    assert!(waiting.len() > PLACES + LINE, "they would fill the queue");

    let (began, metrics) = (Instant::now(), nexus.process.metrics().await);
    assert_eq!(metrics.at("nexus_requests_in_progress"), 0.0);
    assert_eq!(metrics.at("nexus_requests_waiting"), 0.0);
    nexus.get("/v1/me").await.expect(200);
    nexus.ask(&id, "start").await.expect(202);
    for task in waiting {
        let view = task.await.unwrap();
        assert!(view["view_gen"].as_u64() > seen.as_u64());
    }
    assert!(began.elapsed() < Duration::from_secs(50), "they timed out");
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_requests_aside"), 0.0);
    assert_eq!(metrics.at("nexus_requests_refused_total"), 0.0);
}

/// Creates an instance of 1 vCPU and 1 GiB, to run, as a client should: it comes
/// back when it is told to. All answers that it got.
async fn create(client: Client, n: usize) -> Vec<Answer> {
    let mut body = Client::instance(&format!("one-of-many-{n}"), true);
    body["ncpus"] = 1.into();
    body["memory"] = GIB.into();
    let path = format!("/v1/instances?project={PROJECT}");
    let mut answers = Vec::new();
    loop {
        let answer =
            client.request(Method::POST, &path, Some(body.clone())).await;
        answers.push(answer.clone());
        match answer.status {
            201 => return answers,
            // It was created though that was not known to be so.
            400 if answers.len() > 1 => {
                answer.error(400, "ObjectAlreadyExists");
                return answers;
            }
            503 => {
                let secs = retry_after(&answer);
                answer.error(503, "ServiceNotAvailable");
                tokio::time::sleep(Duration::from_secs(secs)).await;
            }
            _ => {
                let allowed = [201, 400, 503];
                assert!(allowed.contains(&answer.status), "{answer:?}");
                return answers;
            }
        }
    }
}

fn retry_after(answer: &Answer) -> u64 {
    answer.retry_after.as_deref().unwrap().parse().unwrap()
}

async fn instances(nexus: &TestNexus) -> Vec<Value> {
    let path = format!("/v1/instances?project={PROJECT}&limit=1000");
    let page = nexus.get(&path).await.expect(200);
    assert_eq!(page["next_page"], Value::Null);
    page["items"].as_array().unwrap().clone()
}

fn run_states(views: &[Value]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for view in views {
        *tally.entry(view["run_state"].as_str().unwrap()).or_default() += 1;
    }
    tally
}

fn waits_for_room(view: &Value) {
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "insufficient_capacity", "{view:#}");
    assert_eq!(failure["transient"], true, "{view:#}");
    assert!(failure["next_retry_at"].is_string(), "{view:#}");
}

fn failed_attempts(nexus: &TestNexus) -> i64 {
    let other = "SELECT count(*) FROM start_attempt WHERE outcome = 'failed' \
         AND failure_kind <> 'insufficient_capacity'";
    assert_eq!(nexus.database.count(other), 0);
    nexus
        .database
        .count("SELECT count(*) FROM start_attempt WHERE outcome = 'failed'")
}

#[expect(clippy::print_stderr, reason = "for who measures")]
fn report(
    answers: &[Answer],
    failed_at_first: i64,
    in_vain: i64,
    times: &[(&str, Duration)],
) {
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_default() += 1;
    }
    eprintln!("answers by status: {statuses:?}");
    eprintln!("attempts failed for want of room: {failed_at_first}");
    eprintln!("more of them when there was room for 100: {in_vain}");
    for (what, time) in times {
        eprintln!("{what} after {:.1} s", time.as_secs_f64());
    }
}
