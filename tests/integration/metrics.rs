//! What a Nexus tells operators of itself.

use diesel::connection::SimpleConnection;
use harness::{
    Database, Link, NexusProcess, SLED_SECRET, Setup, TestNexus, Tuning,
    Weather, eventually, is,
};

/// Names whose values only the database knows.
const OF_DATABASE: [&str; 3] = [
    "nexus_instances_unsettled",
    "nexus_reconcile_lag_seconds",
    "nexus_sagas_unfinished{state=\"running\"}",
];

fn attempts(outcome: &str, kind: &str) -> String {
    format!(
        "nexus_start_attempts_ended_total\
         {{outcome=\"{outcome}\",kind=\"{kind}\"}}"
    )
}

fn sagas(name: &str, outcome: &str) -> String {
    format!("nexus_sagas_ended_total{{name=\"{name}\",outcome=\"{outcome}\"}}")
}

fn requests(operation: &str, status: u16) -> String {
    format!(
        "nexus_request_duration_seconds_count\
         {{operation=\"{operation}\",status=\"{status}\"}}"
    )
}

#[tokio::test]
async fn what_happens_is_counted() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let before = nexus.process.metrics().await;
    for nothing_yet in [
        attempts("started", ""),
        attempts("superseded", ""),
        attempts("failed", "insufficient_capacity"),
        sagas("instance_start", "done"),
        sagas("instance_start", "undone"),
        "nexus_requests_refused_total".to_string(),
    ] {
        assert_eq!(before.at(&nothing_yet), 0.0, "{nothing_yet}");
    }

    let runs = nexus.create("runs", true).await;
    nexus.wait(&runs, is("running")).await;
    let too_large = nexus.create_sized("too-large", 64, 1).await;
    nexus.wait(&too_large, is("failed")).await;
    eventually("both start sagas have ended", async || {
        let metrics = nexus.process.metrics().await;
        (metrics.at(&sagas("instance_start", "done")) == 1.0
            && metrics.at(&sagas("instance_start", "undone")) == 1.0)
            .then_some(())
    })
    .await;
    nexus.hold_all(serde_json::json!({ "boot": true })).await;
    let stopped = nexus.create("stopped", true).await;
    nexus.wait_for_vmm(&stopped).await;
    nexus.ask(&stopped, "stop").await.expect(202);
    nexus.wait(&stopped, is("stopped")).await;
    for id in [&runs, &too_large, &stopped] {
        nexus.settled(id).await;
    }
    nexus.get("/v1/projects/nowhere").await.expect(404);

    let metrics = eventually("the last saga has ended", async || {
        let metrics = nexus.process.metrics().await;
        (metrics.at("nexus_sagas_running") == 0.0).then_some(metrics)
    })
    .await;
    for (series, value) in [
        (attempts("started", ""), 1.0),
        (attempts("superseded", ""), 1.0),
        (attempts("failed", "insufficient_capacity"), 1.0),
        (sagas("instance_create", "done"), 3.0),
        (requests("instance_create", 201), 3.0),
        (requests("instance_stop", 202), 1.0),
        (requests("project_view", 404), 1.0),
        (requests("sled_register", 200), 1.0),
        ("nexus_requests_in_progress".to_string(), 0.0),
        ("nexus_lease_live".to_string(), 1.0),
        ("nexus_database_up".to_string(), 1.0),
        ("nexus_database_connections{state=\"max\"}".to_string(), 16.0),
        ("nexus_build_info{version=\"0.1.0\"}".to_string(), 1.0),
    ] {
        assert_eq!(metrics.at(&series), value, "{series}");
    }
    assert_eq!(metrics.sum("nexus_start_attempts_ended_total"), 3.0);
    let open = metrics.at("nexus_database_connections{state=\"idle\"}")
        + metrics.at("nexus_database_connections{state=\"used\"}");
    assert!((1.0..=16.0).contains(&open), "{open}");
}

#[tokio::test]
async fn the_lag_rises_while_nobody_may_reconcile() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_instances_unsettled"), 0.0);
    assert_eq!(metrics.at("nexus_reconcile_lag_seconds"), 0.0);

    // It cannot renew its lease, and so may not act; but it answers.
    let mut holding = nexus.database.connect();
    holding
        .batch_execute("BEGIN; SELECT id FROM nexus_lease FOR UPDATE")
        .unwrap();
    eventually("the lease is over", async || {
        let metrics = nexus.process.metrics().await;
        (metrics.at("nexus_lease_live") == 0.0
            && metrics.at("nexus_lease_age_seconds") >= 1.0)
            .then_some(())
    })
    .await;
    nexus.ask(&id, "start").await.expect(202);
    eventually("the lag rises", async || {
        let metrics = nexus.process.metrics().await;
        assert_eq!(metrics.at("nexus_instances_unsettled"), 1.0);
        (metrics.at("nexus_reconcile_lag_seconds") >= 0.5).then_some(())
    })
    .await;

    holding.batch_execute("COMMIT").unwrap();
    nexus.wait(&id, is("running")).await;
    eventually("all is well again", async || {
        let metrics = nexus.process.metrics().await;
        (metrics.at("nexus_lease_live") == 1.0
            && metrics.at("nexus_lease_age_seconds") < 1.0
            && metrics.at("nexus_instances_unsettled") == 0.0
            && metrics.at("nexus_reconcile_lag_seconds") == 0.0)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_the_database_there_is_the_rest() {
    let database = Database::create().await;
    let link = Link::to(database.address().parse().unwrap()).await;
    let url = database.url_by_way_of(link.address());
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning::default();
    let nexus = NexusProcess::start(dir.path(), &url, &tuning).await;
    let [unsettled, lag, unfinished] = OF_DATABASE;
    let metrics = nexus.metrics().await;
    assert_eq!(metrics.at("nexus_database_up"), 1.0);
    for series in OF_DATABASE {
        assert_eq!(metrics.at(series), 0.0);
    }

    let without = async |what: &str| {
        let began = std::time::Instant::now();
        let metrics = nexus.metrics().await;
        assert!(began.elapsed().as_secs() < 5, "{what}");
        assert_eq!(metrics.at("nexus_database_up"), 0.0, "{what}");
        for series in [unsettled, lag, unfinished] {
            assert_eq!(metrics.get(series), None, "{what}");
        }
        assert_eq!(metrics.at("nexus_sagas_running"), 0.0, "{what}");
    };
    link.set(Weather::Silent);
    without("the database is silent").await;
    without("it is silent to new connections, too").await;
    link.set(Weather::Clear);
    eventually("the database is there again", async || {
        let metrics = nexus.metrics().await;
        (metrics.at("nexus_database_up") == 1.0).then_some(())
    })
    .await;
    link.set(Weather::Cut);
    without("the database is gone").await;
}

#[tokio::test]
async fn they_are_for_who_has_the_sleds_secret() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let user = nexus.process.bootstrap("main", "admin", true).await;
    let user = nexus.process.internal_client().with_token(&user.0);
    for client in [&user, &user.anonymous(), &user.with_token("")] {
        client.get("/metrics").await.error(401, "Unauthorized");
    }
    let text = user.with_token(SLED_SECRET).get("/metrics").await.expect(200);
    assert!(text.as_str().unwrap().contains("# TYPE nexus_build info\n"));
    let at_the_front = nexus.with_token(SLED_SECRET);
    at_the_front.get("/metrics").await.expect(404);
}
