//! Connections of the load generator. They cost little, because the generator shares the processors with what it measures.

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Method, Request, Version, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The reason why a call failed, or why something could not be measured.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The length of what precedes a message in gRPC.
const PREFIX: usize = 5;

/// The calls that a load makes, without their bodies.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The address of the server.
    pub(crate) address: String,
    /// The kind of calls.
    pub(crate) kind: Kind,
    /// The access token, if there is one.
    pub(crate) token: Option<String>,
}

/// A kind of calls.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A gRPC method, such as `/package.Service/Method`. The body is the message.
    Grpc(&'static str),
    /// A path over HTTP/1.1. The body is JSON.
    Http(Method, String),
}

/// A connection that makes one kind of calls.
pub(crate) enum Connection {
    Grpc(GrpcConnection),
    Http(HttpConnection),
}

impl Connection {
    /// Connects. Several workers can share a connection of gRPC.
    pub(crate) async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &target.kind {
            Kind::Grpc(path) => Self::Grpc(GrpcConnection::open(stream, target, path).await?),
            Kind::Http(method, path) => Self::Http(HttpConnection::new(stream, target, method, path)),
        })
    }

    /// Returns a connection for another worker.
    pub(crate) async fn share(&self, target: &Target) -> Result<Self, Failure> {
        match self {
            Self::Grpc(connection) => Ok(Self::Grpc(connection.clone())),
            Self::Http(_) => Self::open(target).await,
        }
    }

    /// Makes one call and returns the body of the response.
    pub(crate) async fn call(&mut self, body: Bytes) -> Result<Bytes, Failure> {
        match self {
            Self::Grpc(connection) => connection.call(body).await,
            Self::Http(connection) => connection.call(&body).await,
        }
    }
}

/// A connection with HTTP/2, whose calls are concurrent.
#[derive(Clone)]
pub(crate) struct GrpcConnection {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl GrpcConnection {
    async fn open(stream: TcpStream, target: &Target, path: &str) -> Result<Self, Failure> {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(stream)
            .await?;
        tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::post(format!("http://{}{path}", target.address))
            .version(Version::HTTP_2)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::USER_AGENT, "bench")
            .body(())?;
        if let Some(token) = &target.token {
            request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}"))?);
        }
        Ok(Self { sender, request })
    }

    async fn call(&mut self, message: Bytes) -> Result<Bytes, Failure> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(self.request.clone(), false)?;
        let mut frame = BytesMut::with_capacity(message.len() + PREFIX);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len())?);
        frame.put(message);
        stream.send_data(frame.freeze(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            received.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?;
        let headers = trailers.as_ref().unwrap_or(&head.headers);
        if headers.get("grpc-status").map(HeaderValue::as_bytes) != Some(b"0") {
            return Err(format!("{}: {headers:?}", self.request.uri().path()).into());
        }
        Ok(received.freeze().slice(PREFIX..))
    }
}

/// A connection with HTTP/1.1, which makes one call after the other.
pub(crate) struct HttpConnection {
    stream: TcpStream,
    head: String,
    received: Vec<u8>,
}

impl HttpConnection {
    fn new(stream: TcpStream, target: &Target, method: &Method, path: &str) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n", target.address);
        if let Some(token) = &target.token {
            let _ = write!(head, "authorization: Bearer {token}\r\n");
        }
        Self { stream, head, received: Vec::with_capacity(16 << 10) }
    }

    async fn call(&mut self, body: &[u8]) -> Result<Bytes, Failure> {
        let mut request = self.head.clone().into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()).as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        self.received.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.received[..head])?;
        if !text.starts_with("HTTP/1.1 2") {
            return Err(
                format!("{}: {}", self.head.lines().next().unwrap_or_default(), String::from_utf8_lossy(&self.received)).into()
            );
        }
        let length = text.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            let is_length = HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| name == header::CONTENT_LENGTH);
            is_length.then(|| value.trim().parse::<usize>().ok()).flatten()
        });
        let end = head + length.ok_or("a response without content-length")?;
        while self.received.len() < end {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        Ok(Bytes::copy_from_slice(&self.received[head..end]))
    }
}
