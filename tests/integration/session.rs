//! Console sessions: begun by a password, shown by a cookie, ended by time, by
//! their user, or by an admin.

use harness::{Answer, Client, PASSWORD, Setup, TestNexus, eventually};
use serde_json::{Value, json};

/// No sleds: nothing runs here.
async fn nexus() -> TestNexus {
    TestNexus::with(Setup { sleds: 0, ..Setup::default() }).await
}

async fn set_password(nexus: &Client, id: &str, password: Value) -> Answer {
    let path = format!(
        "/v1/system/identity-providers/local/users/{id}/set-password?silo=main"
    );
    nexus.post(&path, password).await
}

#[tokio::test]
async fn a_cookie_is_as_good_as_a_token_until_its_user_logs_out() {
    let nexus = nexus().await;
    let id = nexus.make_user("ann").await;
    let (ann, cookie) = nexus.login("ann").await;
    assert!(cookie.starts_with("session=nexus-session-"), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=86400"),
        "{cookie}"
    );
    assert_eq!(ann.get("/v1/me").await.expect(200)["id"], id.as_str());
    // The secret is nowhere in the database.
    let (_, secret) = cookie.split_once('=').unwrap();
    let (secret, _) = secret.split_once(';').unwrap();
    let kept = nexus.database.texts(
        "SELECT row_to_json(s)::TEXT FROM console_session s \
         UNION ALL SELECT row_to_json(p)::TEXT FROM silo_user_password p",
    );
    assert_eq!(kept.len(), 2);
    let kept = kept.join("\n");
    assert!(!kept.contains(secret) && !kept.contains(PASSWORD), "{kept}");

    let path = format!("/v1/users/{id}/sessions");
    let sessions = ann.get(&path).await.expect(200);
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");

    let out = ann.post("/v1/logout", Value::Null).await;
    let cleared = out.set_cookie.clone().unwrap();
    assert!(cleared.starts_with("session=; "), "{cleared}");
    assert!(cleared.contains("Max-Age=0"), "{cleared}");
    out.expect(204);
    ann.get("/v1/me").await.error(401, "Unauthorized");
    // And whoever is not logged in may do so again.
    ann.post("/v1/logout", Value::Null).await.expect(204);
}

