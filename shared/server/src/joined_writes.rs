//! Writes a response over HTTP/2 at once, although `h2` writes it in two parts.
//!
//! `h2` writes and flushes a body of 256 bytes or more before it encodes the trailers. On a socket that sends without delay, the few bytes
//! of the trailers would cost a system call, a packet and a wake-up of the client of their own.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of a connection with HTTP/2 (RFC 9113 section 3.4). HTTP/1.1 has no method `PRI`.
const PREFACE_START: &[u8] = b"PRI ";
/// The most bytes that are held. A larger part of a response is written at once.
const LIMIT: usize = 16 << 10;
/// The usual length of trailers, in bytes.
const TRAILERS: usize = 64;

/// A stream that holds the body of a response until its trailers follow.
///
/// A flush writes what is held, except the flush that immediately follows a body. That one leaves it for the trailers, and wakes the task
/// of the connection, whose next read writes it in any case.
pub(crate) struct JoinedWrites<S> {
    stream: S,
    /// It is `None` before the first bytes were read.
    is_http2: Option<bool>,
    held: Vec<u8>,
    /// The bytes of `held` that the stream has accepted.
    written: usize,
    /// True if the last write was a body, and no flush has followed.
    ends_with_body: bool,
}

impl<S> JoinedWrites<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, is_http2: None, held: Vec::new(), written: 0, ends_with_body: false }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Holds a write if it is a body, or if it follows one. Returns false if it must be written at once, after what is held.
    fn hold(&mut self, buffers: &[IoSlice<'_>], length: usize) -> bool {
        // `h2` passes a body beside the frames before it. All other frames are in one buffer.
        let is_body = buffers.len() > 1;
        if self.is_http2 != Some(true) || (!is_body && self.held.is_empty()) || self.held.len() + length > LIMIT {
            return false;
        }
        self.held.reserve(length + if is_body { TRAILERS } else { 0 });
        for buffer in buffers {
            self.held.extend_from_slice(buffer);
        }
        self.ends_with_body = is_body;
        true
    }
}

impl<S: AsyncWrite + Unpin> JoinedWrites<S> {
    fn poll_write_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        // An idle connection keeps no memory for them.
        (self.held, self.written, self.ends_with_body) = (Vec::new(), 0, false);
        Poll::Ready(Ok(()))
    }

    fn poll_flush_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for JoinedWrites<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_flush_held(context)
        {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if self.is_http2.is_none() && !bytes.is_empty() {
            self.is_http2 = Some(bytes.starts_with(PREFACE_START));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for JoinedWrites<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.hold(buffers, length) {
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_write_held(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if mem::take(&mut self.ends_with_body) {
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        self.poll_flush_held(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_held(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use h2::{RecvStream, server::SendResponse};
    use http::{HeaderMap, Request, Response};
    use tokio::io::DuplexStream;

    use super::*;

    /// A stream that counts the writes.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, SeqCst);
            Pin::new(&mut self.0).poll_write(context, buffer)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffers: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, SeqCst);
            Pin::new(&mut self.0).poll_write_vectored(context, buffers)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    /// Serves HTTP/2 with `respond`, sends one request, and returns the body of the response and the number of writes.
    async fn call(respond: fn(SendResponse<Bytes>)) -> (RecvStream, Arc<AtomicUsize>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let writes = Arc::new(AtomicUsize::new(0));
        let served = JoinedWrites::new(Counted(far, Arc::clone(&writes)));
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(served).await.expect("a handshake");
            while let Some(accepted) = connection.accept().await {
                let (_, response) = accepted.expect("a request");
                respond(response);
            }
        });
        let (mut requests, connection) = h2::client::handshake(near).await.expect("a handshake");
        tokio::spawn(connection);
        requests = requests.ready().await.expect("a connection");
        let send = |requests: &mut h2::client::SendRequest<Bytes>| {
            requests.send_request(Request::get("http://localhost/").body(()).expect("a request"), true).expect("a stream").0
        };
        // The settings of the server are written with the first response.
        let mut first = send(&mut requests).await.expect("a response").into_body();
        first.data().await.expect("a body").expect("a body");
        writes.store(0, SeqCst);
        let response = send(&mut requests).await.expect("a response");
        (response.into_body(), writes)
    }

    async fn within_time<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_mins(1), future).await.expect("nothing is held for ever")
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_is_written_at_once() {
        let (mut body, writes) = within_time(call(|mut response| {
            let mut body = response.send_response(Response::new(()), false).expect("an open stream");
            body.send_data(Bytes::from(vec![b'x'; 5000]), false).expect("an open stream");
            body.send_trailers(HeaderMap::new()).expect("an open stream");
        }))
        .await;
        let received = within_time(body.data()).await.expect("a body").expect("a body");
        assert_eq!((received.len(), within_time(body.trailers()).await.expect("trailers")), (5000, Some(HeaderMap::new())));
        assert_eq!(writes.load(SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_a_stream_is_not_held_until_the_next_one() {
        let (mut body, _) = within_time(call(|mut response| {
            let mut body = response.send_response(Response::new(()), false).expect("an open stream");
            body.send_data(Bytes::from(vec![b'x'; 5000]), false).expect("an open stream");
            // The stream stays open.
            mem::forget(body);
        }))
        .await;
        assert_eq!(within_time(body.data()).await.expect("a body").expect("a body").len(), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_response_arrives_completely() {
        let (mut body, _) = within_time(call(|mut response| {
            let mut body = response.send_response(Response::new(()), false).expect("an open stream");
            body.send_data(Bytes::from(vec![b'x'; 60_000]), false).expect("an open stream");
            body.send_trailers(HeaderMap::new()).expect("an open stream");
        }))
        .await;
        let mut received = 0;
        while let Some(data) = within_time(body.data()).await {
            received += data.expect("a body").len();
        }
        assert_eq!((received, within_time(body.trailers()).await.expect("trailers")), (60_000, Some(HeaderMap::new())));
    }
}
