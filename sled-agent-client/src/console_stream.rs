//! The stream of a serial console: a websocket that carries what the guest
//! prints one way, and what is typed the other.
//!
//! Both ways the bytes are in binary messages, cut anywhere. The sled ends the
//! stream with a normal close frame when the VMM has ended and all that it
//! printed is sent; a stream that ends otherwise was cut.

use crate::error::{Error, Unreachable};
use http::StatusCode;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use reqwest::{RequestBuilder, Response, Upgraded};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The longest message that either side takes: as much as anybody pastes.
pub const MAX_CONSOLE_MESSAGE_BYTES: usize = 64 << 10;

/// A stream, at the end of who reads it.
pub type ConsoleStream = WebSocketStream<Upgraded>;

/// How a websocket that carries a console is set up, at any end of it. No more
/// than a few messages are held in memory.
pub fn console_socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_CONSOLE_MESSAGE_BYTES)
        .max_message_size(Some(MAX_CONSOLE_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_CONSOLE_MESSAGE_BYTES))
}

/// A request that asks for a websocket, and the key that tells whether it was
/// understood.
pub(crate) fn asking_for_websocket(
    request: RequestBuilder,
) -> (RequestBuilder, String) {
    let key = generate_key();
    let request = request
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    (request, key)
}

/// The websocket that was asked for with this key.
pub(crate) async fn upgraded(
    response: Response,
    key: &str,
) -> Result<ConsoleStream, Error> {
    let accepted = derive_accept_key(key.as_bytes());
    let named = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    let understood = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && named.is_some_and(|named| named.as_bytes() == accepted.as_bytes());
    if !understood {
        return Err(Error::Bug {
            status: response.status().as_u16(),
            message: "no websocket where there should be one".to_string(),
        });
    }
    let socket = response
        .upgrade()
        .await
        .map_err(|error| Error::Unreachable(Unreachable::Exchange(error)))?;
    let config = Some(console_socket_config());
    Ok(ConsoleStream::from_raw_socket(socket, Role::Client, config).await)
}
