//! Accepts TCP connections, with a timeout for the first bytes.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::futures::OwnedNotified,
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::connections::{ConnectionPermit, Connections, OpenConnection};

/// The time that a new connection has to send as many bytes as the HTTP/2 preface has.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The length of the HTTP/2 preface (RFC 9113 section 3.4), in bytes. Every HTTP/1.1 request is at least as long.
const PREFACE_LENGTH: usize = 24;
/// The pause after an error that concerns the listener and not one connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of the connections that a listener accepts.
pub(crate) struct Incoming {
    listener: TcpListener,
    connections: Arc<Connections>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener, connections: Arc<Connections>) -> Self {
        Self { listener, connections, pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, address)) => {
                    let Some(permit) = self.connections.open(address.ip()) else {
                        tracing::warn!(address = %address.ip(), "a connection is refused: there are too many");
                        continue;
                    };
                    // Nagle's algorithm would delay the last packet of a response until the client acknowledges the one before.
                    let _ = stream.set_nodelay(true);
                    let preface = Some((Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)), 0));
                    let closing = Box::pin(permit.connection().closing());
                    return Poll::Ready(Some(Ok(Connection { stream, preface, permit, closing })));
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

/// A connection. Reading fails if the first bytes do not arrive in time, and when the connection has to be closed.
pub(crate) struct Connection {
    stream: TcpStream,
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
}

impl Connected for Connection {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        ConnectInfo { tcp: self.stream.connect_info(), connection: Arc::clone(self.permit.connection()) }
    }
}

impl Connection {
    /// Returns the result of a read or a write, or an error if the connection has to be closed.
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

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.unless_closing(context, written)
    }
}
