//! Cross-origin resource sharing (the Fetch standard, section 3.2) for the requests of web pages. Responses to gRPC clients, which are
//! not web pages, stay without its headers.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};
use tower_http::cors::{AllowHeaders, AllowOrigin, Any as AnyOrigin, CorsLayer};

use crate::{cors_origin::CorsOrigin, protocol::Protocol, stack::REQUEST_ID};

/// The time for which a browser may cache the response to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_mins(10);
/// The HTTP methods that a web page may use.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// The response headers that a web page may read, in addition to the safelisted ones.
const EXPOSED: [HeaderName; 8] = [
    header::ALLOW,
    header::ETAG,
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-status-details-bin"),
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    REQUEST_ID,
];

/// The layer of [`CrossOrigin`].
#[derive(Debug, Clone)]
pub(crate) struct CrossOriginLayer {
    cors: Arc<CorsLayer>,
    /// Whether responses depend on the `Origin` header.
    varies: bool,
}

impl CrossOriginLayer {
    /// Creates a layer that allows these origins. Every method and header is allowed, because the access token of a call decides what
    /// the call may do.
    pub(crate) fn new(origins: &[CorsOrigin]) -> Self {
        let cors = CorsLayer::new()
            .allow_methods(METHODS)
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(PREFLIGHT_MAX_AGE)
            .vary([]);
        let cors = if origins.iter().any(CorsOrigin::is_any) {
            cors.allow_origin(AnyOrigin)
        } else {
            cors.allow_origin(AllowOrigin::list(origins.iter().map(|CorsOrigin(origin)| origin.clone())))
        };
        Self { cors: Arc::new(cors), varies: !origins.is_empty() }
    }
}

impl<S> Layer<S> for CrossOriginLayer {
    type Service = CrossOrigin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CrossOrigin { layer: self.clone(), inner }
    }
}

/// Adds the headers of cross-origin resource sharing to the responses for web pages.
#[derive(Debug, Clone)]
pub(crate) struct CrossOrigin<S> {
    layer: CrossOriginLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for CrossOrigin<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static> + Clone + Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if Protocol::from_headers(request.headers()) == Protocol::Grpc {
            return Box::pin(self.inner.call(request));
        }
        let varies = self.layer.varies;
        let add_vary = move |mut response: Response<Body>| {
            if varies {
                // A cache must not give the response for one origin, or for none, to the page of another.
                response.headers_mut().append(header::VARY, HeaderValue::from_name(header::ORIGIN));
            }
            response
        };
        if is_cross_origin(&request) {
            let response = self.layer.cors.layer(self.inner.clone()).oneshot(request);
            Box::pin(async move { response.await.map(add_vary) })
        } else {
            let response = self.inner.call(request);
            Box::pin(async move { response.await.map(add_vary) })
        }
    }
}

/// Returns true for a request of a web page and for its preflight request. `CorsLayer` would answer every OPTIONS request, even one
/// that asks for the methods of a path.
fn is_cross_origin(request: &Request<Body>) -> bool {
    let headers = request.headers();
    headers.contains_key(header::ORIGIN)
        && (request.method() != Method::OPTIONS || headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD))
}
