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
pub struct Console {
    socket: WebSocketStream<Upgraded>,
    /// What was received and not read yet.
    rest: String,
}

impl Client {
    /// A websocket at this path, or what was answered instead.
    pub async fn console(&self, path: &str) -> Result<Console, Answer> {
        self.console_with(path, &[]).await
    }

    /// The same, asked for with these headers.
    pub async fn console_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Console, Answer> {
        let mut request = self
            .bare(reqwest::Method::GET, path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        if answer.status() != reqwest::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Client::read(answer).await.unwrap());
        }
        let socket = answer.upgrade().await.unwrap();
        let socket =
            WebSocketStream::from_raw_socket(socket, Role::Client, None);
        Ok(Console { socket: socket.await, rest: String::new() })
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
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// Sends a message as it is.
    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// What is read until that ends so.
    ///
    /// # Panics
    ///
    /// It never does.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut read = std::mem::take(&mut self.rest);
        let reading = async {
            while !read.ends_with(end) {
                match self.socket.next().await {
                    Some(Ok(message)) => take_in(&mut read, &message),
                    other => panic!("it ended with {other:?} after {read:?}"),
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, reading).await.is_ok();
        assert!(in_time, "no {end:?} in {read:?}");
        read
    }

    /// What is read up to these words, of a guest that may be slow: what emulates
    /// it has little of the host.
    ///
    /// # Panics
    ///
    /// They never come.
    pub async fn read_past(&mut self, words: &str) -> String {
        let mut read = std::mem::take(&mut self.rest);
        let reading = async {
            loop {
                if let Some(at) = read.find(words) {
                    return at + words.len();
                }
                match self.socket.next().await {
                    Some(Ok(message)) => take_in(&mut read, &message),
                    other => panic!("it ended with {other:?} after {read:?}"),
                }
            }
        };
        let end = tokio::time::timeout(3 * DEADLINE, reading).await;
        assert!(end.is_ok(), "no {words:?} in {read:?}");
        self.rest = read.split_off(end.unwrap());
        read
    }

    /// What is left to read, and with what it ends: nothing, if it is cut.
    pub async fn read_to_the_end(&mut self) -> (String, Option<CloseFrame>) {
        let (mut read, mut frame) = (std::mem::take(&mut self.rest), None);
        let reading = async {
            while let Some(Ok(message)) = self.socket.next().await {
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
