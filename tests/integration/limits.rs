//! What a client may take: each bound is lowered, and met.

use futures::future::join_all;
use harness::{Answer, Client, DEADLINE, Setup, TestNexus, Tuning, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A Nexus without sleds, with these lines of `[limits]`.
async fn nexus(limits: &str) -> TestNexus {
    let tuning = Tuning { limits: limits.to_string(), ..Tuning::default() };
    TestNexus::with(Setup { tuning, ..Setup::no_sled() }).await
}

/// Asks until it is refused for having asked too often.
async fn until_refused(ask: impl AsyncFn(usize) -> Answer) -> (usize, Answer) {
    for n in 0.. {
        let answer = ask(n).await;
        if answer.status == 429 {
            return (n, answer);
        }
    }
    unreachable!()
}

fn project(name: &str) -> Value {
    json!({ "name": name, "description": "" })
}

#[tokio::test]
async fn who_asks_too_often_is_refused_for_a_while_and_others_are_not() {
    let nexus = nexus("credential_per_second = 1\ncredential_burst = 5").await;
    let user = nexus.other_silo("other").await;
    let make =
        async |n| user.post("/v1/projects", project(&format!("p{n}"))).await;
    let (n, refusal) = until_refused(make).await;
    assert!(n >= 5, "only {n} were taken");
    assert_eq!(refusal.retry_after.as_deref(), Some("1"));
    let message = refusal.error(429, "TooManyRequests");
    for said in ["this token", "1 a second", "Nothing was done", "in 1 s"] {
        assert!(message.contains(said), "{message}");
    }
    let made = format!("SELECT count(*) FROM project WHERE name = 'p{n}'");
    assert_eq!(nexus.database.count(&made), 0);

    nexus.get("/v1/me").await.expect(200);
    eventually("it may ask again", async || {
        (user.get("/v1/me").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_shows_nothing_valid_is_counted_by_its_address() {
    let nexus = nexus("source_per_second = 1\nsource_burst = 8").await;
    nexus.get("/v1/me").await.expect(200);
    let guess = async |n| {
        nexus.with_token(&format!("nexus-token-{n}")).get("/v1/me").await
    };
    let (n, refusal) = until_refused(guess).await;
    assert!(n >= 3, "only {n} were taken");
    assert!(refusal.retry_after.is_some());
    let message = refusal.error(429, "TooManyRequests");
    assert!(message.contains("from this address"), "{message}");

    // A login, too, whatever it shows besides.
    let login = async |_| {
        let body = json!({ "username": "admin", "password": "no" });
        nexus.post("/v1/login/main/local", body).await
    };
    until_refused(login).await.1.error(429, "TooManyRequests");
    // Whoever is known is not affected.
    nexus.get("/v1/me").await.expect(200);
}

#[tokio::test]
async fn each_part_of_a_request_has_its_bound() {
    let nexus = nexus(
        "uri_max_bytes = 200\nheaders_max_bytes = 400\nbody_max_bytes = 300\n\
         body_secs = 1\nsource_burst = 100000",
    )
    .await;
    let long = "x".repeat(500);
    let asked = [
        (nexus.get(&format!("/v1/me?x={long}")).await, 414, "UriTooLong"),
        (
            nexus.send(Method::GET, "/v1/me", &[("x-long", &long)], "").await,
            431,
            "RequestHeaderFieldsTooLarge",
        ),
        (
            nexus.post("/v1/projects", project(&long)).await,
            413,
            "PayloadTooLarge",
        ),
    ];
    for (answer, status, code) in asked {
        answer.error(status, code);
    }
    let mut slow = connect(&nexus).await;
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: nexus\r\n\
         authorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        nexus.token()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let answer = until_closed(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    for said in ["RequestTimeout", "request_id", "within 1 s"] {
        assert!(answer.contains(said), "{answer}");
    }
    assert_eq!(nexus.database.count("SELECT count(*) FROM project"), 1);
}

#[tokio::test]
async fn who_speaks_http_2_is_told_to_speak_http_1() {
    let nexus = nexus("").await;
    let mut stream = connect(&nexus).await;
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // Method and scheme by their numbers, then path and authority.
    let head = b"\x82\x86\x04\x08/v1/ping\x01\x05nexus";
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    asked.extend_from_slice(settings);
    asked.extend_from_slice(&[0, 0, u8::try_from(head.len()).unwrap()]);
    // Headers, which are all, of the first stream.
    asked.extend_from_slice(b"\x01\x05\0\0\0\x01");
    asked.extend_from_slice(head);
    stream.write_all(&asked).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let n = timeout(DEADLINE, stream.read_buf(&mut answer)).await;
        assert!(n.expect("an answer").unwrap() > 0, "it is closed");
    }
    let answer = String::from_utf8_lossy(&answer);
    for said in ["\"InvalidRequest\"", "ask by HTTP/1.1", "request_id"] {
        assert!(answer.contains(said), "{answer}");
    }
}

#[tokio::test]
async fn bodies_share_the_room_that_there_is() {
    let nexus = nexus("bodies_bytes = 1000").await;
    let make = async || nexus.post("/v1/projects", project("p")).await;
    let head = "POST /v1/projects HTTP/1.1\r\nhost: nexus\r\n\
                content-length: 1000\r\n\r\n";
    let (slow, refusal) = eventually("the room is taken", async || {
        // If the one that is made comes before it, it finds no room itself.
        let mut slow = connect(&nexus).await;
        slow.write_all(head.as_bytes()).await.unwrap();
        slow.write_all(&[b' '; 990]).await.unwrap();
        nexus.get("/v1/me").await.expect(200);
        let answer = make().await;
        if answer.status == 503 {
            return Some((slow, answer));
        }
        nexus.delete("/v1/projects/p").await.expect(204);
        None
    })
    .await;
    assert!(refusal.retry_after.is_some());
    let message = refusal.error(503, "ServiceNotAvailable");
    assert!(message.contains("Nothing was done"), "{message}");

    drop(slow);
    eventually("there is room again", async || {
        (make().await.status == 201).then_some(())
    })
    .await;
    // One that can never find room is read to its end, and told so.
    let long = "x".repeat(2000);
    let refusal = nexus.post("/v1/projects", project(&long)).await;
    refusal.error(503, "ServiceNotAvailable");
}

#[tokio::test]
async fn changes_that_no_handler_sees_are_in_the_audit_log() {
    let nexus = nexus("body_max_bytes = 300").await;
    let long = "x".repeat(500);
    let (path, text) = ("/v1/projects", "text/plain");
    nexus.post(path, project(&long)).await.error(413, "PayloadTooLarge");
    nexus
        .send(Method::POST, path, &[("content-type", text)], "{}")
        .await
        .error(415, "UnsupportedMediaType");
    nexus
        .send_text(Method::POST, path, "no JSON")
        .await
        .error(400, "InvalidRequest");
    let query = "/v1/instances?project=!";
    nexus.post(query, json!({})).await.error(400, "InvalidRequest");
    // What changes nothing is not.
    nexus.get("/v1/projects?limit=many").await.error(400, "InvalidRequest");
    nexus
        .anonymous()
        .send_text(Method::POST, path, "no JSON")
        .await
        .error(400, "InvalidRequest");
    let logged = |which: &str| {
        let sql = format!("SELECT count(*) FROM audit_log WHERE {which}");
        nexus.database.count(&sql)
    };
    for (status, n) in [(413, 1), (415, 1), (400, 3)] {
        assert_eq!(logged(&format!("http_status = {status}")), n, "{status}");
    }
    assert_eq!(logged("http_status >= 400 AND silo_user_id IS NULL"), 1);
    assert_eq!(logged("http_status = 413 AND auth_method IS NOT NULL"), 1);
    assert_eq!(logged("time_completed IS NULL"), 0);
}

#[tokio::test]
async fn a_slow_request_is_answered_in_time_and_carried_through() {
    let nexus = nexus("request_secs = 1").await;
    let held = nexus.database.hold("SELECT id FROM project FOR UPDATE");
    let change = json!({ "description": "changed" });
    let refusal = nexus.put("/v1/projects/demo", change).await;
    assert_eq!(refusal.retry_after.as_deref(), Some("5"));
    let message = refusal.error(503, "ServiceNotAvailable");
    assert!(message.contains("What it has begun goes on"), "{message}");
    let changed = "SELECT count(*) FROM project WHERE description = 'changed'";
    assert_eq!(nexus.database.count(changed), 0);

    held.lift();
    // And written down as what it came to.
    let done = "SELECT count(*) FROM audit_log \
         WHERE operation_id = 'project_update' AND http_status = 200";
    eventually("the change is made, and in the log", async || {
        (nexus.database.count(done) == 1).then_some(())
    })
    .await;
    assert_eq!(nexus.database.count(changed), 1);
}

#[tokio::test]
async fn a_wait_for_a_change_may_take_longer_than_a_request() {
    let nexus = nexus("request_secs = 1").await;
    let id = nexus.create("db", false).await;
    nexus.settled(&id).await;
    let view = nexus.instance_view(&id).await;
    let wait = format!(
        "/v1/instances/{id}?wait_for_change={}&wait_seconds=2",
        view["view_gen"]
    );
    assert_eq!(nexus.get(&wait).await.expect(200), view);
}

#[tokio::test]
async fn who_sends_its_headers_byte_by_byte_is_dropped() {
    let nexus = nexus("first_request_secs = 1").await;
    let mut in_time = connect(&nexus).await;
    ping(&mut in_time).await;
    let mut silent = connect(&nexus).await;
    let mut slow = connect(&nexus).await;
    slow.write_all(b"GET /v1/ping HTTP/1.1\r\nhost: ").await.unwrap();
    let (mut from, mut to) = slow.into_split();
    let drip = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while to.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    };
    let mut rest = Vec::new();
    let dropped = async {
        // It is reset, or closed.
        let _ = from.read_to_end(&mut rest).await;
    };
    let both = async { tokio::join!(drip, dropped) };
    timeout(DEADLINE, both).await.expect("it is dropped");
    assert!(rest.is_empty(), "it is answered");
    assert_eq!(until_closed(&mut silent).await, "");
    // Who has asked something may ask again.
    ping(&mut in_time).await;
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_connections_turned_away_total"), 2.0);
}

#[tokio::test]
async fn who_asks_for_what_there_is_not_has_asked_all_the_same() {
    let nexus = nexus("first_request_secs = 1").await;
    let known = format!("authorization: Bearer {}", nexus.token());
    let mut refused = Vec::new();
    for (asked, header, status) in [
        ("GET /v1/nothing", "accept: */*", 401),
        ("GET /v1/nothing", &*known, 404),
        ("DELETE /v1/ping", &*known, 405),
        ("GET /v1/ping", "api-version: none", 400),
        ("DELETE /v1/vpcs/none", &*known, 501),
    ] {
        let mut one = connect(&nexus).await;
        let head =
            format!("{asked} HTTP/1.1\r\nhost: nexus\r\n{header}\r\n\r\n");
        one.write_all(head.as_bytes()).await.unwrap();
        let answer = next_answer(&mut one).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{asked}: {answer}");
        refused.push(one);
    }
    // It comes after them: when its time is over, theirs would be.
    let mut silent = connect(&nexus).await;
    assert_eq!(until_closed(&mut silent).await, "");
    for one in &mut refused {
        ping(one).await;
    }
}

#[tokio::test]
async fn who_does_not_take_its_answers_is_dropped() {
    let nexus = nexus("stuck_secs = 1\nfirst_request_secs = 60").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stuck = socket.connect(nexus.process.external()).await.unwrap();
    let (mut from, mut to) = stuck.into_split();
    let asking = tokio::spawn(async move {
        let ping = b"GET /v1/ping HTTP/1.1\r\nhost: nexus\r\n\r\n".repeat(1000);
        while to.write_all(&ping).await.is_ok() {}
    });
    eventually("it is dropped", async || {
        let metrics = nexus.process.metrics().await;
        let dropped = metrics.at("nexus_connections_turned_away_total");
        (dropped == 1.0).then_some(())
    })
    .await;
    timeout(DEADLINE, asking).await.expect("it is reset").unwrap();
    // What the server held for it is gone with it.
    let mut rest = Vec::new();
    let left = timeout(DEADLINE, from.read_to_end(&mut rest)).await;
    // It is reset, or closed.
    let _ = left.expect("it is at its end");
    nexus.get("/v1/me").await.expect(200);
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_sent_is_closed() {
    let nexus = nexus("first_request_secs = 1\nidle_secs = 1").await;
    let mut idle = connect(&nexus).await;
    ping(&mut idle).await;
    assert_eq!(until_closed(&mut idle).await, "");
    // Long before the server within closes it by itself.
    let metrics = nexus.process.metrics().await;
    // The one that the test's own client keeps goes in the same way, about then.
    assert!(metrics.at("nexus_connections_turned_away_total") >= 1.0);
}

#[tokio::test]
async fn who_has_as_many_connections_as_it_may_gets_no_more() {
    let nexus = nexus("connections_per_source = 8").await;
    let mut held = Vec::new();
    loop {
        let mut one = connect(&nexus).await;
        // If it is turned away, it may be closed before it can ask.
        let ping = b"GET /v1/ping HTTP/1.1\r\nhost: nexus\r\n\r\n";
        let asked = one.write_all(ping).await;
        if asked.is_err() || one.read_exact(&mut [0; 4]).await.is_err() {
            break;
        }
        held.push(one);
    }
    assert!((1..=8).contains(&held.len()), "{} were let in", held.len());
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_connections"), 8.0);
    drop(held);
    eventually("there is room again", async || {
        let mut one = connect(&nexus).await;
        one.write_all(b"GET /v1/ping HTTP/1.1\r\nhost: nexus\r\n\r\n")
            .await
            .ok()?;
        one.read_exact(&mut [0; 4]).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_burst_of_a_client_that_keeps_to_its_rate_is_served() {
    let nexus = nexus("").await;
    nexus.get("/v1/me").await.expect(200);
    let asked = join_all((0..200).map(|_| nexus.get("/v1/ping"))).await;
    assert!(asked.iter().all(|answer| answer.status == 200));
    let client: &Client = &nexus;
    let looks = join_all((0..100).map(|_| client.get("/v1/me"))).await;
    assert!(looks.iter().all(|answer| answer.status == 200));
}

async fn connect(nexus: &TestNexus) -> TcpStream {
    TcpStream::connect(nexus.process.external()).await.unwrap()
}

async fn ping(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /v1/ping HTTP/1.1\r\nhost: nexus\r\n\r\n")
        .await
        .unwrap();
    let answer = next_answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// An answer whose body is an object without objects.
async fn next_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.trim_ascii_end().ends_with(b"}") {
        let n = timeout(DEADLINE, stream.read_buf(&mut answer)).await;
        assert!(n.expect("an answer").unwrap() > 0, "it is closed");
    }
    String::from_utf8(answer).unwrap()
}

/// All that comes until the other side closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut all))
        .await
        .expect("it is closed");
    String::from_utf8(all).unwrap()
}
