//! HTTP/1.1 as little as it can be: load is to cost the machine hardly
//! anything, since it shares the machine with what it loads.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The end of the headers.
const END: &[u8] = b"\r\n\r\n";

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A GET, as it is sent.
pub(crate) fn request(address: SocketAddr, path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection { stream, read: vec![0; CHUNK_BYTES] }
    }

    /// Sends it, and takes in the whole answer, which is a 200 that says how
    /// long it is.
    pub(crate) async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        let mut have = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| have < whole) {
            // Of the body nothing is kept, so it may overwrite itself.
            let from = if whole.is_some() { 0 } else { have };
            let got = self.stream.read(&mut self.read[from..]).await.unwrap();
            assert_ne!(got, 0, "the connection was closed");
            have += got;
            if whole.is_none() {
                whole = length(&self.read[..have]);
            }
        }
        assert_eq!(Some(have), whole, "more than one answer");
    }
}

/// How long the whole answer is, once its headers are there.
fn length(read: &[u8]) -> Option<usize> {
    let headers = read.windows(END.len()).position(|part| part == END)?;
    let text = std::str::from_utf8(&read[..headers]).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let body = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().unwrap())
    });
    Some(headers + END.len() + body.expect("a length"))
}
