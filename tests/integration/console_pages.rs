//! Pages for people, the web console's files, and what a browser may ask whose
//! user is on another site's page.

use harness::{Answer, Client, PASSWORD, Setup, TestNexus};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOGIN: &str = "/login/main/local";

/// A Nexus without sleds, and a user of it who is logged in.
async fn nexus() -> (TestNexus, Client) {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    nexus.make_user("ann").await;
    let (ann, _) = nexus.login("ann").await;
    (nexus, ann)
}

/// The same, with a console.
async fn with_console() -> (TestNexus, Client) {
    let (mut nexus, ann) = nexus().await;
    let dir = nexus.dir.path().join("console");
    for (path, text) in [
        ("index.html", "<!DOCTYPE html><title>Console</title>"),
        ("secret.txt", "not for anybody"),
        ("assets/main-x1.js", "console.log(1)"),
        ("assets/main-x1.js.gz", "gzipped"),
        ("assets/main-x1.js.br", "brotlied"),
        ("assets/fonts/a.woff2", "font"),
        ("assets/logo.svg", "<svg/>"),
    ] {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    nexus.kill_nexus().await;
    nexus.restart_nexus().await;
    (nexus, ann)
}

async fn user_code(nexus: &Client) -> String {
    let form = format!("client_id={}", uuid::Uuid::nil());
    let codes = nexus.post_form("/device/auth", &form).await.expect(200);
    codes["user_code"].as_str().unwrap().to_string()
}

/// What protects whoever looks at it.
#[track_caller]
fn is_strict(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe-eval"), "{policy}");
    let scripts = policy.split(';').find(|part| part.contains("script-src"));
    assert!(!scripts.is_some_and(|it| it.contains("unsafe")), "{policy}");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "same-origin");
}

