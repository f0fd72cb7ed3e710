//! What guests print, read in parts and followed.

use crate::agent::{Agent, vmm};
use crate::eventually::{PATIENCE, eventually};
use crate::fleet;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleet_pki::Peer;
use futures::{SinkExt, StreamExt};
use sled_agent::{Effect, FaultyOperation, GuestStep};
use sled_agent_client::{
    ConsoleQuery, ConsoleStream, ConsoleStreamQuery, Error, RequestedState,
    VmmState,
};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

const ALL: ConsoleQuery =
    ConsoleQuery { from_start: None, most_recent: None, max_bytes: None };
const FROM_THE_BEGINNING: ConsoleStreamQuery =
    ConsoleStreamQuery { most_recent: None };

/// What a guest prints until it is up.
const BOOT: &str = "guest: booting\r\nguest login: ";

impl Agent {
    async fn printed(
        &self,
        vmm_id: Uuid,
        query: ConsoleQuery,
    ) -> (String, u64) {
        let part = self.client.vmm_console(vmm_id, &query).await.unwrap();
        let bytes = BASE64.decode(part.base64_data).unwrap();
        (String::from_utf8(bytes).unwrap(), part.end)
    }

    async fn follow(&self, vmm_id: Uuid) -> ConsoleStream {
        let from = FROM_THE_BEGINNING;
        self.client.vmm_console_stream(vmm_id, &from).await.unwrap()
    }
}

/// Reads until what was read ends so.
async fn read_until(stream: &mut ConsoleStream, end: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while !read.ends_with(end) {
            let message = stream.next().await.unwrap().unwrap();
            if let Message::Binary(bytes) = message {
                read.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        }
    };
    let read_it = tokio::time::timeout(PATIENCE, reading).await;
    assert!(read_it.is_ok(), "no {end:?} in {read:?}");
    read
}

/// Reads what is left, and with what it ends.
async fn read_to_the_end(
    stream: &mut ConsoleStream,
) -> (String, Option<CloseCode>) {
    let (mut read, mut code) = (String::new(), None);
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    read.push_str(std::str::from_utf8(&bytes).unwrap());
                }
                Message::Close(frame) => code = frame.map(|frame| frame.code),
                Message::Text(_)
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Frame(_) => {}
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, reading).await;
    assert!(ended.is_ok(), "it goes on after {read:?}");
    (read, code)
}

async fn typed(stream: &mut ConsoleStream, text: &str) {
    let bytes = text.as_bytes().to_vec();
    stream.send(Message::Binary(bytes.into())).await.unwrap();
}

#[tokio::test]
async fn what_a_guest_printed_is_read_by_offset() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    let length = u64::try_from(BOOT.len()).unwrap();
    let all = agent.printed(vmm_id, ALL).await;
    assert_eq!(all, (BOOT.to_string(), length));
    for (query, part, end) in [
        (ConsoleQuery { from_start: Some(7), ..ALL }, &BOOT[7..], length),
        (ConsoleQuery { most_recent: Some(7), ..ALL }, "login: ", length),
        (ConsoleQuery { from_start: Some(900), ..ALL }, "", length),
        (
            ConsoleQuery { from_start: Some(7), max_bytes: Some(2), ..ALL },
            "bo",
            9,
        ),
    ] {
        let read = agent.printed(vmm_id, query).await;
        assert_eq!(read, (part.to_string(), end), "{query:?}");
    }
    let both =
        ConsoleQuery { from_start: Some(0), most_recent: Some(0), ..ALL };
    let refused = agent.client.vmm_console(vmm_id, &both).await;
    assert!(matches!(refused, Err(Error::Bug { status: 400, .. })));
}

#[tokio::test]
async fn a_vmm_that_never_ran_has_no_console() {
    let agent = Agent::start_without_nexus().await;
    for vmm_id in [agent.register().await, Uuid::new_v4()] {
        let part = agent.client.vmm_console(vmm_id, &ALL).await;
        assert!(matches!(part, Err(Error::NoSuchConsole)), "{part:?}");
        let query = FROM_THE_BEGINNING;
        let stream = agent.client.vmm_console_stream(vmm_id, &query).await;
        assert!(matches!(stream, Err(Error::NoSuchConsole)), "{stream:?}");
    }
}

#[tokio::test]
async fn a_console_outlives_its_vmm_and_its_agent() {
    let mut agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    agent.until(vmm_id, VmmState::Destroyed).await;
    let (printed, _) = agent.printed(vmm_id, ALL).await;
    assert!(printed.ends_with("guest: halted\r\n"), "{printed:?}");
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    agent.restart().await;
    assert_eq!(agent.printed(vmm_id, ALL).await.0, printed);
    let mut stream = agent.follow(vmm_id).await;
    let end = read_to_the_end(&mut stream).await;
    assert_eq!(end, (printed, Some(CloseCode::Normal)));
}

