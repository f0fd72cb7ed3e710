//! Somebody at an instance's serial console.

use crate::client::{Answer, Client};
use crate::wait::DEADLINE;
use futures::{SinkExt, StreamExt};
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// A stream of a serial console.
#[derive(Debug)]
pub struct Console(WebSocketStream<Upgraded>);

impl Client {
    /// A websocket at this path, or what was answered instead.
    pub async fn console(&self, path: &str) -> Result<Console, Answer> {
        let request = self
            .bare(reqwest::Method::GET, path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        let answer = request.send().await.unwrap();
        if answer.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Client::read(answer).await.unwrap());
        }
        let socket = answer.upgrade().await.unwrap();
        let socket =
            WebSocketStream::from_raw_socket(socket, Role::Client, None);
        Ok(Console(socket.await))
    }

    /// The stream of an instance's console, from the first byte that is kept.
    pub async fn console_of(&self, instance: &str) -> Result<Console, Answer> {
        let path = format!("/v1/instances/{instance}/serial-console/stream");
        self.console(&path).await
    }
}

impl Console {
    /// Types.
    pub async fn type_in(&mut self, text: &str) {
        let bytes = text.as_bytes().to_vec();
        self.0.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// Sends a message as it is.
    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// What is read until that ends so.
    ///
    /// # Panics
    ///
    /// It never does.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut read = String::new();
        let reading = async {
            while !read.ends_with(end) {
                match self.0.next().await {
                    Some(Ok(message)) => take_in(&mut read, &message),
                    other => panic!("it ended with {other:?} after {read:?}"),
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, reading).await.is_ok();
        assert!(in_time, "no {end:?} in {read:?}");
        read
    }

    /// What is left to read, and with what it ends: nothing, if it is cut.
    pub async fn read_to_the_end(&mut self) -> (String, Option<CloseFrame>) {
        let (mut read, mut frame) = (String::new(), None);
        let reading = async {
            while let Some(Ok(message)) = self.0.next().await {
                take_in(&mut read, &message);
                if let Message::Close(said) = message {
                    frame = said;
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, reading).await.is_ok();
        assert!(in_time, "it goes on after {read:?}");
        (read, frame)
    }

    /// What is left to read, of a stream that ends with this code.
    pub async fn ends_with(&mut self, code: CloseCode) -> String {
        let (read, frame) = self.read_to_the_end().await;
        let said = frame.as_ref().map(|frame| frame.code);
        assert_eq!(said, Some(code), "{frame:?} after {} bytes", read.len());
        read
    }
}

fn take_in(read: &mut String, message: &Message) {
    if let Message::Binary(bytes) = message {
        read.push_str(std::str::from_utf8(bytes).unwrap());
    }
}
