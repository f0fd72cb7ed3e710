//! Serial consoles: read in parts, followed and typed on, while an instance runs
//! and after.

use harness::{
    Agent, Answer, Client, Setup, TestNexus, Tuning, eventually, is,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// What the guest "db" prints until it is up.
const BOOT: &str = "db: booting\r\ndb login: ";

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::one_sled()).await
}

async fn printed(client: &Client, id: &str, query: &str) -> Answer {
    let path = format!("/v1/instances/{id}/serial-console?{query}");
    client.get(&path).await
}

/// A part of what was printed, and the offset after it.
async fn part(client: &Client, id: &str, query: &str) -> (String, u64) {
    let part = printed(client, id, query).await.expect(200);
    let byte = |byte: &Value| u8::try_from(byte.as_u64().unwrap()).unwrap();
    let bytes = part["data"].as_array().unwrap().iter().map(byte).collect();
    let end = part["last_byte_offset"].as_u64().unwrap();
    (String::from_utf8(bytes).unwrap(), end)
}

async fn stop(nexus: &TestNexus, id: &str) {
    nexus.ask(id, "stop").await.expect(202);
    nexus.wait(id, is("stopped")).await;
}

/// That a message says nothing of how it is inside.
fn assert_discreet(message: &str, agent: &Agent, vmm: &str) {
    for inner in [&agent.id, vmm, &agent.address().to_string()] {
        assert!(!message.contains(inner), "{message}");
    }
}

#[tokio::test]
async fn what_an_instance_printed_is_read_in_parts() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let all = part(&nexus, &id, "from_start=0").await;
    assert_eq!(all, (BOOT.to_string(), 23));
    for (query, text, end) in [
        ("from_start=4", "booting\r\ndb login: ", 23),
        ("from_start=4&max_bytes=4", "boot", 8),
        ("from_start=23", "", 23),
        ("from_start=1000", "", 23),
        ("most_recent=7", "login: ", 23),
        ("most_recent=7&max_bytes=5", "login", 21),
        ("most_recent=1000", BOOT, 23),
        ("most_recent=0", "", 23),
    ] {
        let read = part(&nexus, &id, query).await;
        assert_eq!(read, (text.to_string(), end), "{query}");
    }
    let by_name = part(&nexus, "db", "project=demo&most_recent=7").await;
    assert_eq!(by_name.0, "login: ");
}

#[tokio::test]
async fn where_a_part_begins_must_be_said_once() {
    let nexus = nexus().await;
    let id = nexus.create("db", false).await;
    for query in ["", "max_bytes=9", "from_start=0&most_recent=0"] {
        let answer = printed(&nexus, &id, query).await;
        let message = answer.error(400, "InvalidRequest");
        for name in ["from_start", "most_recent"] {
            assert!(message.contains(name), "{message}");
        }
    }
    let wrong = printed(&nexus, &id, "from_start=-1").await;
    wrong.error(400, "InvalidRequest");
}

#[tokio::test]
async fn an_instance_that_never_ran_has_no_console() {
    let nexus = nexus().await;
    let id = nexus.create("db", false).await;
    let read = printed(&nexus, &id, "most_recent=1").await;
    let stream = nexus.console_of(&id).await.unwrap_err();
    for answer in [read, stream] {
        let message = answer.error(404, "ObjectNotFound");
        assert!(message.contains("it has never run"), "{message}");
    }
}

#[tokio::test]
async fn a_run_that_is_over_is_read_until_its_host_keeps_it_no_more() {
    let nexus = nexus().await;
    let (id, first) = nexus.running("db", json!({})).await;
    stop(&nexus, &id).await;
    nexus.settled(&id).await;
    let end = "\r\ndb: shutting down\r\ndb: halted\r\n";
    let (over, _) = part(&nexus, &id, "from_start=0").await;
    assert_eq!(over, format!("{BOOT}{end}"));
    let mut stream = nexus.console_of(&id).await.unwrap();
    assert_eq!(stream.ends_with(CloseCode::Normal).await, over);

    // Offsets begin anew with each run.
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let second = nexus.vmm_of(&id).await;
    assert_ne!(first, second);
    assert_eq!(part(&nexus, &id, "from_start=0").await.0, BOOT);

    stop(&nexus, &id).await;
    nexus.agents[0].lose_console(&second);
    let read = printed(&nexus, &id, "from_start=0").await;
    let stream = nexus.console_of(&id).await.unwrap_err();
    for answer in [read, stream] {
        let message = answer.error(404, "ObjectNotFound");
        assert!(message.contains("is not kept any more"), "{message}");
        assert_discreet(&message, &nexus.agents[0], &second);
    }
    nexus.delete_instance(&id).await.expect(204);
    let deleted = printed(&nexus, &id, "from_start=0").await;
    deleted.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn while_its_host_is_silent_a_console_is_not_to_be_had() {
    let mut nexus = nexus().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.agents[0].kill().await;
    let read = printed(&nexus, &id, "from_start=0").await;
    let stream = nexus.console_of(&id).await.unwrap_err();
    for answer in [read, stream] {
        assert!(answer.retry_after.is_some());
        let message = answer.error(503, "ServiceNotAvailable");
        assert!(message.contains("host does not answer"), "{message}");
        assert_discreet(&message, &nexus.agents[0], &vmm);
    }
    nexus.agents[0].restart().await;
    assert_eq!(part(&nexus, &id, "from_start=0").await.0, BOOT);
}

#[tokio::test]
async fn two_who_follow_see_what_either_types_until_the_instance_stops() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let mut one = nexus.console_of(&id).await.unwrap();
    let from_here = "serial-console/stream?project=demo&most_recent=7";
    let path = format!("/v1/instances/db/{from_here}");
    let mut two = nexus.console(&path).await.unwrap();
    assert_eq!(one.read_until("login: ").await, BOOT);
    assert_eq!(two.read_until("login: ").await, "login: ");

    one.type_in("root\r\n").await;
    two.read_until("root\r\n").await;
    two.send(Message::Text("ls\r\n".into())).await;
    assert_eq!(one.read_until("ls\r\n").await, "root\r\nls\r\n");

    nexus.ask(&id, "reboot").await.expect(202);
    for stream in [&mut one, &mut two] {
        let rebooted = stream.read_until("login: ").await;
        assert!(rebooted.contains("db: rebooting"), "{rebooted:?}");
    }
    stop(&nexus, &id).await;
    for stream in [&mut one, &mut two] {
        let last = stream.ends_with(CloseCode::Normal).await;
        assert!(last.ends_with("db: halted\r\n"), "{last:?}");
    }
}

