//! Which pages of other origins a browser lets call (the Fetch standard, section 3.2), and nobody where none is named.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use crate::cors_origin::CorsOrigin;

/// What a page may call with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What of an answer a page may see, beside what it always may.
const EXPOSED: &str =
    "allow, etag, grpc-message, grpc-status, grpc-status-details-bin, retry-after, www-authenticate, x-request-id";
/// How long a browser may remember what it was allowed, in seconds.
const MAX_AGE: &str = "600";

/// The origins that are allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Cors(Arc<[CorsOrigin]>);

/// What one request is told.
pub(super) struct Allowed(HeaderValue);

impl Cors {
    pub(super) fn new(origins: &[CorsOrigin]) -> Self {
        Self(origins.into())
    }

    /// Whether the page that sends the request may.
    pub(super) fn allows(&self, headers: &HeaderMap) -> Option<Allowed> {
        let origin = headers.get(header::ORIGIN)?;
        let allowed = self.0.iter().find(|CorsOrigin(allowed)| allowed == "*" || allowed == origin)?;
        Some(Allowed(allowed.0.clone()))
    }
}

/// True for a request by which a browser asks whether it may send another.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Allowed {
    /// The answer to a preflight: everything, since what a call may do its token decides.
    pub(super) fn preflight(self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        self.mark(headers);
        response
    }

    /// Lets the page see the answer.
    pub(super) fn expose(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        self.mark(headers);
    }

    fn mark(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}