#[tokio::test]
async fn a_wrong_name_a_wrong_silo_and_a_wrong_password_look_alike() {
    let nexus = nexus().await;
    nexus.make_user("ann").await;
    let mut messages = Vec::new();
    for (silo, name, password) in [
        ("main", "ann", "wrong horse"),
        ("main", "bob", PASSWORD),
        // Who has no password has no wrong one.
        ("main", "admin", PASSWORD),
        ("other", "ann", PASSWORD),
    ] {
        let body = json!({ "username": name, "password": password });
        let path = format!("/v1/login/{silo}/local");
        let answer = nexus.anonymous().post(&path, body).await;
        assert_eq!(answer.set_cookie, None);
        messages.push(answer.error(401, "Unauthorized"));
    }
    messages.dedup();
    assert_eq!(messages, ["user name or password wrong"]);
    let body = json!({ "username": "Ann!", "password": "" });
    let path = "/v1/login/main/local";
    let answer = nexus.anonymous().post(path, body).await;
    let message = answer.error(400, "InvalidRequest");
    assert!(message.contains("\"username\""), "{message}");
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_the_user_gets_in_again() {
    let nexus = nexus().await;
    nexus.make_user("ann").await;
    for name in ["ann", "nobody"] {
        for _ in 0..5 {
            nexus.try_login(name, "wrong horse").await.expect(401);
        }
        // From here on the right one is not even looked at.
        let answer = nexus.try_login(name, PASSWORD).await;
        assert_eq!(answer.retry_after.as_deref(), Some("1"), "{name}");
        let message = answer.error(429, "TooManyRequests");
        assert!(message.contains("Nothing was tried"), "{message}");
    }
    // The time passes.
    let past =
        "UPDATE login_guess SET time_last = time_last - INTERVAL '1 minute'";
    nexus.database.try_sql(past).unwrap();
    nexus.login("ann").await;
    let counted = "SELECT count(*) FROM login_guess";
    assert_eq!(nexus.database.count(counted), 1, "of nobody");
    nexus.try_login("ann", "wrong horse").await.expect(401);
}

#[tokio::test]
async fn who_guesses_is_told_by_no_nexus_which_names_are_somebody_s() {
    let setup = Setup { sleds: 0, other_nexuses: 1, ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    nexus.make_user("ann").await;
    let at = [nexus.process.external(), nexus.others[0].external()];
    let guess = async |name: &str, n: usize| {
        nexus.anonymous().at(at[n % 2]).try_login(name, "wrong horse").await
    };
    for name in ["ann", "nobody", "admin"] {
        for n in 0..5 {
            guess(name, n).await.expect(401);
        }
    }
    nexus.database.try_sql("UPDATE login_guess SET failures = 7").unwrap();
    for name in ["ann", "nobody", "admin"] {
        for n in 0..2 {
            let answer = guess(name, n).await;
            assert!(answer.retry_after.is_some());
            answer.error(429, "TooManyRequests");
        }
    }
    // After an hour they do not count, and are forgotten; a name that became
    // somebody's, or another password, changes nothing before.
    let past = "UPDATE login_guess \
                SET failures = 13, time_last = time_last - INTERVAL '1 minute'";
    nexus.database.try_sql(past).unwrap();
    nexus.make_user("nobody").await;
    for name in ["ann", "nobody", "admin"] {
        guess(name, 0).await.error(429, "TooManyRequests");
    }
    let past =
        "UPDATE login_guess SET time_last = time_last - INTERVAL '1 hour'";
    nexus.database.try_sql(past).unwrap();
    guess("ann", 0).await.expect(401);
    guess("ann", 1).await.expect(401);
    let store = nexus.database.datastore();
    assert_eq!(store.login_guesses_prune().await.unwrap(), (2, false));
    let counted = "SELECT failures FROM login_guess";
    assert_eq!(nexus.database.count(counted), 2, "of ann");
}

#[tokio::test]
async fn of_many_guesses_at_once_each_counts() {
    let nexus = nexus().await;
    nexus.make_user("ann").await;
    let guesses = (0..20).map(|_| nexus.try_login("ann", "wrong horse"));
    let answers = futures::future::join_all(guesses).await;
    let tried = answers.iter().filter(|a| a.status == 401).count();
    let put_off = answers.iter().filter(|a| a.status == 429).count();
    assert_eq!(tried + put_off, 20);
    assert!((5..=7).contains(&tried), "{tried} were tried");
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_when_it_is_old() {
    let nexus = nexus().await;
    nexus.make_user("ann").await;
    let age = |column: &str, hours: u32| {
        let sql = format!(
            "UPDATE console_session \
             SET {column} = now() - INTERVAL '{hours} hours'"
        );
        nexus.database.try_sql(&sql).unwrap();
    };
    let (ann, _) = nexus.login("ann").await;
    age("time_last_used", 7);
    let idle = "SELECT count(*) FROM console_session \
                WHERE time_last_used < now() - INTERVAL '1 hour'";
    eventually("it is known to be used", async || {
        ann.get("/v1/me").await.expect(200);
        (nexus.database.count(idle) == 0).then_some(())
    })
    .await;
    age("time_last_used", 9);
    ann.until_refused().await;

    let (ann, _) = nexus.login("ann").await;
    age("time_created", 23);
    ann.get("/v1/me").await.expect(200);
    age("time_created", 25);
    ann.until_refused().await;
}

#[tokio::test]
async fn another_password_ends_the_sessions_of_the_old_one() {
    let nexus = nexus().await;
    let id = nexus.make_user("ann").await;
    let token = nexus.process.bootstrap("main", "ann", false).await;
    let (ann, _) = nexus.login("ann").await;
    let short = json!({ "mode": "password", "value": "short" });
    let message = set_password(&nexus, &id, short).await;
    let message = message.error(400, "InvalidValue");
    assert_eq!(message, "password: it has 5 characters: it must have 8 to 512");
    ann.get("/v1/me").await.expect(200);
    // A user sets its own.
    let other = json!({ "mode": "password", "value": "another horse" });
    set_password(&ann, &id, other).await.expect(204);
    ann.get("/v1/me").await.error(401, "Unauthorized");
    nexus.with_token(&token.0).get("/v1/me").await.expect(200);
    nexus.try_login("ann", PASSWORD).await.expect(401);
    nexus.try_login("ann", "another horse").await.expect(204);

    let none = json!({ "mode": "login_disallowed" });
    set_password(&nexus, &id, none).await.expect(204);
    nexus.try_login("ann", "another horse").await.expect(401);
}

#[tokio::test]
async fn who_is_logged_out_or_deleted_is_out_at_once_and_soon_everywhere() {
    let setup = Setup { sleds: 0, other_nexuses: 1, ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    let id = nexus.make_user("ann").await;
    let token = nexus.process.bootstrap("main", "ann", false).await.0;
    let (ann, _) = nexus.login("ann").await;
    let there = nexus.others[0].external();
    for client in [ann.clone(), nexus.with_token(&token)] {
        client.get("/v1/me").await.expect(200);
        client.at(there).get("/v1/me").await.expect(200);
    }
    let path = format!("/v1/users/{id}/logout");
    nexus.post(&path, Value::Null).await.expect(204);
    for client in [ann, nexus.with_token(&token)] {
        client.get("/v1/me").await.error(401, "Unauthorized");
        client.at(there).until_refused().await;
    }

    let (ann, _) = nexus.login("ann").await;
    let path =
        format!("/v1/system/identity-providers/local/users/{id}?silo=main");
    nexus.delete(&path).await.expect(204);
    ann.get("/v1/me").await.error(401, "Unauthorized");
    ann.at(there).until_refused().await;
    nexus.try_login("ann", PASSWORD).await.expect(401);
    nexus.get(&format!("/v1/users/{id}")).await.error(404, "ObjectNotFound");
    // Its name is free.
    nexus.make_user("ann").await;
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_deleted_one_by_one() {
    let nexus = nexus().await;
    let id = nexus.make_user("ann").await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(nexus.process.bootstrap("main", "ann", false).await.0);
    }
    let ann = nexus.with_token(&tokens[0]);
    let list = ann.get("/v1/me/access-tokens").await.expect(200);
    let ids: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(!list.to_string().contains("nexus-token"), "{list}");
    let of_user = format!("/v1/users/{id}/access-tokens");
    assert_eq!(nexus.get(&of_user).await.expect(200), list);

    // Another's cannot be deleted so.
    let path = format!("/v1/me/access-tokens/{}", ids[0]);
    nexus.delete(&path).await.error(404, "ObjectNotFound");
    for id in &ids[..2] {
        let deleted = ann.delete(&format!("/v1/me/access-tokens/{id}")).await;
        // One of them may have been the one that is shown.
        assert!([204, 401].contains(&deleted.status), "{deleted:?}");
    }
    eventually("a token is gone", async || {
        let mut gone = 0;
        for token in &tokens {
            let me = nexus.with_token(token).get("/v1/me").await;
            gone += u32::from(me.status == 401);
        }
        (gone >= 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_login_that_is_under_way_does_not_outlive_its_password() {
    let nexus = nexus().await;
    let id = nexus.make_user("ann").await;
    // The password is compared, and the session not begun.
    let row = format!("SELECT 1 FROM silo_user WHERE id = '{id}' FOR UPDATE");
    let mut held = nexus.database.hold(&row);
    let client = nexus.anonymous();
    let login =
        tokio::spawn(async move { client.try_login("ann", PASSWORD).await });
    held.reached_by(1).await;
    let taken = "DELETE FROM silo_user_password";
    nexus.database.try_sql(taken).unwrap();
    held.lift();
    login.await.unwrap().error(401, "Unauthorized");
    let sessions = "SELECT count(*) FROM console_session";
    assert_eq!(nexus.database.count(sessions), 0);
}

#[tokio::test]
async fn nobody_becomes_more_by_setting_a_password() {
    let nexus = nexus().await;
    let me = nexus.get("/v1/me").await.expect(200);
    let password = json!({ "mode": "password", "value": "of one's own" });

    // An admin of a silo that an admin of the fleet is in.
    let token = nexus.process.bootstrap("main", "boss", false).await;
    let boss = nexus.with_token(&token.0);
    let admin = me["id"].as_str().unwrap();
    set_password(&boss, admin, password.clone()).await.error(403, "Forbidden");
    let ann = nexus.make_user("ann").await;
    set_password(&boss, &ann, password.clone()).await.expect(204);

    // A token of hers, which may have leaked; and she herself.
    let by_token = {
        let token = nexus.process.bootstrap("main", "ann", false).await;
        let roles =
            format!("DELETE FROM role_assignment WHERE silo_user_id = '{ann}'");
        nexus.database.try_sql(&roles).unwrap();
        nexus.with_token(&token.0)
    };
    let theirs = json!({ "mode": "password", "value": "of the thief's" });
    let refusal = set_password(&by_token, &ann, theirs.clone()).await;
    let message = refusal.error(403, "Forbidden");
    assert!(message.contains("log in, and set it then"), "{message}");
    let login = nexus.try_login("ann", "of one's own").await;
    let cookie = login.set_cookie.clone().unwrap();
    let (pair, _) = cookie.split_once(';').unwrap();
    let she = nexus.with_cookie(pair);
    set_password(&she, &ann, theirs).await.expect(204);
}
