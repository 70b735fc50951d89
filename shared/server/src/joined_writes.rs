//! Writes the body and the trailers of a response over HTTP/2 together, although `h2` writes them separately.
//!
//! `h2` writes and flushes a body of 256 bytes or more before it encodes the trailers. On a socket that sends without delay, the few bytes
//! of the trailers would cost a second system call and a second packet, and would wake the client a second time.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of a connection with HTTP/2 (RFC 9113 section 3.4). HTTP/1.1 has no method `PRI`.
const PREFACE_START: &[u8] = b"PRI ";
/// The largest number of bytes that are held. A larger write is not held.
const LIMIT: usize = 16 << 10;
/// The room that is reserved for trailers, in bytes.
const TRAILERS: usize = 64;

/// A stream that holds the body of a response until its trailers follow.
///
/// A flush that immediately follows a body does not write it. It wakes the task of the connection, whose next read or flush writes what is
/// held. Every other flush writes what is held.
pub(crate) struct JoinedWrites<S> {
    stream: S,
    /// It is `None` before the first bytes were read. A preface whose first four bytes arrive in pieces is taken for HTTP/1.1, so that
    /// nothing is held.
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

    /// Holds a write if it is a body, or if it follows one. Returns false if it must be written now, after what is held.
    fn hold(&mut self, buffers: &[IoSlice<'_>], length: usize) -> bool {
        // `h2` passes a body beside the frames before it. All other frames are in one buffer.
        let is_body = buffers.len() > 1;
        if self.is_http2 != Some(true) || (!is_body && self.held.is_empty()) || self.held.len() + length > LIMIT {
            return false;
        }
        self.held.reserve_exact(length + if is_body { TRAILERS } else { 0 });
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
        future::poll_fn,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use h2::{RecvStream, server::SendResponse};
    use http::{HeaderMap, Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

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

    /// Serves HTTP/2 with `respond` over a pipe with room for `room` bytes, sends one request, and returns the body of the response and the
    /// number of writes.
    async fn call(room: usize, respond: fn(SendResponse<Bytes>)) -> (RecvStream, Arc<AtomicUsize>) {
        let (near, far) = tokio::io::duplex(room);
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
    async fn a_body_and_its_trailers_are_one_write() {
        let (mut body, writes) = within_time(call(64 << 10, |mut response| {
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
        let (mut body, _) = within_time(call(64 << 10, |mut response| {
            let mut body = response.send_response(Response::new(()), false).expect("an open stream");
            body.send_data(Bytes::from(vec![b'x'; 5000]), false).expect("an open stream");
            // The stream stays open.
            mem::forget(body);
        }))
        .await;
        assert_eq!(within_time(body.data()).await.expect("a body").expect("a body").len(), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_arrives_completely_if_the_stream_accepts_few_bytes_at_a_time() {
        for room in [10, 1000, 64 << 10] {
            let (mut body, _) = within_time(call(room, |mut response| {
                let mut body = response.send_response(Response::new(()), false).expect("an open stream");
                for length in [300, 15_000, 1, 15_000, 17_000] {
                    body.send_data(Bytes::from(vec![b'x'; length]), false).expect("an open stream");
                }
                body.send_trailers(HeaderMap::new()).expect("an open stream");
            }))
            .await;
            let mut received = 0;
            while let Some(data) = within_time(body.data()).await {
                received += data.expect("a body").len();
            }
            assert_eq!((received, within_time(body.trailers()).await.expect("trailers")), (47_301, Some(HeaderMap::new())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_writes_what_is_held() {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let mut joined = JoinedWrites { is_http2: Some(true), ..JoinedWrites::new(far) };
        let held = poll_fn(|context| {
            Pin::new(&mut joined).poll_write_vectored(context, &[IoSlice::new(b"head "), IoSlice::new(b"and body")])
        });
        assert_eq!(within_time(held).await.expect("room"), 13);
        within_time(joined.shutdown()).await.expect("a shutdown");
        let mut received = String::new();
        within_time(near.read_to_string(&mut received)).await.expect("text");
        assert_eq!(received, "head and body");
    }
}