#[tokio::test]
async fn one_logs_in_on_a_page_and_goes_on_where_one_wanted_to() {
    let (nexus, _) = nexus().await;
    let anybody = nexus.anonymous();
    let sent = anybody.get("/device/verify?user_code=BCDF-GHJK").await;
    assert_eq!(sent.status, 302);
    is_strict(&sent);
    let to = sent.header("location").to_string();
    let back = "%2Fdevice%2Fverify%3Fuser_code%3DBCDF-GHJK";
    assert_eq!(to, format!("{LOGIN}?redirect_uri={back}"));
    let page = anybody.get(&to).await;
    is_strict(&page);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-store");
    let html = page.text(200);
    for part in [
        "<html lang=\"en\">",
        "<label for=\"username\">Username</label>",
        "<label for=\"password\">Password</label>",
        "value=\"/device/verify?user_code=BCDF-GHJK\"",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    assert!(!html.contains("<script"), "{html}");

    let submit = async |name: &str, password: &str, then: &str| {
        let form =
            format!("username={name}&password={password}&redirect_uri={then}");
        anybody.post_form(LOGIN, &form).await
    };
    let wrong = submit("%3Cann", "wrong", "").await;
    is_strict(&wrong);
    assert_eq!(wrong.set_cookie, None);
    let html = wrong.text(401);
    assert!(html.contains("role=\"alert\""), "{html}");
    assert!(html.contains("value=\"&lt;ann\""), "{html}");
    assert!(html.contains("user name or password wrong"), "{html}");

    let right = submit("ann", "correct+horse", back).await;
    assert_eq!(right.status, 303);
    assert_eq!(right.header("location"), "/device/verify?user_code=BCDF-GHJK");
    let cookie = right.set_cookie.clone().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax;"), "{cookie}");
    let ann = nexus.with_cookie(cookie.split_once(';').unwrap().0);
    ann.get("/v1/me").await.expect(200);
    // Nobody is sent to another server.
    for then in ["%2F%2Fevil.example", "https%3A%2F%2Fevil.example", "%2F%5Cx"]
    {
        let right = submit("ann", "correct+horse", then).await;
        assert_eq!((right.status, right.header("location")), (303, "/"));
    }
    for _ in 0..5 {
        submit("ann", "wrong", "").await.text(401);
    }
    let put_off = submit("ann", "correct+horse", "").await;
    assert_eq!(put_off.retry_after.as_deref(), Some("1"));
    put_off.text(429);
}

#[tokio::test]
async fn where_there_are_several_silos_one_says_which() {
    let (nexus, _) = nexus().await;
    nexus.other_silo("other").await;
    let anybody = nexus.anonymous();
    let sent = anybody.get("/device/verify").await;
    let to = sent.header("location").to_string();
    assert_eq!(to, "/login?redirect_uri=%2Fdevice%2Fverify");
    let page = anybody.get(&to).await;
    is_strict(&page);
    assert!(page.text(200).contains("<label for=\"silo\">Silo</label>"));
    let sent = anybody.get(&format!("{to}&silo=other")).await;
    assert_eq!(sent.status, 302);
    assert_eq!(
        sent.header("location"),
        "/login/other/local?redirect_uri=%2Fdevice%2Fverify"
    );
    let page = anybody.get(&format!("{to}&silo=%3Cscript%3E")).await.text(200);
    assert!(page.contains("role=\"alert\""), "{page}");
}

#[tokio::test]
async fn a_page_tells_what_is_allowed_before_it_is() {
    let (nexus, ann) = nexus().await;
    let code = user_code(&nexus).await;
    let page = ann.get("/device/verify").await;
    is_strict(&page);
    assert!(page.text(200).contains("<label for=\"user_code\">Code</label>"));
    let path = format!("/device/verify?user_code={}", code.to_lowercase());
    let page = ann.get(&path).await;
    is_strict(&page);
    let html = page.text(200);
    for part in [
        &*code,
        "client 00000000-0000-0000-0000-000000000000",
        "user ann of the silo main",
        "until you delete it",
        "value=\"allow\"",
        "value=\"deny\"",
    ] {
        assert!(html.contains(part), "{part} is not in {html}");
    }
    let unknown = ann.get("/device/verify?user_code=BBBB-BBBB").await;
    assert!(unknown.text(404).contains("no device waits under the code"));
    let none = ann.get("/device/verify?user_code=%3Cb%3E").await.text(400);
    assert!(none.contains("value=\"&lt;b&gt;\""), "{none}");

    let form = format!("user_code={code}&decision=allow");
    // Whoever was logged out meanwhile logs in, and is asked again.
    let sent = nexus.anonymous().post_form("/device/verify", &form).await;
    assert_eq!(sent.status, 303);
    assert!(sent.header("location").starts_with(LOGIN), "{sent:?}");
    let allowed = ann.post_form("/device/verify", &form).await;
    assert_eq!(allowed.status, 303);
    assert_eq!(allowed.header("location"), "/device/success");
    let done = ann.get("/device/success").await;
    is_strict(&done);
    assert!(done.text(200).contains("let in"));
    let confirmed = "SELECT count(*) FROM device_auth_request d \
                     JOIN silo_user u ON u.id = d.silo_user_id \
                     WHERE u.external_id = 'ann'";
    assert_eq!(nexus.database.count(confirmed), 1);
    let logged = "SELECT count(*) FROM audit_log \
                  WHERE operation_id = 'device_verify_form' \
                    AND auth_method = 'session_cookie' AND http_status = 303";
    assert_eq!(nexus.database.count(logged), 1);
}

#[tokio::test]
async fn a_change_by_cookie_is_taken_from_our_own_pages_only() {
    let (nexus, ann) = nexus().await;
    let here = format!("http://{}", nexus.process.external());
    let code = user_code(&nexus).await;
    let decision = format!("user_code={code}&decision=allow");
    let credentials = format!("username=ann&password={}", "correct+horse");
    let login = json!({ "username": "ann", "password": PASSWORD }).to_string();
    let project = json!({ "name": "stolen", "description": "" }).to_string();
    let (json, form) =
        ("application/json", "application/x-www-form-urlencoded");
    let changes = [
        ("/v1/projects", json, &*project),
        ("/v1/login/main/local", json, &login),
        ("/v1/logout", json, ""),
        (LOGIN, form, &credentials),
        ("/device/verify", form, &decision),
        ("/v1/vpcs?project=demo", json, "{}"),
    ];
    let ask =
        async |who: &Client, (path, kind, body): (&str, &str, &str), said| {
            let said: (&str, &str) = said;
            let headers = [("content-type", kind), said];
            who.send(Method::POST, path, &headers, body).await
        };
    for said in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for change in changes {
            let answer = ask(&ann, change, said).await;
            assert_eq!(answer.status, 403, "{change:?} {said:?} {answer:?}");
            assert_eq!(answer.set_cookie, None);
            let Value::String(page) = &answer.body else {
                let why = answer.error(403, "CrossSite");
                assert!(why.contains("another site's page"), "{why}");
                continue;
            };
            assert!(page.contains("another site&#39;s page"), "{page}");
        }
        // To look is harmless: the other page does not see it.
        ann.send(Method::GET, "/v1/projects", &[said], "").await.expect(200);
        // A token is not sent by a browser of its own accord.
        let (path, kind, _) = changes[0];
        let taken = ask(&nexus, (path, kind, "{}"), said).await;
        taken.error(400, "InvalidRequest");
    }
    let made = "SELECT count(*) FROM project WHERE name = 'stolen'";
    assert_eq!(nexus.database.count(made), 0);
    let confirmed = "SELECT count(*) FROM device_auth_request \
                     WHERE time_confirmed IS NOT NULL";
    assert_eq!(nexus.database.count(confirmed), 0);
    let refused = "SELECT count(*) FROM audit_log \
                   WHERE error_code = 'CrossSite'";
    assert!(nexus.database.count(refused) > 0);

    ann.get("/v1/me").await.expect(200);
    for (name, said) in [
        ("a", ("origin", &*here)),
        ("b", ("sec-fetch-site", "same-origin")),
        ("c", ("sec-fetch-site", "none")),
    ] {
        let body = json!({ "name": name, "description": "" }).to_string();
        let change = ("/v1/vpcs?project=demo", json, &*body);
        // It comes as far as to what is asked.
        ask(&ann, change, said).await.error(501, "NotImplemented");
        let login = ask(&nexus, (LOGIN, form, &credentials), said).await;
        assert_eq!(login.status, 303);
    }
}

