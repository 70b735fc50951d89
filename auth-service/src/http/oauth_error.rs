//! The errors of the OAuth endpoints (RFC 6749 section 5.2).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::retry_after;

/// The headers that keep tokens out of caches (RFC 6749 section 5.1).
pub(super) const NO_STORE: [(header::HeaderName, HeaderValue); 2] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store")), (header::PRAGMA, HeaderValue::from_static("no-cache"))];

/// The OAuth error for UNAUTHENTICATED, by the credential that was rejected: a password or a refresh token, the credential of a client,
/// or the access token of the caller.
pub(super) const GRANT: &str = "invalid_grant";
pub(super) const CLIENT: &str = "invalid_client";
pub(super) const BEARER: &str = "invalid_token";

/// An error response of RFC 6749 section 5.2.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    challenge: Option<&'static str>,
    retry_after: Option<u64>,
}

impl OAuthError {
    pub(super) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description: description.into(), challenge: None, retry_after: None }
    }

    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// A body that could not be read, for example because it is too long.
    pub(super) fn body(status: StatusCode) -> Self {
        Self { status, ..Self::invalid_request("the body could not be read") }
    }

    pub(super) fn invalid_client() -> Self {
        let error = Self::new(CLIENT, "the client is unknown, or its authentication failed");
        Self { status: StatusCode::UNAUTHORIZED, challenge: Some("Basic realm=\"oauth2\""), ..error }
    }

    pub(super) fn from_status(status: &Status, credential: &'static str) -> Self {
        let error = |http, name| Self { status: http, ..Self::new(name, status.message()) };
        match status.code() {
            Code::InvalidArgument if credential == CLIENT && is_about_scope(status) => {
                error(StatusCode::BAD_REQUEST, "invalid_scope")
            }
            // A credential that is too long for any client is not valid either.
            Code::Unauthenticated | Code::InvalidArgument if credential == CLIENT => Self::invalid_client(),
            Code::Unauthenticated if credential == BEARER => {
                Self { challenge: Some("Bearer error=\"invalid_token\""), ..error(StatusCode::UNAUTHORIZED, BEARER) }
            }
            Code::Unauthenticated => error(StatusCode::BAD_REQUEST, credential),
            Code::PermissionDenied => {
                let challenge = Some("Bearer error=\"insufficient_scope\"");
                Self { challenge, ..error(StatusCode::FORBIDDEN, "insufficient_scope") }
            }
            Code::InvalidArgument => error(StatusCode::BAD_REQUEST, "invalid_request"),
            Code::ResourceExhausted => {
                let error = error(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable");
                Self { retry_after: Some(retry_after(status)), ..error }
            }
            Code::Unavailable => Self {
                retry_after: Some(retry_after(status)),
                ..error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            },
            _ => error(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
}

/// Returns true if the only invalid field is `scope`.
fn is_about_scope(status: &Status) -> bool {
    let details = status.get_details_bad_request();
    details.is_some_and(|details| details.field_violations.iter().all(|violation| violation.field == "scope"))
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut response =
            (self.status, NO_STORE, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
