//! Login of devices (RFC 8628), as the `oxide` command line does it and as who
//! means ill does.

use harness::{Answer, Client, Setup, TestNexus};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// A device that waits.
struct Device {
    nexus: Client,
    client_id: Uuid,
    device_code: String,
    user_code: String,
}

impl Device {
    async fn ask(nexus: &Client) -> Device {
        Device::ask_for(nexus, "").await
    }

    /// One that wants a token as `more` says.
    async fn ask_for(nexus: &Client, more: &str) -> Device {
        let nexus = nexus.anonymous();
        let client_id = Uuid::new_v4();
        let form = format!("client_id={client_id}{more}");
        let codes = nexus.post_form("/device/auth", &form).await.expect(200);
        let code = |key: &str| codes[key].as_str().unwrap().to_string();
        let (device_code, user_code) = (code("device_code"), code("user_code"));
        Device { nexus, client_id, device_code, user_code }
    }

    async fn poll(&self) -> Answer {
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        self.poll_as(self.client_id, &self.device_code, grant).await
    }

    async fn poll_as(&self, client: Uuid, code: &str, grant: &str) -> Answer {
        let form =
            format!("client_id={client}&device_code={code}&grant_type={grant}");
        self.nexus.post_form("/device/token", &form).await
    }

    async fn token(&self) -> Value {
        self.poll().await.expect(200)
    }

    /// It is refused with this `error`.
    async fn refused(&self, error: &str) {
        refused(self.poll().await, error);
    }

    async fn confirm(&self, user: &Client) -> Answer {
        let body = json!({ "user_code": self.user_code });
        user.post("/device/confirm", body).await
    }
}