#[tokio::test]
async fn a_websocket_by_cookie_is_opened_from_our_own_pages_only() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let user = nexus.process.bootstrap("main", "ann", false).await;
    drop(user);
    nexus.sql(
        "INSERT INTO console_session \
         SELECT gen_random_uuid(), id, \
             encode(sha256('cookie'), 'hex'), now(), now() \
         FROM silo_user WHERE external_id = 'ann'",
    );
    let ann = nexus.with_cookie("session=cookie");
    let (id, _) = nexus.running("runs", json!({})).await;
    let path = format!("/v1/instances/{id}/serial-console/stream");
    let here = format!("http://{}", nexus.process.external());
    for said in
        [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")]
    {
        let refused = ann.console_with(&path, &[said]).await.unwrap_err();
        refused.error(403, "CrossSite");
        nexus.console_with(&path, &[said]).await.unwrap();
    }
    for said in [("origin", &*here), ("sec-fetch-site", "same-origin")] {
        ann.console_with(&path, &[said]).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_console_the_front_page_says_so() {
    let (nexus, ann) = nexus().await;
    for client in [&nexus.anonymous(), &ann] {
        let page = client.get("/").await;
        is_strict(&page);
        let html = page.text(200);
        assert!(html.contains("no web console"), "{html}");
        for path in ["/projects", "/assets/main.js"] {
            client.get(path).await.error(404, "ObjectNotFound");
        }
    }
}

#[tokio::test]
async fn the_console_is_shown_on_all_its_pages_to_who_is_logged_in() {
    let (nexus, ann) = with_console().await;
    for path in [
        "/",
        "/projects",
        "/projects/demo/instances/db?tab=x",
        "/projects-new",
        "/settings/profile",
        "/system/silos",
        "/lookup/instances/x",
        "/images",
        "/utilization",
        "/access",
    ] {
        let page = ann.get(path).await;
        is_strict(&page);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(page.text(200).contains("<title>Console</title>"), "{path}");
        let sent = nexus.anonymous().get(path).await;
        assert_eq!(sent.status, 302, "{path}");
        let back =
            path.replace('/', "%2F").replace('?', "%3F").replace('=', "%3D");
        let to = format!("{LOGIN}?redirect_uri={back}");
        assert_eq!(sent.header("location"), to);
    }
    // The API is as it was.
    nexus.anonymous().get("/v1/projects").await.error(401, "Unauthorized");
}

#[tokio::test]
async fn an_asset_is_kept_for_ever_and_sent_as_small_as_is_taken() {
    let (nexus, _) = with_console().await;
    let anybody = nexus.anonymous();
    let get = async |path: &str, accept: &str| {
        let accept = [("accept-encoding", accept)];
        anybody.send(Method::GET, path, &accept, "").await
    };
    for (accept, encoding, text) in [
        ("gzip, deflate, br", "br", "brotlied"),
        ("gzip", "gzip", "gzipped"),
        ("br;q=0, gzip", "gzip", "gzipped"),
        ("identity", "", "console.log(1)"),
    ] {
        let asset = get("/assets/main-x1.js", accept).await;
        is_strict(&asset);
        assert_eq!(
            asset.header("cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(asset.header("vary"), "accept-encoding");
        let kind = "text/javascript; charset=utf-8";
        assert_eq!(asset.header("content-type"), kind);
        assert_eq!(asset.header("content-encoding"), encoding);
        assert_eq!(asset.text(200), text);
    }
    for (path, kind) in [
        ("/assets/fonts/a.woff2", "font/woff2"),
        ("/assets/logo.svg", "image/svg+xml"),
    ] {
        let asset = get(path, "gzip, br").await;
        assert_eq!(asset.header("content-type"), kind);
        assert_eq!(asset.header("content-encoding"), "");
        asset.text(200);
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_console_s_files() {
    let (mut nexus, ann) = with_console().await;
    for path in [
        "/assets",
        "/assets/",
        "/assets/fonts",
        "/assets/no.js",
        "/assets/main-x1.js.gz",
        "/assets/%2e%2e/secret.txt",
        "/assets/..%2fsecret.txt",
        "/assets/%2e%2e%2fsecret.txt",
        "/assets/fonts/%2e%2e/logo.svg",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/../secret.txt",
        "/assets/./logo.svg",
        "/assets/..%5csecret.txt",
        "/assets/logo.svg%00.js",
    ] {
        let answer = get_as_it_is(&nexus, path).await;
        let status = answer.split(' ').nth(1).unwrap();
        assert!(["400", "404"].contains(&status), "{path} {answer}");
        assert!(
            ["InvalidRequest", "ObjectNotFound"]
                .iter()
                .any(|code| answer.contains(code)),
            "{path} {answer}"
        );
        assert!(!answer.contains("not for anybody"), "{path} {answer}");
    }
    let asset = get_as_it_is(&nexus, "/assets/%6cogo.svg").await;
    assert!(asset.ends_with("<svg/>"), "{asset}");
    // Nor does a link: a Nexus that is given one does not serve at all.
    nexus.kill_nexus().await;
    let dir = nexus.dir.path().join("console");
    link(&nexus.dir.path().join("sled-secret"), &dir.join("assets/link.js"));
    let url = nexus.database.url.clone();
    let (code, log) =
        harness::NexusProcess::refused(nexus.dir.path(), &url).await;
    assert_eq!(code, Some(1));
    assert!(log.contains("link.js leads out of the console's"), "{log}");
    // One that stays within is a file like others.
    std::fs::remove_file(dir.join("assets/link.js")).unwrap();
    link(Path::new("main-x1.js"), &dir.join("assets/link.js"));
    nexus.restart_nexus().await;
    ann.get("/assets/link.js").await.text(200);
}

/// Asks for a path that no client would send: those resolve its dots. The cookie
/// is nobody's.
async fn get_as_it_is(nexus: &TestNexus, path: &str) -> String {
    let mut stream =
        TcpStream::connect(nexus.process.external()).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Cookie: session=x\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}
