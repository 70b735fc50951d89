//! Accepts TCP connections, with TLS if it is configured, and with a timeout for the first bytes.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::futures::OwnedNotified,
    task::JoinSet,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{
    connections::{ConnectionPermit, Connections, OpenConnection},
    joined_writes::JoinedWrites,
    tls::{self, ReloadingTls},
};

/// The time that a new connection has to send as many bytes as the HTTP/2 preface has.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The length of the HTTP/2 preface (RFC 9113 section 3.4), in bytes. Every HTTP/1.1 request is at least as long.
const PREFACE_LENGTH: usize = 24;
/// The pause after an error that concerns the listener and not one connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The time that a new connection has for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest number of TLS handshakes at the same time. More connections wait in the queue of the listener.
const HANDSHAKE_LIMIT: usize = 256;

/// The stream of the connections that a listener accepts.
pub(crate) struct Incoming {
    listener: TcpListener,
    connections: Arc<Connections>,
    tls: Option<Arc<ReloadingTls>>,
    handshakes: JoinSet<Option<Connection>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener, connections: Arc<Connections>, tls: Option<Arc<ReloadingTls>>) -> Self {
        Self { listener, connections, tls, handshakes: JoinSet::new(), pause: None }
    }

    /// Accepts a connection. Returns it at once without TLS, and after its handshake otherwise.
    fn accept(&mut self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        let Some(permit) = self.connections.open(address.ip()) else {
            tracing::warn!(address = %address.ip(), "a connection is refused: there are too many");
            return None;
        };
        // Nagle's algorithm would delay the last packet of a response until the client acknowledges the one before.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Some(Connection::new(Transport::Plain(stream), permit));
        };
        let handshake = tls.acceptor().accept(stream);
        self.handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => Some(Connection::new(Transport::Tls(Box::new(stream)), permit)),
                Ok(Err(error)) => {
                    tracing::info!(address = %address.ip(), %error, "a TLS handshake failed");
                    None
                }
                Err(_) => {
                    tracing::info!(address = %address.ip(), "a TLS handshake was not completed in time");
                    None
                }
            }
        });
        None
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            while let Poll::Ready(Some(shaken)) = self.handshakes.poll_join_next(context) {
                if let Ok(Some(connection)) = shaken {
                    return Poll::Ready(Some(Ok(connection)));
                }
            }
            if self.handshakes.len() >= HANDSHAKE_LIMIT {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    if let Some(connection) = self.accept(stream, address) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::error!(%error, "connections can't be accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }
}

/// The bytes of a connection.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls a method of the stream of a transport.
macro_rules! on_stream {
    ($transport:expr, $method:ident($($argument:expr),*)) => {
        match $transport.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write(context, buffer))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(context))
    }
}

/// A connection. Reading fails if the first bytes do not arrive in time, and when the connection has to be closed.
pub(crate) struct Connection {
    stream: JoinedWrites<Transport>,
    /// The timer, and the number of bytes that were read. It is `None` once the preface is complete.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
    permit: ConnectionPermit,
    closing: Pin<Box<OwnedNotified>>,
}

/// The connection of a request, which is in the extensions of the request.
#[derive(Debug, Clone)]
pub(crate) struct ConnectInfo {
    pub(crate) tcp: TcpConnectInfo,
    pub(crate) connection: Arc<OpenConnection>,
    /// The subject alternative names of the client's certificate, which was verified.
    pub(crate) certificate_names: Arc<[String]>,
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        let (stream, certificates) = match self.stream.get_ref() {
            Transport::Plain(stream) => (stream, None),
            Transport::Tls(stream) => (stream.get_ref().0, stream.get_ref().1.peer_certificates()),
        };
        let certificate_names =
            certificates.and_then(|certificates| certificates.first()).map(tls::certificate_names).unwrap_or_default();
        ConnectInfo {
            tcp: stream.connect_info(),
            connection: Arc::clone(self.permit.connection()),
            certificate_names: certificate_names.into(),
        }
    }
}

impl Connection {
    fn new(transport: Transport, permit: ConnectionPermit) -> Self {
        let preface = Some((Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)), 0));
        let closing = Box::pin(permit.connection().closing());
        Self { stream: JoinedWrites::new(transport), preface, permit, closing }
    }

    /// Returns the result of an operation on the stream, or an error if the connection has to be closed.
    fn unless_closing<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        // The flag is read after the future was polled, because the future misses what happened before.
        let is_notified = result.is_pending() && self.closing.as_mut().poll(context).is_ready();
        if is_notified || self.permit.connection().is_closing() {
            let message = "the client does not read its responses, or the connection was idle and others were waiting";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, message)));
        }
        result
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = self.unless_closing(context, read);
        let Some((timeout, length)) = &mut self.preface else { return read };
        *length += buffer.filled().len() - before;
        if *length >= PREFACE_LENGTH {
            self.preface = None;
            return read;
        }
        if read.is_pending() && timeout.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing that HTTP begins with")));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.unless_closing(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.unless_closing(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.unless_closing(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(context);
        self.unless_closing(context, shut_down)
    }
}
