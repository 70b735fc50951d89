//! Request bodies that are read to their end when nobody reads them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tonic::{Status, body::Body};

/// The bytes that are read from a body that nobody reads.
const LIMIT: usize = 64 << 10;
/// The time that the client has to send them.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the body of an HTTP/2 request be read up to 64 KiB if the call ends before its end. Otherwise the transport resets the stream,
/// and some clients, such as curl 7.88, then lose the response.
pub(crate) fn drain_when_dropped(request: Request<Body>) -> Request<Body> {
    if request.version() != Version::HTTP_2 || request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(DrainedBody(body)))
}

/// A body that is read in the background after it was dropped.
struct DrainedBody(Body);

impl http_body::Body for DrainedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        if self.0.is_end_stream() {
            return;
        }
        let body = std::mem::take(&mut self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(TIMEOUT, drain(body)));
        }
    }
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while read < LIMIT
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
