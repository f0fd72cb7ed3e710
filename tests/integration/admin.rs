//! What operators read and do by `nexus-admin`, whether a Nexus lives or not.

use crate::unreachable::abandoned_while_it_may_run;
use db_model::{SiloUserId, StartAttemptId};
use harness::{
    Client, Database, NexusProcess, SLED_SECRET, Setup, TestNexus, Token,
    Tuning, eventually, is, nexus_admin,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// More faults than a test can use up.
const ALWAYS: u32 = 1_000_000;

/// A sled's answer is waited for as long as a test may hold it back.
fn patient() -> Setup {
    let tuning = Tuning { sled_timeout_ms: 30_000, ..Tuning::default() };
    Setup { tuning, ..Setup::one_sled() }
}

/// An instance whose start saga waits for its sled, and that saga.
async fn at_the_sled(nexus: &TestNexus) -> (String, String) {
    let asked = nexus.calls("register").await;
    nexus.agents[0].fault("register", 1, json!({ "hang": true })).await;
    let mut body = Client::instance("db", true);
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    eventually("it is at the sled", async || {
        (nexus.calls("register").await > asked).then_some(())
    })
    .await;
    let list = ["saga", "list", "--instance", &id];
    let list = nexus.process.admin_json(&list).await;
    let saga = list["sagas"][0]["id"].as_str().unwrap().to_string();
    (id, saga)
}

/// What the reconciler would do, in its own words.
async fn plan(nexus: &TestNexus, instance: &str) -> String {
    let show = ["instance", "show", instance];
    let shown = nexus.process.admin_json(&show).await;
    let steps = shown["plan"]["steps"].as_array().unwrap().iter();
    steps.map(|s| s.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// A text without what a narrow line makes of it.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_status_shows_a_dead_nexus_and_what_it_has_left() {
    let mut nexus = TestNexus::with(patient()).await;
    let (_, saga) = at_the_sled(&nexus).await;
    nexus.kill_nexus().await;
    let status = eventually("its lease has run out", async || {
        let status = nexus.process.admin_json(&["status"]).await;
        (status["leases"][0]["state"] == "expired").then_some(status)
    })
    .await;
    let dead = status["leases"][0]["id"].clone();
    let sagas = &status["unfinished_sagas"][0];
    assert_eq!(sagas["name"], "instance_start");
    assert_eq!(
        (&sagas["count"], &sagas["without_runner"]),
        (&json!(1), &json!(1))
    );
    let text = nexus.process.admin(&["status"]).await.done();
    for words in
        ["No Nexus lives", "1 unfinished sagas", dead.as_str().unwrap()]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let list = nexus.process.admin(&["saga", "list"]).await.done();
    assert!(list.contains(&saga) && list.contains("expired"), "{list}");
    assert!(list.contains("main/demo/db"), "{list}");

    nexus.restart_nexus().await;
    let status = eventually("its saga is adopted", async || {
        let status = nexus.process.admin_json(&["status"]).await;
        // It may be through by now.
        let sagas = status["unfinished_sagas"].as_array()?.iter();
        sagas.map(|s| &s["without_runner"]).all(|n| n == 0).then_some(status)
    })
    .await;
    assert_eq!(status["leases"][0]["state"], "live");
    assert_eq!(status["leases"][1]["id"], dead);
    assert_eq!(status["leases"][1]["state"], "taken");
    let shown = nexus.process.admin_json(&["saga", "show", &saga]).await;
    assert_eq!(shown["current_sec"], status["leases"][0]["id"]);
    assert_eq!(shown["runner_lease"], "live");
    assert!(shown["adopt_generation"].as_i64().unwrap() > 1);
}

#[tokio::test]
async fn a_failed_start_is_explained_with_all_that_went_wrong_inside() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    agent.fault("register", ALWAYS, json!({ "error": 500 })).await;
    let mut body = Client::instance("db", true);
    body["auto_restart_policy"] = "never".into();
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("failed")).await;
    let kept = nexus.database.row(&format!(
        "SELECT internal_error, saga_id FROM start_attempt \
         WHERE instance_id = '{id}'"
    ));
    let internal = kept["internal_error"].as_str().unwrap();
    assert!(internal.contains("500"), "{internal}");

    let show = ["instance", "show", "main/demo/db"];
    let shown = nexus.process.admin_json(&show).await;
    assert_eq!(shown["id"], *id);
    let attempt = &shown["attempts"][0];
    assert_eq!(attempt["failure"]["kind"], "host_unreachable");
    assert_eq!(attempt["internal_error"], internal);
    let text = nexus.process.admin(&show).await.done();
    assert!(flat(&text).contains(&flat(internal)), "{text}");

    let saga = kept["saga_id"].as_str().unwrap();
    let shown = nexus.process.admin_json(&["saga", "show", saga]).await;
    let nodes = shown["nodes"].as_array().unwrap();
    let names: Vec<&str> =
        nodes.iter().map(|n| n["name"].as_str().unwrap()).collect();
    let expected = ["claim", "will_register", "place", "register", "run"];
    assert_eq!(names, expected);
    let failed = &nodes[3]["records"][1];
    assert_eq!(failed["event"], "failed");
    assert!(failed["error"].as_str().unwrap().contains(internal), "{failed}");
    assert_eq!(nodes[4]["records"], json!([]));
    assert_eq!(shown["params"]["instance_id"], *id);
    let text = nexus.process.admin(&["saga", "show", saga]).await.done();
    assert!(text.contains("register failed:"), "{text}");
    assert!(flat(&text).contains(&flat(internal)), "{text}");

    // It is over, so it is found only where all are looked through.
    let of_it = ["saga", "list", "--instance", &id];
    let list = nexus.process.admin_json(&of_it).await;
    assert_eq!(list["sagas"], json!([]));
    let all = [&of_it[..], &["--all", "--limit", "1"]].concat();
    let list = nexus.process.admin_json(&all).await;
    assert_eq!(list["sagas"][0]["id"], saga);
    assert_eq!(list["sagas"].as_array().unwrap().len(), 1);
    let done = ["saga", "list", "--state", "abandoned"];
    assert_eq!(nexus.process.admin_json(&done).await["sagas"], json!([]));
}

