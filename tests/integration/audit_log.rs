//! The audit log: every change, and every refused one.

use harness::{Setup, TestNexus, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const SINCE: &str = "/v1/system/audit-log?start_time=2026-01-01T00:00:00Z";

/// What is told of all that is completed, as if it were a minute ago.
async fn entries(nexus: &TestNexus) -> Vec<Value> {
    nexus
        .database
        .try_sql(
            "UPDATE audit_log \
             SET time_completed = time_completed - INTERVAL '1 minute'",
        )
        .unwrap();
    let page = nexus.get(&format!("{SINCE}&limit=1000")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

fn of<'a>(entries: &'a [Value], operation: &str) -> Vec<&'a Value> {
    entries.iter().filter(|e| e["operation_id"] == operation).collect()
}

#[tokio::test]
async fn changes_and_refused_ones_are_logged_and_looks_are_not() {
    let nexus = TestNexus::start().await;
    let body = json!({ "name": "audited", "description": "" });
    nexus.post("/v1/projects", body.clone()).await.expect(201);
    nexus.post("/v1/projects", body).await.error(400, "ObjectAlreadyExists");
    nexus
        .request(Method::DELETE, "/v1/vpcs/v", None)
        .await
        .error(501, "NotImplemented");
    nexus.get("/v1/projects").await.expect(200);
    let entries = entries(&nexus).await;
    let made = of(&entries, "project_create");
    let made: Vec<_> =
        made.into_iter().filter(|e| e["result"]["kind"] == "error").collect();
    assert_eq!(made.len(), 1, "{entries:?}");
    assert_eq!(made[0]["result"]["http_status_code"], 400);
    assert_eq!(made[0]["result"]["error_code"], "ObjectAlreadyExists");
    assert_eq!(made[0]["actor"]["kind"], "silo_user");
    assert_eq!(made[0]["auth_method"], "access_token");
    assert_eq!(made[0]["source_ip"], "127.0.0.1");
    assert_eq!(of(&entries, "vpc_delete").len(), 1);
    assert!(of(&entries, "project_list").is_empty());
    let with_resource = nexus.database.count(
        "SELECT count(*) FROM audit_log a JOIN project p \
         ON p.id = a.resource_id AND p.name = 'audited'",
    );
    assert_eq!(with_resource, 1);
}

#[tokio::test]
async fn the_log_is_led_through_page_by_page_both_ways() {
    let nexus = TestNexus::start().await;
    for n in 0..5 {
        let body = json!({ "name": format!("p{n}"), "description": "" });
        nexus.post("/v1/projects", body).await.expect(201);
    }
    let all = entries(&nexus).await;
    for sort in ["time_and_id_ascending", "time_and_id_descending"] {
        let mut seen = Vec::new();
        let mut path = format!("{SINCE}&limit=2&sort_by={sort}");
        loop {
            let page = nexus.get(&path).await.expect(200);
            seen.extend(page["items"].as_array().unwrap().clone());
            let Some(token) = page["next_page"].as_str() else { break };
            path = format!("/v1/system/audit-log?limit=2&page_token={token}");
        }
        if sort.ends_with("descending") {
            seen.reverse();
        }
        assert_eq!(seen, all, "{sort}");
    }
}

#[tokio::test]
async fn what_nobody_completed_is_listed_as_unknown() {
    let nexus = TestNexus::start().await;
    let name = json!({ "name": "lost", "description": "" });
    nexus.post("/v1/projects", name).await.expect(201);
    nexus
        .database
        .try_sql(
            "UPDATE audit_log SET time_completed = NULL, http_status = NULL, \
                 time_started = time_started - INTERVAL '10 minutes' \
             WHERE operation_id = 'project_create'",
        )
        .unwrap();
    assert!(of(&entries(&nexus).await, "project_create").is_empty());
    let store = nexus.database.datastore();
    store.audit_log_give_up(300).await.unwrap();
    let all = entries(&nexus).await;
    let lost = of(&all, "project_create");
    assert!(!lost.is_empty());
    assert!(lost.iter().all(|e| e["result"] == json!({"kind": "unknown"})));
    assert_eq!(store.audit_log_give_up(300).await.unwrap(), 0);
}

#[tokio::test]
async fn entries_are_kept_for_as_many_days_as_is_said() {
    let nexus = TestNexus::start().await;
    let body = json!({ "name": "old", "description": "" });
    nexus.post("/v1/projects", body).await.expect(201);
    let store = nexus.database.datastore();
    assert_eq!(store.audit_log_prune(1).await.unwrap(), (0, false));
    nexus
        .database
        .try_sql(
            "UPDATE audit_log \
             SET time_completed = time_completed - INTERVAL '2 days'",
        )
        .unwrap();
    let before = nexus.database.count("SELECT count(*) FROM audit_log");
    assert!(before > 0);
    store.audit_log_prune(1).await.unwrap();
    assert_eq!(nexus.database.count("SELECT count(*) FROM audit_log"), 0);
}

#[tokio::test]
async fn who_logs_in_and_out_and_lets_a_device_in_is_named() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.make_user("ann").await;
    let (ann, _) = nexus.login("ann").await;
    let sessions = ann.get(&format!("/v1/users/{id}/sessions")).await;
    let session = sessions.expect(200)["items"][0]["id"].clone();

    let client_id = Uuid::new_v4();
    let anybody = nexus.anonymous();
    let form = format!("client_id={client_id}");
    let codes = anybody.post_form("/device/auth", &form).await.expect(200);
    let code = json!({ "user_code": codes["user_code"] });
    ann.post("/device/confirm", code).await.expect(204);
    let form = format!(
        "client_id={client_id}&device_code={}&grant_type={}",
        codes["device_code"].as_str().unwrap(),
        "urn:ietf:params:oauth:grant-type:device_code",
    );
    let given = anybody.post_form("/device/token", &form).await.expect(200);
    ann.post("/v1/logout", Value::Null).await.expect(204);
    let wrong = json!({ "username": "ann", "password": "wrong horse" });
    let login = "/v1/login/main/local";
    anybody.post(login, wrong).await.error(401, "Unauthorized");

    let entries = entries(&nexus).await;
    for (operation, method, credential) in [
        ("login_local", "session_cookie", &session),
        ("logout", "session_cookie", &session),
        ("device_access_token", "access_token", &given["token_id"]),
    ] {
        let entry = of(&entries, operation)[0];
        assert_eq!(entry["actor"]["silo_user_id"], id.as_str(), "{entry}");
        assert_eq!(entry["auth_method"], method);
        assert_eq!(&entry["credential_id"], credential);
        let about = nexus.database.texts(&format!(
            "SELECT resource_id::TEXT FROM audit_log \
             WHERE operation_id = '{operation}' AND http_status < 400"
        ));
        assert_eq!(about, [credential.as_str().unwrap()]);
    }
    let failed = of(&entries, "login_local")[1];
    assert_eq!(failed["actor"]["kind"], "unauthenticated");
    assert_eq!(failed["result"]["http_status_code"], 401);
}

