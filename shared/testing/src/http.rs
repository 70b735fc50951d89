//! A client of HTTP/1.1 (RFC 9112) that also sends invalid requests, which other clients refuse to send.

use std::{fmt::Write, net::SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// Returns the value of a header, or an empty text if it is absent or not ASCII.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns the body as text.
    ///
    /// # Panics
    ///
    /// Panics if the body is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// Sends one request on a connection of its own. `request_line` has the method and the path, such as `GET /v1/me`.
///
/// # Panics
///
/// Panics if there is no response, or if it is not one of HTTP/1.1.
pub async fn send(address: SocketAddr, request_line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    send_on(TcpStream::connect(address).await.expect("a connection"), request_line, headers, body).await
}

/// Sends one request on a connection, which the server closes afterwards.
///
/// # Panics
///
/// Panics if there is no response, or if it is not one of HTTP/1.1.
pub async fn send_on(mut stream: TcpStream, request_line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let host = stream.peer_addr().expect("an open connection");
    let mut head = format!("{request_line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(head, "content-length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    // A server that answers early stops reading, and may reset the connection while the body is sent.
    let send = async {
        let _ = write.write_all(head.as_bytes()).await;
        let _ = write.write_all(body).await;
    };
    let receive = async {
        let mut part = [0; 8192];
        while let Ok(length @ 1..) = read.read(&mut part).await {
            answer.extend_from_slice(&part[..length]);
        }
    };
    tokio::join!(send, receive);
    parse(&answer)
}

/// A call that the server handles, and whose client has not sent the body yet.
#[derive(Debug)]
pub struct HeldCall(TcpStream);

impl HeldCall {
    /// Sends the head of a request with a body of two bytes, and waits until the handler asks for the body.
    ///
    /// # Panics
    ///
    /// Panics if the server does not ask for the body.
    pub async fn start(address: SocketAddr, request_line: &str, headers: &[(&str, &str)]) -> Self {
        let mut head = format!(
            "{request_line} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        );
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("an open connection");
        let mut answer = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 100 Continue\r\n\r\n");
        Self(stream)
    }

    /// Sends the body, and returns the status and the connection, which stays open.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer, or one whose length is not known.
    pub async fn finish(self, body: &[u8; 2]) -> (u16, TcpStream) {
        let Self(mut stream) = self;
        stream.write_all(body).await.expect("an open connection");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("a head"));
        }
        let Answer { status, headers, .. } = parse(&answer);
        let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        stream.read_exact(&mut vec![0; length.expect("a length")]).await.expect("a body");
        (status, stream)
    }
}

fn parse(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("an answer with a head: {}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: HeaderMap = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header's name");
            (name, HeaderValue::from_str(value.trim()).expect("a header's value"))
        })
        .collect();
    let rest = &answer[end + 4..];
    let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if is_chunked { unchunked(rest) } else { rest.to_vec() };
    Answer { status: status.expect("a status"), headers, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("the size of a chunk");
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}
