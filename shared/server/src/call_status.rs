//! The gRPC status of a call. That of a stream is known when the stream ends, because it is in the trailers.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tonic::{Code, Status, body::Body};

type Act = Box<dyn FnOnce(Code, Option<&Status>) + Send>;

/// The status of a response that has begun. Clones refer to the same response.
#[derive(Clone)]
struct StreamStatus(Arc<Mutex<State>>);

enum State {
    Open(Vec<Act>),
    Ended(Code, Option<Box<Status>>),
}

impl fmt::Debug for StreamStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamStatus")
    }
}

/// Follows the body of a gRPC response until its status is known.
pub(crate) fn follow<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    if response.headers().contains_key("grpc-status") {
        return response.map(Body::new);
    }
    let status = StreamStatus(Arc::new(Mutex::new(State::Open(Vec::new()))));
    let (mut head, body) = response.into_parts();
    head.extensions.insert(status.clone());
    Response::from_parts(head, Body::new(FollowedBody { body, status }))
}

/// Calls `act` with the status of a gRPC response: at once if it is known, or when the stream ends. A stream that ends without a status,
/// because the client or the connection has gone, is CANCELLED.
pub(crate) fn when_known(response: &Response<Body>, act: impl FnOnce(Code, Option<&Status>) + Send + 'static) {
    if let Some(code) = response.headers().get("grpc-status") {
        return act(Code::from_bytes(code.as_bytes()), response.extensions().get());
    }
    let Some(StreamStatus(state)) = response.extensions().get() else { return act(Code::Ok, None) };
    let mut state = state.lock();
    match &mut *state {
        State::Open(waiting) => waiting.push(Box::new(act)),
        State::Ended(code, status) => {
            let (code, status) = (*code, status.clone());
            drop(state);
            act(code, status.as_deref());
        }
    }
}

impl StreamStatus {
    fn end(&self, code: Code, status: Option<Status>) {
        let mut state = self.0.lock();
        let State::Open(waiting) = &mut *state else { return };
        let waiting = std::mem::take(waiting);
        let status = status.map(Box::new);
        *state = State::Ended(code, status.clone());
        drop(state);
        for act in waiting {
            act(code, status.as_deref());
        }
    }

    fn end_with_trailers(&self, trailers: &HeaderMap) {
        match Status::from_header_map(trailers) {
            Some(status) if status.code() == Code::Ok => self.end(Code::Ok, None),
            Some(status) => self.end(status.code(), Some(status)),
            None => self.end(Code::Unknown, None),
        }
    }
}

/// The body of a response whose status is not known yet.
struct FollowedBody<B> {
    body: B,
    status: StreamStatus,
}

impl<B> http_body::Body for FollowedBody<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.status.end_with_trailers(trailers);
                }
            }
            Some(Err(_)) => self.status.end(Code::Internal, None),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for FollowedBody<B> {
    fn drop(&mut self) {
        self.status.end(Code::Cancelled, None);
    }
}

#[cfg(test)]
mod tests {
    use access::error::{Reason, status};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    /// Returns a response that sends a message and these trailers.
    fn response(trailers: Option<HeaderMap>) -> Response<Body> {
        let frames = [Frame::data(Bytes::from_static(b"message"))].into_iter().chain(trailers.map(Frame::trailers));
        let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, Status>)));
        follow(Response::new(Body::new(body)))
    }

    /// The codes and messages that were reported.
    type Seen = Arc<Mutex<Vec<(Code, Option<String>)>>>;

    fn watch(response: &Response<Body>) -> Seen {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&seen);
        when_known(response, move |code, status| {
            writer.lock().push((code, status.map(|status| status.message().to_owned())));
        });
        seen
    }

    fn trailers(status: &Status) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).expect("a header");
        trailers
    }

    #[tokio::test]
    async fn the_status_of_a_stream_is_the_one_of_its_trailers() {
        let failed = status(Code::Aborted, Reason::Unavailable, "no longer");
        let mut response = response(Some(trailers(&failed)));
        let seen = watch(&response);
        response.body_mut().frame().await.expect("a frame").expect("a message");
        assert!(seen.lock().is_empty(), "the stream goes on");
        response.body_mut().frame().await.expect("a frame").expect("trailers");
        let expected = [(Code::Aborted, Some("no longer".to_owned()))];
        assert_eq!(seen.lock()[..], expected);
        assert_eq!(watch(&response).lock()[..], expected, "it is known afterwards");
        drop(response);
        assert_eq!(seen.lock()[..], expected, "it does not change");
    }

    #[tokio::test]
    async fn a_stream_that_is_not_read_to_its_end_is_cancelled() {
        let ok = trailers(&Status::ok(""));
        let mut unread = response(Some(ok.clone()));
        let seen = watch(&unread);
        unread.body_mut().frame().await.expect("a frame").expect("a message");
        drop(unread);
        assert_eq!(seen.lock()[..], [(Code::Cancelled, None)]);

        let read = response(Some(ok));
        let seen = watch(&read);
        read.into_body().collect().await.expect("a body");
        assert_eq!(seen.lock()[..], [(Code::Ok, None)]);
    }

    #[test]
    fn the_status_of_a_response_without_a_message_is_known_at_once() {
        let refused: Response<Body> = status(Code::NotFound, Reason::NotFound, "there is none").into_http();
        assert_eq!(watch(&follow(refused)).lock()[..], [(Code::NotFound, Some("there is none".to_owned()))]);
    }
}
