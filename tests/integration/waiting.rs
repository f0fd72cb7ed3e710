//! Those who wait for a change: what they cost, and when they are told.

use diesel::connection::{
    Instrumentation, InstrumentationEvent, set_default_instrumentation,
};
use futures::future::join_all;
use harness::{Setup, TestNexus, eventually, is};
use nexus::config::Config;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Far from both "at once" and the timeouts that the tests give.
const NOT_LONG: Duration = Duration::from_secs(20);

/// How often this process has looked whether an instance has changed.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// Counts the looks.
struct Looks;

impl Instrumentation for Looks {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let text = query.to_string();
            let look = text.starts_with(
                "SELECT \"instance\".\"id\", \
                 \"instance\".\"view_gen\" FROM",
            );
            LOOKS.fetch_add(look.into(), Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_who_wait_cost_a_statement_a_tick() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let names: Vec<_> = (0..5).map(|n| format!("db-{n}")).collect();
    let ids =
        join_all(names.iter().map(|name| nexus.create(name, false))).await;
    for id in &ids {
        nexus.settled(id).await;
    }
    // A second Nexus on the same database, in this process, where statements
    // are seen.
    set_default_instrumentation(|| Some(Box::new(Looks))).unwrap();
    let path = nexus.process.config_path();
    let mut config = Config::from_file(path.to_str().unwrap().into()).unwrap();
    config.external_address.set_port(0);
    config.internal_address.set_port(0);
    config.join_address = None;
    // So that as many as come at once have a place in the line.
    config.database_max_connections = 64;
    config.address_file = None;
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let here = nexus::Server::start(&config, log).await.unwrap();
    let client = nexus.admin.at(here.addresses().0);

    let views = join_all(ids.iter().map(|id| client.instance_view(id))).await;
    let waits = (0..500).map(|n| {
        let view = &views[n % views.len()];
        let path = format!(
            "/v1/instances/{}?wait_for_change={}&wait_seconds=4",
            view["id"].as_str().unwrap(),
            view["view_gen"],
        );
        let client = client.clone();
        tokio::spawn(async move { client.get(&path).await.expect(200) })
    });
    let began = Instant::now();
    let waits: Vec<_> = waits.collect();
    for (n, wait) in waits.into_iter().enumerate() {
        // Nothing changed: each is told how it is.
        assert_eq!(wait.await.unwrap(), views[n % views.len()]);
    }
    let took = began.elapsed();
    // Twice a second; but what others in this process do wakes it, too.
    let looks = LOOKS.load(Ordering::Relaxed);
    let ticks = u32::try_from(took.as_millis() / 500).unwrap();
    assert!(looks >= 4, "nobody looked: {looks} times in {took:?}");
    assert!(looks <= 3 * ticks + 10, "{looks} looks in {took:?}");
    here.close().await;
}

/// The path of an instance's latest attempt, waited for while it is pending.
async fn latest_attempt(nexus: &TestNexus, id: &str, secs: u32) -> String {
    let attempts = nexus.attempts(id).await;
    let attempt = attempts[0]["id"].as_str().unwrap();
    format!(
        "/v1/instances/{id}/start-attempts/{attempt}\
         ?wait_for_change=pending&wait_seconds={secs}"
    )
}

#[tokio::test]
async fn who_waits_for_an_attempt_is_told_its_outcome() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.agents[0].fault("register", 1_000, json!({ "hang": true })).await;
    let id = nexus.create("db", true).await;
    eventually("the sled is asked", async || {
        (nexus.agents[0].calls("register").await > 0).then_some(())
    })
    .await;
    // It changes in the meantime, and the attempt does not end: it is pending.
    let path = latest_attempt(&nexus, &id, 1).await;
    let began = Instant::now();
    let unchanged = nexus.get(&path).await.expect(200);
    assert_eq!(unchanged["outcome"], "pending");
    assert!(began.elapsed() >= Duration::from_secs(1), "too early");

    let path = latest_attempt(&nexus, &id, 60).await;
    let wait = tokio::spawn({
        let (admin, path) = (nexus.admin.clone(), path.clone());
        async move { admin.get(&path).await.expect(200) }
    });
    let began = Instant::now();
    nexus.ask(&id, "stop").await.expect(202);
    let ended = wait.await.unwrap();
    assert_eq!(ended["outcome"], "superseded", "{ended}");
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
    // One that is over changes no more.
    assert_eq!(nexus.get(&path).await.expect(200), ended);
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_waits_at_another_nexus_is_told_too() {
    let setup = Setup { other_nexuses: 1, ..Setup::one_sled() };
    let nexus = TestNexus::with(setup).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let there = nexus.at_other(0);
    let view = there.instance_view(&id).await;
    let path = format!(
        "/v1/instances/{id}?wait_for_change={}&wait_seconds=60",
        view["view_gen"]
    );
    let wait = tokio::spawn(async move { there.get(&path).await.expect(200) });
    let began = Instant::now();
    nexus.ask(&id, "start").await.expect(202);
    let changed = wait.await.unwrap();
    assert!(changed["view_gen"].as_u64() > view["view_gen"].as_u64());
    assert_eq!(changed["intended_state"], "running");
    assert!(began.elapsed() < NOT_LONG, "{:?}", began.elapsed());
    nexus.wait(&id, is("running")).await;
}