#[tokio::test]
async fn a_login_is_written_down_before_it_is_done() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    nexus.make_user("ann").await;
    let held = nexus
        .database
        .hold("SELECT id FROM silo_user WHERE external_id = 'ann' FOR UPDATE");
    let login = nexus.login("ann");
    let begun = eventually("it is begun", async || {
        let sql = "SELECT count(*) FROM audit_log \
             WHERE operation_id = 'login_local' AND time_completed IS NULL";
        (nexus.database.count(sql) == 1).then_some(())
    });
    let lifted = async {
        begun.await;
        held.lift();
    };
    tokio::join!(login, lifted);
}

#[tokio::test]
async fn a_password_in_the_wrong_place_is_repeated_nowhere() {
    const SECRET: &str = "Hunter-22!";
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.make_user("ann").await;
    let users = "/v1/system/identity-providers/local/users";
    let set = format!("{users}/{id}/set-password?silo=main");
    let create = format!("{users}?silo=main");
    let name = json!({ "username": SECRET, "password": SECRET });
    for (path, body) in [
        (set.as_str(), json!(SECRET)),
        (&set, json!({ "mode": SECRET, "value": SECRET })),
        (&create, json!({ "external_id": SECRET, "password": SECRET })),
        ("/v1/login/main/local", name),
        ("/v1/login/main/local", json!({ "username": [SECRET] })),
        ("/device/confirm", json!({ "user_code": [SECRET] })),
        ("/device/confirm", json!({ "user_code": SECRET })),
    ] {
        let answer = nexus.post(path, body).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
    }
    let form = format!("grant_type={SECRET}&client_id={SECRET}&device_code=");
    let answer = nexus.post_form("/device/token", &form).await;
    assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");

    let logged = nexus.database.texts(
        "SELECT row_to_json(a)::TEXT FROM audit_log a WHERE http_status = 400",
    );
    assert_eq!(logged.len(), 8, "{logged:#?}");
    assert!(!logged.join("\n").contains(SECRET), "{logged:#?}");
    assert!(!nexus.process.child.log().contains(SECRET));
}