/// What an RFC says that a refusal is, beside what all of ours are.
#[track_caller]
fn refused(answer: Answer, error: &str) {
    assert_eq!(answer.body["error"], error, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let said = answer.body["error_description"].clone();
    assert_eq!(said, answer.clone().error(400, error), "both say the same");
}

/// A Nexus without sleds, and a user of it who is logged in.
async fn nexus() -> (TestNexus, Client) {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    nexus.make_user("ann").await;
    let (ann, _) = nexus.login("ann").await;
    (nexus, ann)
}

/// As if so many seconds had passed for all devices.
fn pass(nexus: &TestNexus, secs: u32) {
    nexus.sql(&format!(
        "UPDATE device_auth_request SET \
             time_created = time_created - INTERVAL '{secs} seconds', \
             time_expires = time_expires - INTERVAL '{secs} seconds', \
             time_last_polled = time_last_polled - INTERVAL '{secs} seconds', \
             time_confirmed = time_confirmed - INTERVAL '{secs} seconds', \
             time_used = time_used - INTERVAL '{secs} seconds'"
    ));
}

fn tokens(nexus: &TestNexus, user: &str) -> i64 {
    nexus.database.count(&format!(
        "SELECT count(*) FROM api_token t \
         JOIN silo_user u ON u.id = t.silo_user_id \
         WHERE u.external_id = '{user}'"
    ))
}

#[tokio::test]
async fn a_device_is_let_in_as_who_confirmed_it() {
    let (nexus, ann) = nexus().await;
    let client_id = Uuid::new_v4();
    let form = format!("client_id={client_id}");
    let anybody = nexus.anonymous();
    let answer = anybody.post_form("/device/auth", &form).await;
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    assert_eq!(answer.header("cache-control"), "no-store");
    let codes = answer.expect(200);
    let page = format!("http://{}/device/verify", nexus.process.external());
    assert_eq!(codes["verification_uri"], page);
    assert_eq!(
        (&codes["expires_in"], &codes["interval"]),
        (&600.into(), &5.into())
    );
    let user_code = codes["user_code"].as_str().unwrap().to_string();
    assert_eq!((user_code.len(), user_code.find('-')), (9, Some(4)));
    let device = Device {
        nexus: anybody,
        client_id,
        device_code: codes["device_code"].as_str().unwrap().to_string(),
        user_code,
    };

    device.refused("authorization_pending").await;
    pass(&nexus, 5);
    device.refused("authorization_pending").await;
    device.confirm(&ann).await.expect(204);
    let token = device.token().await;
    assert_eq!(token["token_type"], "bearer");
    assert_eq!(token["time_expires"], Value::Null);
    let secret = token["access_token"].as_str().unwrap();
    assert!(secret.starts_with("nexus-token-"), "{token}");

    let device = nexus.with_token(secret);
    assert_eq!(device.get("/v1/me").await.expect(200)["display_name"], "ann");
    let list = device.get("/v1/me/access-tokens").await.expect(200);
    assert_eq!(list["items"][0]["id"], token["token_id"]);
    // No secret is kept.
    let kept = nexus.database.texts(
        "SELECT row_to_json(d)::TEXT FROM device_auth_request d \
         UNION ALL SELECT row_to_json(t)::TEXT FROM api_token t",
    );
    let kept = kept.join("\n");
    let code = codes["device_code"].as_str().unwrap();
    assert!(!kept.contains(secret) && !kept.contains(code), "{kept}");
    let log = nexus.process.child.log();
    assert!(!log.contains(secret) && !log.contains(code));
    // Who did it is in the audit log, and waiting is not.
    let logged = |operation: &str, status: u32| {
        nexus.database.count(&format!(
            "SELECT count(*) FROM audit_log \
             WHERE operation_id = '{operation}' AND http_status = {status}"
        ))
    };
    assert_eq!(logged("device_auth_request", 200), 1);
    assert_eq!(logged("device_auth_confirm", 204), 1);
    assert_eq!(logged("device_access_token", 200), 1);
    assert_eq!(logged("device_access_token", 400), 0);
}

#[tokio::test]
async fn who_polls_too_often_is_slowed_down_until_it_has_waited() {
    let (nexus, ann) = nexus().await;
    let device = Device::ask(&nexus).await;
    device.refused("authorization_pending").await;
    for _ in 0..3 {
        device.refused("slow_down").await;
    }
    pass(&nexus, 4);
    device.refused("authorization_pending").await;
    // Once there is an answer nobody has to wait for it.
    device.confirm(&ann).await.expect(204);
    device.token().await;
}

#[tokio::test]
async fn a_device_waits_for_ten_minutes_and_no_longer() {
    let (nexus, ann) = nexus().await;
    let unconfirmed = Device::ask(&nexus).await;
    let confirmed = Device::ask(&nexus).await;
    confirmed.confirm(&ann).await.expect(204);
    pass(&nexus, 601);
    unconfirmed.refused("expired_token").await;
    confirmed.refused("expired_token").await;
    unconfirmed.confirm(&ann).await.error(404, "ObjectNotFound");
    assert_eq!(tokens(&nexus, "ann"), 0);
}

#[tokio::test]
async fn a_device_is_kept_out_if_its_user_says_so() {
    let (nexus, ann) = nexus().await;
    let device = Device::ask(&nexus).await;
    let form = format!("user_code={}&decision=deny", device.user_code);
    for _ in 0..2 {
        let page = ann.post_form("/device/verify", &form).await.text(200);
        assert!(page.contains("kept out"), "{page}");
    }
    device.refused("access_denied").await;
    device.confirm(&ann).await.error(404, "ObjectNotFound");
    device.refused("access_denied").await;
}

#[tokio::test]
async fn a_token_is_given_once_and_again_only_if_the_answer_was_lost() {
    let (nexus, ann) = nexus().await;
    let device = Device::ask(&nexus).await;
    // The answer to a confirmation may be lost, too.
    for _ in 0..2 {
        device.confirm(&ann).await.expect(204);
    }
    let token = device.token().await;
    assert_eq!(device.token().await["access_token"], token["access_token"]);
    assert_eq!(tokens(&nexus, "ann"), 1);
    pass(&nexus, 61);
    device.refused("invalid_grant").await;

    // A token that was deleted does not come back.
    let device = Device::ask(&nexus).await;
    device.confirm(&ann).await.expect(204);
    let token = device.token().await;
    let id = token["token_id"].as_str().unwrap();
    ann.delete(&format!("/v1/me/access-tokens/{id}")).await.expect(204);
    device.refused("invalid_grant").await;
    assert_eq!(tokens(&nexus, "ann"), 1);
}

#[tokio::test]
async fn many_polls_at_once_and_everywhere_give_one_token() {
    let setup = Setup { other_nexuses: 1, ..Setup::no_sled() };
    let nexus = TestNexus::with(setup).await;
    nexus.make_user("ann").await;
    let (ann, _) = nexus.login("ann").await;
    let device = Device::ask(&nexus).await;
    let there = nexus.others[0].external();
    let other = Device {
        nexus: device.nexus.at(there),
        client_id: device.client_id,
        device_code: device.device_code.clone(),
        user_code: device.user_code.clone(),
    };
    other.confirm(&ann.at(there)).await.expect(204);
    let polls = (0..16).map(|n| if n % 2 == 0 { &device } else { &other });
    let polls = polls.map(Device::token);
    let given = futures::future::join_all(polls).await;
    for token in &given {
        assert_eq!(token["access_token"], given[0]["access_token"]);
    }
    assert_eq!(tokens(&nexus, "ann"), 1);
}

#[tokio::test]
async fn who_is_logged_out_or_deleted_in_between_leaves_no_token() {
    let (nexus, _) = nexus().await;
    let id = nexus.make_user("bob").await;
    let logout = format!("/v1/users/{id}/logout");
    let delete =
        format!("/v1/system/identity-providers/local/users/{id}?silo=main");
    for (method, path) in [(Method::POST, logout), (Method::DELETE, delete)] {
        let (bob, _) = nexus.login("bob").await;
        let confirmed = Device::ask(&nexus).await;
        let given = Device::ask(&nexus).await;
        for device in [&confirmed, &given] {
            device.confirm(&bob).await.expect(204);
        }
        given.token().await;
        nexus.request(method, &path, None).await.expect(204);
        confirmed.refused("invalid_grant").await;
        given.refused("invalid_grant").await;
        let late = Device::ask(&nexus).await;
        late.confirm(&bob).await.error(401, "Unauthorized");
        late.refused("authorization_pending").await;
        assert_eq!(tokens(&nexus, "bob"), 0);
    }
}

#[tokio::test]
async fn a_logout_amid_polls_leaves_no_token() {
    let (nexus, _) = nexus().await;
    let id = nexus.make_user("bob").await;
    for _ in 0..8 {
        let (bob, _) = nexus.login("bob").await;
        let devices = [(); 4].map(|()| Device::ask(&nexus));
        let devices = futures::future::join_all(devices).await;
        let lives = devices.iter().map(async |device| {
            device.confirm(&bob).await;
            device.poll().await;
        });
        let path = format!("/v1/users/{id}/logout");
        let logout = nexus.post(&path, Value::Null);
        let (_, out) = tokio::join!(futures::future::join_all(lives), logout);
        out.expect(204);
        for device in &devices {
            let poll = device.poll().await;
            assert_ne!(poll.status, 200, "{poll:?}");
        }
        assert_eq!(tokens(&nexus, "bob"), 0);
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_is_wanted_and_allowed() {
    let (nexus, ann) = nexus().await;
    let life = async |more: &str, user: &Client| {
        let device = Device::ask_for(&nexus, more).await;
        let confirmed = device.confirm(user).await;
        if confirmed.status != 204 {
            return Err(confirmed.error(400, "InvalidRequest"));
        }
        Ok(device.token().await["expires_in"].as_i64())
    };
    assert_eq!(life("", &ann).await, Ok(None));
    assert_eq!(life("&ttl_seconds=60", &ann).await, Ok(Some(60)));
    let max = json!({ "device_token_max_ttl_seconds": 3600 });
    nexus.put("/v1/auth-settings", max).await.expect(200);
    assert_eq!(life("", &ann).await, Ok(Some(3600)));
    assert_eq!(life("&ttl_seconds=3600", &ann).await, Ok(Some(3600)));
    let why = life("&ttl_seconds=3601", &ann).await.unwrap_err();
    assert!(why.contains("at most 3600 seconds"), "{why}");

    // A token lets no other in for longer than itself.
    let short = Device::ask_for(&nexus, "&ttl_seconds=600").await;
    short.confirm(&ann).await.expect(204);
    let token = short.token().await;
    let short = nexus.with_token(token["access_token"].as_str().unwrap());
    let secs = life("", &short).await.unwrap().unwrap();
    assert!((580..=600).contains(&secs), "{secs}");
    let why = life("&ttl_seconds=700", &short).await.unwrap_err();
    assert!(why.contains("at most"), "{why}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_as_the_rfcs_have_it() {
    let (nexus, _) = nexus().await;
    let device = Device::ask(&nexus).await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let code = &device.device_code;
    let refuse = |answer: Answer, error: &str, status: u16, code: &str| {
        assert_eq!(answer.body["error"], error, "{answer:?}");
        answer.error(status, code)
    };
    let answer = device.poll_as(device.client_id, code, "password").await;
    refused(answer, "unsupported_grant_type");
    let answer = device.poll_as(Uuid::new_v4(), code, grant).await;
    refused(answer, "invalid_grant");
    let answer = device.poll_as(device.client_id, "guessed", grant).await;
    refused(answer, "invalid_grant");
    for (path, form) in [
        ("/device/auth", ""),
        ("/device/auth", "client_id=x"),
        ("/device/token", "grant_type=x"),
    ] {
        let answer = nexus.post_form(path, form).await;
        refuse(answer, "invalid_request", 400, "InvalidRequest");
    }
    let zero = format!("client_id={}&ttl_seconds=0", device.client_id);
    let answer = nexus.post_form("/device/auth", &zero).await;
    refuse(answer, "invalid_request", 400, "InvalidRequest");
    let json = nexus.post("/device/auth", json!({})).await;
    refuse(json, "invalid_request", 400, "InvalidRequest");
    let large = nexus.post_form("/device/auth", &"x".repeat(200_000)).await;
    refuse(large, "invalid_request", 413, "PayloadTooLarge");
}

#[tokio::test]
async fn a_code_is_taken_however_it_is_typed_and_guessed_slowly() {
    let (nexus, ann) = nexus().await;
    let device = Device::ask(&nexus).await;
    let confirm = async |user: &Client, code: &str| {
        user.post("/device/confirm", json!({ "user_code": code })).await
    };
    let why = confirm(&ann, "AEIO-UAEI").await.error(400, "InvalidValue");
    assert!(why.starts_with("user_code: "), "{why}");
    assert!(!why.contains("AEIO"), "it is repeated: {why}");
    let typed = device.user_code.replace('-', " ").to_lowercase();
    confirm(&ann, &typed).await.expect(204);

    for _ in 0..5 {
        confirm(&ann, "BBBB-BBBB").await.error(404, "ObjectNotFound");
    }
    let other = Device::ask(&nexus).await;
    let put_off = other.confirm(&ann).await;
    assert_eq!(put_off.retry_after.as_deref(), Some("1"));
    put_off.error(429, "TooManyRequests");
    // On the page, too.
    let path = format!("/device/verify?user_code={}", other.user_code);
    let page = ann.get(&path).await.text(429);
    assert!(page.contains("too many wrong codes"), "{page}");
    // Another user is not put off by that.
    other.confirm(&nexus).await.expect(204);
}

#[tokio::test]
async fn there_is_an_end_to_how_many_wait() {
    let (nexus, _) = nexus().await;
    nexus.sql(
        "INSERT INTO device_auth_request \
             (id, client_id, device_code_hash, user_code, time_created, \
              time_expires) \
         SELECT gen_random_uuid(), gen_random_uuid(), \
             encode(sha256(n::TEXT::BYTEA), 'hex'), n::TEXT, now(), \
             now() + INTERVAL '1 minute' \
         FROM generate_series(1, 10000) n",
    );
    let form = format!("client_id={}", Uuid::new_v4());
    let answer = nexus.post_form("/device/auth", &form).await;
    assert_eq!(answer.body["error"], "slow_down");
    assert_eq!(answer.retry_after.as_deref(), Some("60"));
    answer.error(429, "TooManyRequests");
    pass(&nexus, 60);
    Device::ask(&nexus).await;
}

#[tokio::test]
async fn what_has_run_out_is_forgotten() {
    let (nexus, ann) = nexus().await;
    let live = Device::ask_for(&nexus, "&ttl_seconds=3600").await;
    live.confirm(&ann).await.expect(204);
    live.token().await;
    let store = nexus.database.datastore();
    let life = db_queries::SessionLife {
        idle: chrono::TimeDelta::hours(8),
        absolute: chrono::TimeDelta::hours(24),
    };
    let prune = async || {
        let tokens = store.api_tokens_prune().await.unwrap().0;
        let sessions = store.sessions_prune(life).await.unwrap().0;
        let devices = store.device_requests_prune().await.unwrap().0;
        (tokens, sessions, devices)
    };
    assert_eq!(prune().await, (0, 0, 0));
    pass(&nexus, 600 + 3500);
    assert_eq!(prune().await, (0, 0, 0), "it is told that it is too late");
    pass(&nexus, 200);
    nexus.sql(
        "UPDATE api_token SET time_expires = now() - INTERVAL '1 second' \
             WHERE time_expires IS NOT NULL; \
         UPDATE console_session \
             SET time_created = now() - INTERVAL '25 hours'",
    );
    assert_eq!(prune().await, (1, 1, 1));
    nexus.get("/v1/me").await.expect(200);
}
