//! Accepts TCP connections, with a limit per client address and a timeout for the first bytes.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use access::rate_limit_key;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The largest number of open connections per client address, as [`rate_limit_key`] groups addresses.
const CONNECTION_LIMIT: usize = 256;
/// The time that a new connection has to send as many bytes as the HTTP/2 preface has.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The length of the HTTP/2 preface (RFC 9113 section 3.4), in bytes. Every HTTP/1.1 request is at least as long.
const PREFACE_LENGTH: usize = 24;
/// The pause after an error that concerns the listener and not one connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The number of open connections of each client.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The stream of the connections that a listener accepts.
pub(crate) struct Incoming {
    listener: TcpListener,
    counts: Counts,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, counts: Counts::default(), pause: None }
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
                    let Some(permit) = ConnectionPermit::take(&self.counts, address.ip()) else {
                        tracing::warn!(address = %address.ip(), "a connection is refused: too many from there");
                        continue;
                    };
                    // Nagle's algorithm would delay the last packet of a response until the client acknowledges the one before.
                    let _ = stream.set_nodelay(true);
                    let preface = Some((Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)), 0));
                    return Poll::Ready(Some(Ok(Connection { stream, preface, _permit: permit })));
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

/// The permit for one connection of a client. Dropping it returns the permit.
struct ConnectionPermit {
    counts: Counts,
    address: IpAddr,
}

impl ConnectionPermit {
    /// Takes a permit, or returns `None` if the client has as many connections as it may have.
    fn take(counts: &Counts, address: IpAddr) -> Option<Self> {
        let address = rate_limit_key(address);
        let mut open = counts.lock();
        let count = open.entry(address).or_default();
        if *count >= CONNECTION_LIMIT {
            return None;
        }
        *count += 1;
        Some(Self { counts: Arc::clone(counts), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.counts.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A connection. Reading fails if the first bytes do not arrive in time.
pub(crate) struct Connection {
    stream: TcpStream,
    /// The timer, and the number of bytes that were read. It is `None` once the preface is complete.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
    _permit: ConnectionPermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
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
        Pin::new(&mut self.stream).poll_write(context, buffer)
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
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
