//! One GET over plain HTTP to this machine: all the client that `up` needs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A server on this machine that takes longer is not ready.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether anything listens there.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&local(port), TIMEOUT).is_ok()
}

/// HTTP/1.0, so that the answer comes in one piece and the connection closes
/// after it. `None` when there is no proper answer.
pub(crate) fn get(
    port: u16,
    path: &str,
    token: Option<&str>,
) -> Option<Response> {
    let mut stream = TcpStream::connect_timeout(&local(port), TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    let authorization = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\
         {authorization}\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    parse(&answer)
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = parse(
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{\"a\":\r\n\r\n1}",
        );
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, "{\"a\":\r\n\r\n1}");
        assert!(parse("HTTP/1.0 200 OK\r\n").is_none());
    }
}