#[tokio::test]
async fn what_the_reconciler_would_do_is_told_when_no_nexus_lives_too() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let stopped = nexus.create("stopped", false).await;
    let large = nexus.create_sized("large", 100, 2).await;
    nexus.wait(&large, is("failed")).await;
    let (running, vmm) = nexus.running("running", json!({})).await;
    for id in [&stopped, &large, &running] {
        nexus.settled(id).await;
    }
    let told = plan(&nexus, &stopped).await;
    assert!(told.contains("settled (intent stopped"), "{told}");
    let told = plan(&nexus, &large).await;
    assert!(told.contains("whether there is room"), "{told}");

    nexus.kill_nexus().await;
    let attempt = StartAttemptId::new_v4();
    let id = stopped.parse().unwrap();
    let datastore = nexus.database.datastore();
    datastore
        .instance_start(id, attempt, SiloUserId::new_v4(), None, None, None)
        .await
        .unwrap();
    datastore.instance_stop(running.parse().unwrap()).await.unwrap();
    let told = plan(&nexus, &stopped).await;
    let expected = format!("Run saga instance_start: attempt {attempt}");
    assert!(told.contains(&expected), "{told}");
    let told = plan(&nexus, &running).await;
    assert!(told.contains(&format!("to stop VMM {vmm}")), "{told}");
    // To have looked has changed nothing.
    let unclaimed = "SELECT count(*) FROM instance WHERE reconcile_at <= now()";
    assert_eq!(nexus.database.count(unclaimed), 2);
    assert_eq!(
        nexus.database.count(
            "SELECT count(*) FROM saga \
        WHERE time_ended IS NULL"
        ),
        0
    );
    nexus.restart_nexus().await;
    nexus.wait(&stopped, is("running")).await;
    nexus.wait(&running, is("stopped")).await;
}

