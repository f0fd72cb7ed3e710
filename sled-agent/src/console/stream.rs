//! One reader that follows a console, over a websocket.

use super::changes::Changed;
use super::ring::{Part, RingReader};
use dropshot::WebsocketConnection;
use futures::future::{Either, select};
use futures::{Sink, SinkExt, Stream, StreamExt};
use sled_agent_client::console_socket_config;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

/// How much is read and sent at once.
const PIECE_BYTES: u64 = 32 << 10;

/// How long a console may be silent before its reader is pinged. A reader that
/// is gone without a word is found out by that, as its TCP is.
const PING_AFTER: Duration = Duration::from_secs(30);

/// How long the other side may take to answer a close frame.
const CLOSING: Duration = Duration::from_secs(5);

/// What one reader reads, and where it is.
pub(crate) struct Reading {
    pub(super) ring: Arc<RingReader>,
    pub(super) from: u64,
    pub(super) changed: Changed,
    pub(super) _place: OwnedSemaphorePermit,
}

/// Takes in what a reader types. No reader types faster than it takes.
pub(crate) trait Typed: Send {
    /// *Errors*: the reader is to be told that the line is dead.
    fn typed(
        &mut self,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Unheard>> + Send;
}

/// What is typed gets nowhere.
pub(crate) struct Unheard;

/// How a stream comes to its end.
enum End {
    /// The VMM has ended, and all that it printed is sent.
    Whole,
    /// The reader is gone, or has said goodbye.
    ReaderGone,
    /// Something here does not work.
    Broken,
}

/// Sends what is printed, and takes in what is typed, until `ended` and all is
/// sent, or the reader leaves. A reader that takes nothing holds up nobody but
/// itself.
pub(crate) async fn follow(
    connection: WebsocketConnection,
    reading: Reading,
    ended: impl Future<Output = ()> + Send,
    typed: impl Typed,
) {
    let socket = WebSocketStream::from_raw_socket(
        connection.into_inner(),
        Role::Server,
        Some(console_socket_config()),
    )
    .await;
    let (mut to_reader, mut from_reader) = socket.split();
    let end = {
        let printing = pin!(print(&mut to_reader, reading, ended));
        let typing = pin!(take_in(&mut from_reader, typed));
        match select(printing, typing).await {
            Either::Left((end, _)) | Either::Right((end, _)) => end,
        }
    };
    let goodbye = async {
        let (code, reason) = match end {
            End::Whole => (CloseCode::Normal, "the guest has ended"),
            End::Broken => (CloseCode::Error, "the console cannot be read"),
            // It flushes the answer to what the reader said.
            End::ReaderGone => return to_reader.close().await,
        };
        let frame = CloseFrame { code, reason: reason.into() };
        to_reader.send(Message::Close(Some(frame))).await?;
        // A socket that is closed with something unread in it loses what is
        // under way.
        while let Some(Ok(_)) = from_reader.next().await {}
        Ok(())
    };
    // Whoever does not answer is cut off.
    let _ = tokio::time::timeout(CLOSING, goodbye).await;
}

async fn print(
    to_reader: &mut (impl Sink<Message, Error = SocketError> + Unpin),
    mut reading: Reading,
    ended: impl Future<Output = ()>,
) -> End {
    let mut ended = pin!(ended);
    let mut over = false;
    loop {
        loop {
            let Ok(part) = piece(&reading).await else { return End::Broken };
            if part.bytes.is_empty() {
                break;
            }
            reading.from = part.end;
            let message = Message::Binary(part.bytes.into());
            if to_reader.send(message).await.is_err() {
                return End::ReaderGone;
            }
        }
        if over {
            return End::Whole;
        }
        tokio::select! {
            () = reading.changed.again() => {}
            () = &mut ended => over = true,
            () = tokio::time::sleep(PING_AFTER) => {
                let ping = Message::Ping(Vec::new().into());
                if to_reader.send(ping).await.is_err() {
                    return End::ReaderGone;
                }
            }
        }
    }
}

async fn piece(reading: &Reading) -> io::Result<Part> {
    let (ring, from) = (Arc::clone(&reading.ring), reading.from);
    tokio::task::spawn_blocking(move || ring.read(from, PIECE_BYTES))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn take_in(
    from_reader: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
    mut typed: impl Typed,
) -> End {
    while let Some(Ok(message)) = from_reader.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        if typed.typed(&bytes).await.is_err() {
            return End::Broken;
        }
    }
    End::ReaderGone
}
