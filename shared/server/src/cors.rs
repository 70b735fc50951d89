//! Cross-origin resource sharing (the Fetch standard, section 3.2). Without a configured origin no page of another origin may call.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use crate::cors_origin::CorsOrigin;

/// The HTTP methods that a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// The response headers that a page may read, in addition to the safelisted ones.
const EXPOSED: &str =
    "allow, etag, grpc-message, grpc-status, grpc-status-details-bin, retry-after, www-authenticate, x-request-id";
/// The time for which a browser may cache the response to a preflight request, in seconds.
const MAX_AGE: &str = "600";

/// The allowed origins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors(Arc<[CorsOrigin]>);

/// The permission for the origin of one request. It holds the value of `Access-Control-Allow-Origin`.
pub(crate) struct AllowedOrigin(HeaderValue);

impl Cors {
    pub(crate) fn new(origins: &[CorsOrigin]) -> Self {
        Self(origins.into())
    }

    /// Returns the permission for the origin of a request, or `None` if the request has no origin or one that is not allowed.
    pub(crate) fn allows(&self, headers: &HeaderMap) -> Option<AllowedOrigin> {
        let origin = headers.get(header::ORIGIN)?;
        let allowed = self.0.iter().find(|CorsOrigin(allowed)| allowed == "*" || allowed == origin)?;
        Some(AllowedOrigin(allowed.0.clone()))
    }
}

/// Returns true for a preflight request.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl AllowedOrigin {
    /// Returns the response to a preflight request. It allows every method and header, because the access token of a call decides what
    /// the call may do.
    pub(crate) fn preflight(self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        self.add_origin(headers);
        response
    }

    /// Adds the headers that let the page read the response.
    pub(crate) fn expose(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        self.add_origin(headers);
    }

    /// Adds the allowed origin, and tells caches that the response depends on the origin.
    fn add_origin(self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}