#[tokio::test]
async fn a_start_that_is_held_back_is_explained_by_the_run_that_may_go_on() {
    let tuning =
        Tuning { boot_allowance_ms: 300, patience: 20, ..Tuning::default() };
    let setup = Setup { tuning, ..Setup::one_sled() };
    let nexus = TestNexus::with(setup).await;
    let agent = &nexus.agents[0];
    let id = abandoned_while_it_may_run(&nexus, agent).await;
    nexus.ask(&id, "start").await.expect(202);
    let show = ["instance", "show", &id];
    let shown = nexus.process.admin_json(&show).await;
    assert_eq!(shown["run_state"], "starting");
    let vmm = &shown["vmms"][0];
    assert_eq!(vmm["state"], "abandoned");
    assert_eq!(
        (&vmm["linked"], &vmm["may_run"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(shown["reservations"][0]["role"], "abandoned");
    let steps = shown["plan"]["steps"].as_array().unwrap();
    let told = steps[0].as_str().unwrap();
    let vmm = vmm["id"].as_str().unwrap();
    for words in [vmm, &agent.id, "an instance never runs twice"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(steps[1].as_str().unwrap().contains("kill and forget VMM"));

    let status = nexus.process.admin(&["status"]).await.done();
    assert!(status.contains("1 VMMs are abandoned"), "{status}");
    let sleds = nexus.process.admin_json(&["sled", "list"]).await;
    assert_eq!(sleds["sleds"][0]["abandoned_vmms"], 1);
    agent.clear_faults().await;
    agent.hold(json!({ "boot": false })).await;
    nexus.wait(&id, is("running")).await;
}

#[tokio::test]
async fn a_saga_is_abandoned_when_its_name_is_typed_and_the_rest_follows() {
    let nexus = TestNexus::with(patient()).await;
    let (id, saga) = at_the_sled(&nexus).await;
    let abandon = ["saga", "abandon", &saga];
    let unfinished = "SELECT count(*) FROM saga WHERE time_ended IS NULL";
    for typed in ["", "yes\n", "instance_stop\n"] {
        let said = nexus.process.admin_typing(&abandon, typed).await;
        let why = said.refused(1);
        assert!(why.contains("nothing was done"), "{why}");
        assert_eq!(nexus.database.count(unfinished), 1);
    }
    let said = nexus.process.admin_typing(&abandon, "instance_start\n").await;
    assert!(flat(&said.err).contains("whoever runs it"), "{}", said.err);
    let told = said.done();
    assert!(told.contains("its attempt fails as `internal`"), "{told}");

    let failed = nexus.wait(&id, is("failed")).await;
    let failure = &failed["start_failure"];
    assert_eq!(failure["kind"], "internal");
    assert_eq!(failure["details"]["incident_id"], *saga);
    nexus.agents[0].clear_faults().await;
    eventually("nothing is held of the sled", async || {
        let held = "SELECT COUNT(*) FROM sled_reservation";
        (nexus.database.count(held) == 0).then_some(())
    })
    .await;
    let list = ["saga", "list", "--state", "abandoned"];
    let list = nexus.process.admin_json(&list).await;
    assert_eq!(list["sagas"][0]["id"], *saga);
    let again = [&abandon[..], &["--yes"]].concat();
    let why = nexus.process.admin(&again).await.refused(1);
    assert!(why.contains("nothing to abandon"), "{why}");
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
}

#[tokio::test]
async fn a_sled_is_expunged_through_a_nexus_that_lives() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (id, _) = nexus.running("db", json!({})).await;
    let sled = nexus.agents[0].id.clone();
    let expunge = ["sled", "expunge", &sled];
    nexus.kill_nexus().await;
    eventually("no Nexus lives", async || {
        let said = nexus.process.admin(&expunge).await;
        said.refused(1).contains("no Nexus lives").then_some(())
    })
    .await;

    // It has its ports from here on, and says so in its lease.
    nexus.restart_nexus().await;
    let in_service = "SELECT count(*) FROM sled WHERE policy = 'in_service'";
    let said = nexus.process.admin_typing(&expunge, "test-1\n").await;
    assert!(flat(&said.err).contains("the host is off"), "{}", said.err);
    said.refused(1);
    assert_eq!(nexus.database.count(in_service), 1);
    let said = nexus.process.admin_typing(&expunge, "test-0\n").await;
    assert!(said.done().contains("is expunged"));
    assert_eq!(nexus.database.count(in_service), 0);
    nexus.wait(&id, is("failed")).await;
    let sleds = nexus.process.admin(&["sled", "list"]).await.done();
    assert!(sleds.contains("expunged"), "{sleds}");
    let log = nexus.process.child.log();
    assert!(log.contains("a sled was expunged"));

    // By a Nexus that is named, and again, which is as good.
    let named = format!("https://{}", nexus.process.internal());
    let yes = [&expunge[..], &["--nexus", &named, "--yes"]].concat();
    nexus.process.admin(&yes).await.done();
    let nobody = [&expunge[..], &["--nexus", "https://127.0.0.1:1", "--yes"]];
    let why = nexus.process.admin(&nobody.concat()).await.refused(1);
    assert!(why.contains("no answer from Nexus"), "{why}");
}

#[tokio::test]
async fn what_is_not_there_or_wrongly_asked_for_is_told_apart_from_a_failure() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = uuid::Uuid::new_v4().to_string();
    for (args, words) in [
        (&["saga", "show", &id][..], "there is no saga"),
        (&["saga", "abandon", &id, "--yes"], "there is no saga"),
        (&["sled", "expunge", &id, "--yes"], "there is no sled"),
        (&["instance", "show", &id], "there is no instance"),
        (&["instance", "show", "main/demo/db"], "there is no instance"),
        (&["instance", "show", "db"], "SILO/PROJECT/NAME"),
        (&["saga", "list", "--state", "lost"], "running, unwinding"),
        (&["saga", "show", "1"], "invalid value"),
    ] {
        let why = nexus.process.admin(args).await.refused(2);
        assert!(why.contains(words), "{words}: {why}");
    }
    let why = nexus_admin(&["status"], "").await.refused(2);
    assert!(why.contains("--config"), "{why}");
    let by_url = ["--database-url", &nexus.database.url];
    nexus_admin(&[&by_url[..], &["status"]].concat(), "").await.done();
    // Only the configuration knows the secret.
    let expunge = [&by_url[..], &["sled", "expunge", &id]].concat();
    let why = nexus_admin(&expunge, "").await.refused(2);
    assert!(why.contains("--config"), "{why}");
}

#[tokio::test]
async fn a_database_that_is_away_is_said_to_be_within_seconds() {
    // Nobody listens there; and somebody does who says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap();
    for host in ["127.0.0.1:1".to_string(), silent.to_string()] {
        let began = Instant::now();
        let url = format!("postgresql://nexus:hush-hush@{host}/nexus");
        let said = nexus_admin(&["--database-url", &url, "status"], "").await;
        let why = said.refused(1);
        assert!(why.contains("the database cannot be reached"), "{why}");
        assert!(!why.contains("hush"), "{why}");
        assert!(began.elapsed() < Duration::from_secs(20), "{host}");
    }
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for (change, words) in [("+ 1", "newer"), ("- 2", "older")] {
        nexus
            .sql(&format!("UPDATE db_metadata SET version = version {change}"));
        let why = nexus.process.admin(&["status"]).await.refused(1);
        assert!(why.contains(words), "{why}");
    }
}

/// The paths of a JSON value's fields, down to those that `leaves` names.
fn fields(
    value: &Value,
    at: &str,
    leaves: &[&str],
    found: &mut BTreeSet<String>,
) {
    if leaves.contains(&at) {
        found.insert(at.to_string());
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if at.is_empty() { "" } else { "." };
                fields(value, &format!("{at}{dot}{key}"), leaves, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                fields(value, &format!("{at}[]"), leaves, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(at.to_string());
        }
    }
}

#[tokio::test]
async fn the_fields_that_scripts_read_are_those_that_are_documented() {
    let mut nexus = TestNexus::with(patient()).await;
    let large = nexus.create_sized("large", 100, 2).await;
    nexus.wait(&large, is("failed")).await;
    let never = json!({ "auto_restart_policy": "never" });
    let (crashed, vmm) = nexus.running("crashed", never).await;
    nexus.agents[0].guest(&vmm, "panic").await;
    nexus.wait(&crashed, is("failed")).await;
    nexus.process.child.terminate().await;
    nexus.restart_nexus().await;
    let (id, saga) = at_the_sled(&nexus).await;
    // As after a look that failed.
    nexus.sql(&format!(
        "UPDATE instance SET reconcile_errors = 1, \
             reconcile_last_error = 'the look failed' WHERE id = '{id}'"
    ));
    let ended = nexus.process.admin_json(&["instance", "show", &large]).await;
    let ended = ended["attempts"][0]["saga_id"].as_str().unwrap().to_string();
    let sled = nexus.agents[0].id.clone();

    let doc = include_str!("../../docs/operations.md");
    let block = doc.split("```fields\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    for (command, variants) in [
        ("status", vec![vec!["status"]]),
        ("saga list", vec![vec!["saga", "list", "--all"]]),
        (
            "saga show",
            vec![vec!["saga", "show", &saga], vec!["saga", "show", &ended]],
        ),
        (
            "instance show",
            vec![
                vec!["instance", "show", &id],
                vec!["instance", "show", &large],
                vec!["instance", "show", &crashed],
            ],
        ),
        ("sled list", vec![vec!["sled", "list"]]),
        ("sled token issue", vec![vec!["sled", "token", "issue"]]),
        ("sled token list", vec![vec!["sled", "token", "list"]]),
        ("saga abandon", vec![vec!["saga", "abandon", &saga, "--yes"]]),
        ("sled expunge", vec![vec!["sled", "expunge", &sled, "--yes"]]),
    ] {
        let documented: BTreeSet<String> = block
            .lines()
            .skip_while(|line| *line != command)
            .skip(1)
            .take_while(|line| line.starts_with(' '))
            .map(|line| line.trim().to_string())
            .collect();
        let leaves: Vec<&str> = documented.iter().map(String::as_str).collect();
        let mut found = BTreeSet::new();
        for args in variants {
            let json = nexus.process.admin_json(&args).await;
            let text = nexus.process.admin(&args).await;
            assert!(!json.to_string().contains(SLED_SECRET));
            assert!(!format!("{text:?}").contains(SLED_SECRET));
            fields(&json, "", &leaves, &mut found);
        }
        // What is null has no fields of its own.
        found.retain(|field| {
            let prefix = format!("{field}.");
            !leaves.iter().any(|leaf| leaf.starts_with(&prefix))
        });
        assert_eq!(found, documented, "{command}");
    }
}

#[test]
fn the_documented_times_and_bounds_are_the_defaults() {
    let doc = include_str!("../../docs/operations.md");
    let tuning = format!("{:?}", nexus::config::Tuning::default());
    let fields = tuning.trim_start_matches("Tuning { ").trim_end_matches(" }");
    for field in fields.split(", ") {
        let (key, value) = field.split_once(": ").unwrap();
        let row = format!("| `{key}` | {value} |");
        assert!(doc.contains(&row), "no {row}");
    }
}

#[tokio::test]
async fn the_first_admin_is_made_once_and_users_are_let_in_again() {
    let database = Database::create().await;
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning::default();
    let nexus = NexusProcess::start(dir.path(), &database.url, &tuning).await;
    let two = tokio::join!(nexus.init("a good password"), nexus.init(""));
    let (one, other) = match two {
        (Ok(one), Err(other)) | (Err(other), Ok(one)) => (one, other),
        both => panic!("one of two wins: {both:?}"),
    };
    assert!(other.contains("set up already"), "{other}");
    let again = nexus.init("").await.unwrap_err();
    assert!(again.contains("nexus-admin user"), "{again}");
    let token = one["token"].as_str().unwrap();
    let admin = nexus.client(&Token(token.to_string()));
    let me = admin.get("/v1/me").await.expect(200);
    assert_eq!(
        (&me["fleet_viewer"], &me["silo_admin"]),
        (&true.into(), &true.into())
    );
    assert_eq!(database.count("SELECT count(*) FROM silo_user"), 1);
    let password = one["password"].as_str().unwrap_or("a good password");
    let log_in = async |password: &str| {
        let body = json!({ "username": "admin", "password": password });
        admin.anonymous().post("/v1/login/main/local", body).await.status
    };
    assert_eq!(log_in(password).await, 204);

    let url = ["--database-url", &database.url];
    let ask = async |args: &[&str], typed: &str| {
        nexus_admin(&[&url, args].concat(), typed).await
    };
    let short =
        ask(&["user", "set-password", "main", "admin"], "short\n").await;
    assert!(short.refused(2).contains("8 to 512"));
    let unknown = ask(&["user", "set-password", "main", "ann"], "").await;
    assert!(unknown.refused(2).contains("no user \"ann\""));
    let set = ask(&["user", "set-password", "main", "admin"], "new password\n");
    set.await.done();
    assert_eq!(log_in(password).await, 401);
    assert_eq!(log_in("new password").await, 204);

    let args = ["user", "issue-token", "main", "admin", "--ttl-secs", "60"];
    let token = ask(&args, "").await.done().trim().to_string();
    nexus.client(&Token(token)).get("/v1/me").await.expect(200);
    let ends = "SELECT count(*) FROM api_token \
                WHERE time_expires BETWEEN now() AND now() + INTERVAL '61 s'";
    assert_eq!(database.count(ends), 1);
}
