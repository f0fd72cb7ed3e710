//! Streams of serial consoles: each goes from a sled through this process to a
//! user, and back, with a few messages in memory and nothing of it kept.

use db_model::InstanceId;
use dropshot::WebsocketConnection;
use futures::{Sink, SinkExt, Stream, StreamExt};
use sled_agent_client::{ConsoleStream, console_socket_config};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

/// How long a user may take to answer a close frame.
const CLOSING: Duration = Duration::from_secs(2);

/// The streams of this process.
#[derive(Debug)]
pub struct Consoles {
    places: Arc<Semaphore>,
    max: u32,
    closing: watch::Sender<bool>,
}

/// A place among them, until it is dropped.
#[derive(Debug)]
pub struct ConsolePlace {
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

/// A stream that has begun at the sled, and waits for its user.
#[derive(Debug)]
pub struct ConsoleRelay {
    sled: ConsoleStream,
    place: ConsolePlace,
    instance: InstanceId,
}

/// How a stream comes to its end, as its user is told.
#[derive(Clone, Copy)]
enum End {
    /// The guest has ended, and all that it printed was sent.
    Whole,
    /// The sled went silent.
    Cut,
    /// This process ends.
    Closing,
    /// The user is logged out, or may not see it any more.
    ShutOut,
    /// The user sent more at once than anybody types.
    TooLong,
    /// The user is gone, or has said goodbye.
    UserGone,
}

impl Consoles {
    /// At most `max` streams at a time.
    pub fn new(max: u32) -> Consoles {
        let places = usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS);
        Consoles {
            places: Arc::new(Semaphore::new(places)),
            max,
            closing: watch::Sender::new(false),
        }
    }

    /// A place for one more; none if there are as many as there may be, or no
    /// more are begun.
    pub fn place(&self) -> Option<ConsolePlace> {
        let closing = self.closing.subscribe();
        if *closing.borrow() {
            return None;
        }
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(ConsolePlace { closing, _permit: permit })
    }

    /// Ends all streams; users are told, as far as they listen.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        // Each of them ends within its own bound.
        let _ = self.places.acquire_many(self.max).await;
    }
}

impl ConsoleRelay {
    /// The stream `sled` of this instance, in this place.
    pub fn new(
        sled: ConsoleStream,
        place: ConsolePlace,
        instance: InstanceId,
    ) -> ConsoleRelay {
        ConsoleRelay { sled, place, instance }
    }

    /// Whose it is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Passes on, both ways, until either side leaves, or the user is shut out. A
    /// user who takes nothing
    /// holds up nobody: the sled skips what is overwritten meanwhile.
    pub async fn run(
        mut self,
        connection: WebsocketConnection,
        shut_out: impl Future<Output = ()>,
    ) {
        let user = WebSocketStream::from_raw_socket(
            connection.into_inner(),
            Role::Server,
            Some(console_socket_config()),
        )
        .await;
        let (mut to_user, mut from_user) = user.split();
        let (mut to_sled, mut from_sled) = self.sled.split();
        let end = {
            let printed = pin!(pass_down(&mut from_sled, &mut to_user));
            let typed = pin!(pass_up(&mut from_user, &mut to_sled));
            tokio::select! {
                end = printed => end,
                end = typed => end,
                () = shut_out => End::ShutOut,
                // An error says that the process ends, too.
                _ = self.place.closing.wait_for(|closing| *closing) => {
                    End::Closing
                }
            }
        };
        let goodbye = async {
            let Some(frame) = close_frame(end) else {
                // It flushes the answer to what the user said.
                return to_user.close().await;
            };
            to_user.send(Message::Close(Some(frame))).await?;
            // A socket that is closed with something unread in it loses what
            // is under way.
            while let Some(Ok(_)) = from_user.next().await {}
            if let End::TooLong = end
                && let Ok(mut user) = to_user.reunite(from_user)
            {
                // No messages are to be read of it any more.
                let socket = user.get_mut();
                socket.shutdown().await?;
                tokio::io::copy(socket, &mut tokio::io::sink()).await?;
            }
            Ok(())
        };
        // Whoever does not answer is cut off.
        let _ = tokio::time::timeout(CLOSING, goodbye).await;
    }
}

fn close_frame(end: End) -> Option<CloseFrame> {
    let (code, reason) = match end {
        End::Whole => (CloseCode::Normal, "the instance has stopped"),
        End::Cut => (
            CloseCode::Error,
            "the instance's host does not answer: connect again",
        ),
        End::Closing => {
            (CloseCode::Away, "this server shuts down: connect again")
        }
        End::ShutOut => (
            CloseCode::Policy,
            "you are logged out, or may not see this instance any more",
        ),
        End::TooLong => (CloseCode::Size, "send at most 64 KiB at once"),
        End::UserGone => return None,
    };
    Some(CloseFrame { code, reason: reason.into() })
}

/// What is printed.
async fn pass_down(
    from_sled: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
    to_user: &mut (impl Sink<Message, Error = SocketError> + Unpin),
) -> End {
    while let Some(Ok(message)) = from_sled.next().await {
        let message = match message {
            Message::Close(Some(frame)) if frame.code == CloseCode::Normal => {
                return End::Whole;
            }
            Message::Close(_) => return End::Cut,
            // So that a user who is gone without a word is found out.
            printed @ (Message::Binary(_) | Message::Ping(_)) => printed,
            Message::Text(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        if to_user.send(message).await.is_err() {
            return End::UserGone;
        }
    }
    End::Cut
}

/// The messages to the sled, of a user who sends these bytes and leaves: for
/// those who try it with everything (`fuzz/`).
pub async fn passed_up(sent: Vec<u8>) -> Vec<Vec<u8>> {
    let user = tokio::io::join(std::io::Cursor::new(sent), tokio::io::sink());
    let config = Some(console_socket_config());
    let user = WebSocketStream::from_raw_socket(user, Role::Server, config);
    let (_, mut from_user) = user.await.split();
    let (to_sled, passed) = futures::channel::mpsc::unbounded();
    let mut to_sled = to_sled.sink_map_err(|_| SocketError::ConnectionClosed);
    pass_up(&mut from_user, &mut to_sled).await;
    drop(to_sled);
    passed.map(|message| message.into_data().to_vec()).collect().await
}

/// What is typed.
async fn pass_up(
    from_user: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
    to_sled: &mut (impl Sink<Message, Error = SocketError> + Unpin),
) -> End {
    while let Some(message) = from_user.next().await {
        let typed = match message {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => text.into(),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                continue;
            }
            Ok(Message::Close(_)) => return End::UserGone,
            Err(SocketError::Capacity(_)) => return End::TooLong,
            Err(_) => return End::UserGone,
        };
        if to_sled.send(Message::Binary(typed)).await.is_err() {
            return End::Cut;
        }
    }
    End::UserGone
}
