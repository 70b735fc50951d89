//! Which pages of other origins a browser lets call (the Fetch standard, section 3.2), and nobody where none is named.

use std::{str::FromStr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use url::Url;

/// What a page may call with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What of an answer a page may see, beside what it always may.
const EXPOSED: &str =
    "allow, etag, grpc-message, grpc-status, grpc-status-details-bin, retry-after, www-authenticate, x-request-id";
/// How long a browser may remember what it was allowed, in seconds.
const MAX_AGE: &str = "600";

/// An origin whose pages may call: `https://app.example.com`, or `*` for those of all.
///
/// A call carries its credentials in a header that a page sets itself, never in a cookie: no origin is given any by the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOrigin(HeaderValue);

impl FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_origin = Url::parse(text).is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text);
        let value = HeaderValue::from_str(text).ok().filter(|_| is_origin || text == "*");
        value.map(Self).ok_or_else(|| "must be an origin such as https://app.example.com, without a path, or *".to_owned())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for right in ["https://app.example.com", "http://127.0.0.1:8080", "*"] {
            assert!(right.parse::<CorsOrigin>().is_ok(), "{right}");
        }
        for wrong in
            ["", "app.example.com", "https://app.example.com/", "https://app.example.com:443", "null", "https://*.example.com/x"]
        {
            assert!(wrong.parse::<CorsOrigin>().is_err(), "{wrong}");
        }
    }
}
