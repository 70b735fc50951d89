//! Lets calls beyond the limits wait or refuses them, before they cost anything, and counts the bytes of their responses until they are read.

use std::{
    fmt,
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
    concurrency::{CallPermit, ConcurrencyLimit, Reached, Turn, WaitingCall},
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
    caller: AtomicU64,
    unread: AtomicU64,
}

impl RefusalCounts {
    /// Returns the counts. `after_authentication` is the number of calls of callers with several access tokens that were refused later.
    pub(crate) fn by_limit(&self, after_authentication: u64) -> [(&'static str, u64); 4] {
        [
            ("headers", self.headers.load(Relaxed)),
            ("concurrent", self.concurrent.load(Relaxed)),
            ("caller", self.caller.load(Relaxed) + after_authentication),
            ("unread", self.unread.load(Relaxed)),
        ]
    }

    /// Counts a refusal, and returns its status.
    fn refuse(&self, reached: Reached) -> Status {
        match reached {
            Reached::Process => {
                self.concurrent.fetch_add(1, Relaxed);
                refusal("too many calls are in flight")
            }
            Reached::Token(limit) => {
                self.caller.fetch_add(1, Relaxed);
                refusal(format_args!("{limit} calls of this caller are in flight"))
            }
        }
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
        Admission { layer: Arc::new(self.clone()), inner }
    }
}

/// Admits calls to a service while there is room for them.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    // One allocation, because the service is cloned for each call.
    layer: Arc<AdmissionLayer>,
    inner: S,
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
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
        let turn = match self.layer.concurrency.admit(request.uri().path(), request.headers()) {
            Ok(turn) => turn,
            Err(reached) => return ready(format.response(refusals.refuse(reached))),
        };
        let call = CallInFlight::new(connection);
        let admitted = Admitted { call, format, refusals };
        match turn {
            Turn::Now(permit) => Box::pin(admitted.finish(permit, self.inner.call(request))),
            Turn::Later(waiting) => {
                // The service that was polled ready has to be the one that is called.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                Box::pin(admitted.wait(waiting, inner, request))
            }
        }
    }
}

/// A call that is handled, now or later.
struct Admitted {
    call: CallInFlight,
    format: ErrorFormat,
    refusals: Arc<RefusalCounts>,
}

impl Admitted {
    /// Waits for the turn of the call, and makes it.
    async fn wait<S>(self, waiting: WaitingCall, mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        match waiting.wait().await {
            Ok(permit) => self.finish(permit, inner.call(request)).await,
            Err(reached) => Ok(self.format.response(self.refusals.refuse(reached))),
        }
    }

    /// Counts the response until the client has read it.
    async fn finish<E>(
        self,
        permit: CallPermit,
        response: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        let (head, body) = response.await?.into_parts();
        drop(permit);
        if let Some(body) = unread::count(body, self.call) {
            return Ok(Response::from_parts(head, body));
        }
        self.refusals.unread.fetch_add(1, Relaxed);
        Ok(self.format.response(refusal(UNREAD)))
    }
}

fn ready<E: Send + 'static>(response: Response<Body>) -> Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> {
    Box::pin(std::future::ready(Ok(response)))
}

/// Returns the status of a call that is refused.
fn refusal(limit: impl fmt::Display) -> Status {
    Error::limit_reached(limit).into()
}
