//! Refuses calls beyond the limits before they cost anything, and counts the bytes of their responses until they are read.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use access::Error;
use http::{HeaderName, HeaderValue, Request, Response, Version};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    accept::ConnectInfo,
    concurrency::ConcurrencyLimit,
    connections::{CallInFlight, Connections},
    error_format::ErrorFormat,
    unread,
};

/// The reason of a refusal because the client has not read what it got.
const UNREAD: &str = "too much of the responses on this connection is unread";

/// The layer of [`Admission`].
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer {
    connections: Arc<Connections>,
    concurrency: ConcurrencyLimit,
    /// The largest header list of a request, in bytes.
    max_header_bytes: u32,
    refusals: Arc<RefusalCounts>,
}

/// The calls that were refused, by the limit that they had reached.
#[derive(Debug, Default)]
pub(crate) struct RefusalCounts {
    headers: AtomicU64,
    concurrent: AtomicU64,
    unread: AtomicU64,
}

impl RefusalCounts {
    pub(crate) fn by_limit(&self) -> [(&'static str, u64); 3] {
        [("headers", &self.headers), ("concurrent", &self.concurrent), ("unread", &self.unread)]
            .map(|(limit, count)| (limit, count.load(Relaxed)))
    }
}

impl AdmissionLayer {
    pub(crate) fn new(connections: Arc<Connections>, concurrency: ConcurrencyLimit, max_header_bytes: u32) -> Self {
        Self { connections, concurrency, max_header_bytes, refusals: Arc::default() }
    }

    /// Returns the counts of the calls that the layer has refused.
    pub(crate) fn refusals(&self) -> Arc<RefusalCounts> {
        Arc::clone(&self.refusals)
    }

    /// Returns true if the headers of an HTTP/1.1 request are too large. For HTTP/2 the transport enforces the limit.
    fn has_large_headers(&self, request: &Request<Body>) -> bool {
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
        request.version() < Version::HTTP_2
            && request.headers().iter().map(length).sum::<usize>() > self.max_header_bytes as usize
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission { layer: self.clone(), inner }
    }
}

/// Admits calls to a service while there is room for them.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    layer: AdmissionLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let connection = request.extensions_mut().remove::<ConnectInfo>().map(|info| info.connection);
        let connection = connection.unwrap_or_else(|| self.layer.connections.detached());
        let format = ErrorFormat::negotiate(request.headers());
        let refusals = Arc::clone(&self.layer.refusals);
        if self.layer.has_large_headers(&request) {
            refusals.headers.fetch_add(1, Relaxed);
            return ready(format.header_too_large());
        }
        if !connection.has_room() {
            refusals.unread.fetch_add(1, Relaxed);
            return ready(format.response(refusal(UNREAD)));
        }
        let Some(permit) = self.layer.concurrency.acquire(request.uri().path()) else {
            refusals.concurrent.fetch_add(1, Relaxed);
            return ready(format.response(refusal("too many calls are in flight")));
        };
        let call = CallInFlight::new(connection);
        let response = self.inner.call(request);
        Box::pin(async move {
            let (head, body) = response.await?.into_parts();
            drop(permit);
            if let Some(body) = unread::count(body, call) {
                return Ok(Response::from_parts(head, body));
            }
            refusals.unread.fetch_add(1, Relaxed);
            Ok(format.response(refusal(UNREAD)))
        })
    }
}

fn ready<E: Send + 'static>(response: Response<Body>) -> Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> {
    Box::pin(std::future::ready(Ok(response)))
}

/// Returns the status of a call that is refused.
fn refusal(limit: &'static str) -> Status {
    Error::limit_reached(limit).into()
}
