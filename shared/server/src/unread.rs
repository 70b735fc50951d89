//! Response bodies whose unread bytes are counted until the client has read them.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use parking_lot::Mutex;
use tonic::{Status, body::Body};

use crate::connections::{CallInFlight, OpenConnection};

/// The largest part of a response that the transport gets at once. The transport cannot give back a part that it has, so this bounds
/// the memory of a response that was ended.
const CHUNK: usize = 16 << 10;
/// The largest part that is not counted any more once the transport has it, because counting costs more than it would protect.
const UNCOUNTED: usize = 256;
/// The bytes that are read from a body before it is sent. A response of known length becomes available at once up to this size, so
/// that its true size is known.
const READ_AHEAD: usize = 2 << 20;

/// Counts the bytes of `body` for the connection of `call`. Returns `None` if the connection has no room for them.
pub(crate) fn count(body: Body, call: CallInFlight) -> Option<Body> {
    if body.is_end_stream() {
        return Some(body);
    }
    let has_known_length = body.size_hint().exact().is_some();
    let mut rest = Rest { body: Some(body), has_known_length, ..Rest::default() };
    rest.read_ahead();
    if rest.bytes > CHUNK && !call.connection().has_room_for(rest.bytes) {
        return None;
    }
    Some(Body::new(UnreadBody::new(rest, call)))
}

/// The part of a response that the transport does not have yet.
#[derive(Debug, Default)]
struct Rest {
    /// The source of further bytes. It is `None` after its end.
    body: Option<Body>,
    chunks: VecDeque<Bytes>,
    /// The sum of the lengths of `chunks`.
    bytes: usize,
    trailers: Option<HeaderMap>,
    failure: Option<Status>,
    /// Whether the length of the body was known before it was read.
    has_known_length: bool,
}

impl Rest {
    /// Reads from the body what is available without waiting.
    fn read_ahead(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while self.bytes < READ_AHEAD && self.poll_body(&mut context).is_ready() && self.body.is_some() {}
    }

    /// Reads one frame from the body.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else { return Poll::Ready(()) };
        match std::task::ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.bytes += data.len();
                    self.chunks.push_back(data);
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            },
            Some(Err(status)) => {
                self.failure = Some(status);
                self.body = None;
            }
            None => self.body = None,
        }
        if self.body.as_ref().is_some_and(http_body::Body::is_end_stream) {
            self.body = None;
        }
        Poll::Ready(())
    }

    /// Takes the next part, of at most [`CHUNK`] bytes.
    fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.chunks.front_mut()?;
        let chunk = if first.len() > CHUNK { first.split_to(CHUNK) } else { self.chunks.pop_front()? };
        self.bytes -= chunk.len();
        Some(chunk)
    }
}

/// A response that the client has not read completely.
#[derive(Debug)]
pub(crate) struct UnreadResponse {
    connection: Arc<OpenConnection>,
    rest: Mutex<Rest>,
    /// The bytes of the rest, and those that the transport has and the client has not read.
    unread: AtomicUsize,
    /// The time when the client last read something.
    progressed: AtomicU64,
}

impl UnreadResponse {
    /// Returns true if bytes are unread, and the client has read nothing since `earliest`.
    pub(crate) fn is_stalled(&self, earliest: u64) -> bool {
        self.is_unread() && self.progressed.load(Relaxed) <= earliest
    }

    /// Returns true if bytes are unread.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed) > 0
    }

    /// Drops the rest. The stream is reset when the transport asks for the next part.
    pub(crate) fn end(&self) {
        let ended = Rest { failure: Some(Status::cancelled("the client did not read the response")), ..Rest::default() };
        let rest = std::mem::replace(&mut *self.rest.lock(), ended);
        self.remove(rest.bytes);
    }

    fn add(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        self.connection.add_unread(bytes);
    }

    fn remove(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
        self.connection.remove_unread(bytes);
    }
}

/// The body of an [`UnreadResponse`].
struct UnreadBody {
    response: Arc<UnreadResponse>,
    key: usize,
    _call: CallInFlight,
}

impl UnreadBody {
    fn new(rest: Rest, call: CallInFlight) -> Self {
        let connection = Arc::clone(call.connection());
        let bytes = rest.bytes;
        let progressed = AtomicU64::new(connection.now());
        let response = UnreadResponse { connection, rest: Mutex::new(rest), unread: AtomicUsize::new(0), progressed };
        let response = Arc::new(response);
        response.add(bytes);
        let key = response.connection.add_response(Arc::clone(&response));
        Self { response, key, _call: call }
    }
}

impl http_body::Body for UnreadBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let response = &self.response;
        let mut rest = response.rest.lock();
        loop {
            if let Some(chunk) = rest.next_chunk() {
                response.progressed.store(response.connection.note_progress(), Relaxed);
                if chunk.len() <= UNCOUNTED {
                    response.remove(chunk.len());
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                let chunk = CountedChunk { bytes: chunk, response: Arc::clone(response) };
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(chunk)))));
            }
            if let Some(trailers) = rest.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if let Some(failure) = rest.failure.take() {
                return Poll::Ready(Some(Err(failure)));
            }
            if rest.body.is_none() {
                return Poll::Ready(None);
            }
            std::task::ready!(rest.poll_body(context));
            response.add(rest.bytes);
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.response.rest.lock();
        rest.body.is_none() && rest.chunks.is_empty() && rest.trailers.is_none() && rest.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.response.rest.lock();
        // gRPC responses stay without a length, because their trailers follow.
        if !rest.has_known_length {
            return SizeHint::default();
        }
        let remaining = rest.body.as_ref().and_then(|body| body.size_hint().exact()).unwrap_or_default();
        SizeHint::with_exact(remaining + rest.bytes as u64)
    }
}

impl Drop for UnreadBody {
    fn drop(&mut self) {
        self.response.connection.remove_response(self.key);
        let rest = std::mem::take(&mut *self.response.rest.lock());
        self.response.remove(rest.bytes);
    }
}

/// A part of a response that the transport has. The bytes count as unread until the transport drops it.
struct CountedChunk {
    bytes: Bytes,
    response: Arc<UnreadResponse>,
}

impl AsRef<[u8]> for CountedChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedChunk {
    fn drop(&mut self) {
        self.response.remove(self.bytes.len());
        self.response.progressed.store(self.response.connection.note_progress(), Relaxed);
    }
}