#[tokio::test]
async fn readers_follow_what_is_printed_to_the_end_and_one_hears_the_other() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    let mut one = agent.follow(vmm_id).await;
    let recent = ConsoleStreamQuery { most_recent: Some(3) };
    let mut two =
        agent.client.vmm_console_stream(vmm_id, &recent).await.unwrap();
    assert_eq!(read_until(&mut one, "login: ").await, BOOT);
    assert_eq!(read_until(&mut two, ": ").await, "n: ");
    typed(&mut one, "root\r\n").await;
    assert_eq!(read_until(&mut one, "\n").await, "root\r\n");
    assert_eq!(read_until(&mut two, "\n").await, "root\r\n");
    two.send(Message::Text("ls\n".into())).await.unwrap();
    assert_eq!(read_until(&mut one, "\n").await, "ls\n");

    agent.order(vmm_id, RequestedState::Reboot).await;
    let rebooted = read_until(&mut one, "login: ").await;
    assert_eq!(rebooted, "\r\nguest: rebooting\r\nguest login: ");
    agent.order(vmm_id, RequestedState::Stopped).await;
    for stream in [&mut one, &mut two] {
        let (last, code) = read_to_the_end(stream).await;
        assert!(last.ends_with("guest: halted\r\n"), "{last:?}");
        assert_eq!(code, Some(CloseCode::Normal));
    }
}

#[tokio::test]
async fn a_reader_that_reads_nothing_holds_up_neither_guest_nor_others() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    let mut silent = agent.follow(vmm_id).await;
    let mut listener = agent.follow(vmm_id).await;
    let mut typist = agent.follow(vmm_id).await;
    // More than the ring and the sockets of a connection hold together.
    let line = format!("{}\n", "x".repeat(60_000));
    let typing = async {
        for _ in 0..400 {
            typed(&mut typist, &line).await;
        }
        typed(&mut typist, "done\n").await;
    };
    tokio::join!(typing, read_until(&mut listener, "done\n"));
    agent.step(vmm_id, GuestStep::Panic).await;
    agent.until(vmm_id, VmmState::Failed).await;
    let (_, code) = read_to_the_end(&mut listener).await;
    assert_eq!(code, Some(CloseCode::Normal));

    let (read, code) = read_to_the_end(&mut silent).await;
    assert!(read.starts_with(BOOT), "it began at the beginning");
    assert!(read.len() < 300 * line.len(), "it missed what was overwritten");
    assert!(read.ends_with("kernel panic\r\n"), "and nothing of the end");
    assert_eq!(code, Some(CloseCode::Normal));
}

#[tokio::test]
async fn a_stream_ends_when_its_vmm_is_unregistered() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    let mut stream = agent.follow(vmm_id).await;
    agent.client.vmm_unregister(vmm_id).await.unwrap();
    let (_, code) = read_to_the_end(&mut stream).await;
    assert_eq!(code, Some(CloseCode::Normal));
}

#[tokio::test]
async fn a_stream_that_is_refused_is_refused_as_any_request() {
    let agent = Agent::start_without_nexus().await;
    let vmm_id = agent.run().await;
    agent.fault(FaultyOperation::ConsoleStream, Effect::Error(503)).await;
    let query = FROM_THE_BEGINNING;
    let stream = agent.client.vmm_console_stream(vmm_id, &query).await;
    assert!(matches!(stream, Err(Error::Unreachable(_))), "{stream:?}");
    let path = format!("/vmms/{vmm_id}/console/stream");
    let url = format!("https://{}{path}", agent.addresses.address);
    let sled = Peer::Sled(agent.addresses.sled_id);
    let http = fleet::http(Peer::Nexus, sled);
    let plain = http.get(url).send().await.unwrap();
    assert!(plain.status().is_client_error(), "{plain:?}");
}

#[tokio::test]
async fn a_guest_that_boots_while_it_is_followed_is_followed() {
    let agent = Agent::start_without_nexus().await;
    agent.hold(true, false).await;
    let vmm_id = Uuid::new_v4();
    agent.client.vmm_register(vmm_id, &vmm(1, 1 << 30)).await.unwrap();
    agent.order(vmm_id, RequestedState::Running).await;
    let mut stream = eventually("it prints", async || {
        let query = FROM_THE_BEGINNING;
        agent.client.vmm_console_stream(vmm_id, &query).await.ok()
    })
    .await;
    assert_eq!(read_until(&mut stream, "\n").await, "guest: booting\r\n");
    agent.step(vmm_id, GuestStep::Booted).await;
    assert_eq!(read_until(&mut stream, ": ").await, "guest login: ");
}