#[tokio::test]
async fn one_who_never_reads_holds_up_neither_the_guest_nor_another() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let mut silent = nexus.console_of(&id).await.unwrap();
    let mut typist = nexus.console_of(&id).await.unwrap();
    let mut listener = nexus.console_of(&id).await.unwrap();
    // More than all that lies between the guest and a reader can hold.
    let line = format!("{}\n", "x".repeat(60_000));
    let typing = async {
        for _ in 0..1_000 {
            typist.type_in(&line).await;
        }
        typist.type_in("done\n").await;
    };
    tokio::join!(typing, listener.read_until("done\n"));
    stop(&nexus, &id).await;
    listener.ends_with(CloseCode::Normal).await;

    let read = silent.ends_with(CloseCode::Normal).await;
    assert!(read.starts_with(BOOT), "it began at the beginning");
    assert!(read.len() < 900 * line.len(), "it missed what was overwritten");
    assert!(read.ends_with("db: halted\r\n"), "and nothing of the end");
}

#[tokio::test]
async fn a_stream_ends_when_its_nexus_does() {
    let mut nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let mut stream = nexus.console_of(&id).await.unwrap();
    stream.read_until("login: ").await;
    let ending = nexus.process.child.terminate();
    let (code, _) = tokio::join!(ending, stream.ends_with(CloseCode::Away));
    assert_eq!(code, Some(0), "and does not keep it from ending");
}

#[tokio::test]
async fn a_stream_whose_host_dies_says_to_connect_again() {
    let mut nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let mut stream = nexus.console_of(&id).await.unwrap();
    stream.read_until("login: ").await;
    nexus.agents[0].kill().await;
    let (_, frame) = stream.read_to_the_end().await;
    let frame = frame.expect("a goodbye");
    assert_eq!(frame.code, CloseCode::Error);
    assert!(frame.reason.contains("connect again"), "{frame}");
    nexus.agents[0].restart().await;
    let mut stream = nexus.console_of(&id).await.unwrap();
    stream.read_until("login: ").await;
}

#[tokio::test]
async fn more_streams_than_a_nexus_has_places_for_wait_for_a_place() {
    let tuning = Tuning { console_streams: 2, ..Tuning::default() };
    let nexus = TestNexus::with(Setup { tuning, ..Setup::one_sled() }).await;
    let (id, _) = nexus.running("db", json!({})).await;
    let one = nexus.console_of(&id).await.unwrap();
    let _two = nexus.console_of(&id).await.unwrap();
    let refused = nexus.console_of(&id).await.unwrap_err();
    assert!(refused.retry_after.is_some());
    let message = refused.error(503, "ServiceNotAvailable");
    assert!(message.contains("as many serial consoles"), "{message}");
    part(&nexus, &id, "most_recent=1").await;
    // One that is gone without a word gives its place back, too.
    drop(one);
    eventually("there is a place", async || nexus.console_of(&id).await.ok())
        .await;
}

#[tokio::test]
async fn one_who_sends_too_much_at_once_is_told_so() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    // The more, the less of it is read before the stream ends.
    for kib in [65, 8 << 10] {
        let mut stream = nexus.console_of(&id).await.unwrap();
        let much = vec![b'x'; kib << 10];
        stream.send(Message::Binary(much.into())).await;
        stream.ends_with(CloseCode::Size).await;
    }
    let (printed, _) = part(&nexus, &id, "from_start=0").await;
    assert_eq!(printed, BOOT, "none of it was typed");
}

#[tokio::test]
async fn a_stream_is_for_those_who_may_see_the_instance() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let nobody = nexus.anonymous();
    let stranger = nexus.other_silo("other").await;
    let refused = nobody.console_of(&id).await.unwrap_err();
    refused.error(401, "Unauthorized");
    let refused = stranger.console_of(&id).await.unwrap_err();
    refused.error(404, "ObjectNotFound");
    // As it is for those who ask for no websocket; the others are told.
    let path = format!("/v1/instances/{id}/serial-console/stream");
    nobody.get(&path).await.error(401, "Unauthorized");
    let message = nexus.get(&path).await.error(400, "InvalidRequest");
    assert!(message.contains("upgrade"), "{message}");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let nexus = nexus().await;
    let (id, _) = nexus.running("db", json!({})).await;
    let mut stream = nexus.console_of(&id).await.unwrap();
    stream.read_until("login: ").await;
    let tokens = nexus.get("/v1/me/access-tokens").await.expect(200);
    let token = tokens["items"][0]["id"].as_str().unwrap();
    let token = format!("/v1/me/access-tokens/{token}");
    nexus.delete(&token).await.expect(204);
    let (_, frame) = stream.read_to_the_end().await;
    let frame = frame.expect("a goodbye");
    assert_eq!(frame.code, CloseCode::Policy);
    assert!(frame.reason.contains("logged out"), "{frame}");
}
