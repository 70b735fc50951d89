//! The errors of the OAuth endpoints (RFC 6749 section 5.2).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};

use super::retry_after;

/// RFC 6749 section 5.1: no token stays in a cache.
pub(super) const NO_STORE: [(header::HeaderName, HeaderValue); 2] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store")), (header::PRAGMA, HeaderValue::from_static("no-cache"))];

/// What an UNAUTHENTICATED is about: a password or a refresh token, a client's own credential, or the access token of whoever asks.
pub(super) const GRANT: &str = "invalid_grant";
pub(super) const CLIENT: &str = "invalid_client";
pub(super) const BEARER: &str = "invalid_token";

/// An error as RFC 6749 section 5.2 has it.
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

    pub(super) fn invalid_client() -> Self {
        let refusal = Self::new(CLIENT, "the client is not known, or did not authenticate");
        Self { status: StatusCode::UNAUTHORIZED, challenge: Some("Basic realm=\"oauth2\""), ..refusal }
    }

    pub(super) fn from_status(status: &Status, credential: &'static str) -> Self {
        let refusal = |http, error| Self { status: http, ..Self::new(error, status.message()) };
        match status.code() {
            // What is too long to be a client's is none's.
            Code::Unauthenticated | Code::InvalidArgument if credential == CLIENT => Self::invalid_client(),
            Code::Unauthenticated if credential == BEARER => {
                Self { challenge: Some("Bearer error=\"invalid_token\""), ..refusal(StatusCode::UNAUTHORIZED, BEARER) }
            }
            Code::Unauthenticated => refusal(StatusCode::BAD_REQUEST, credential),
            Code::PermissionDenied => {
                let challenge = Some("Bearer error=\"insufficient_scope\"");
                Self { challenge, ..refusal(StatusCode::FORBIDDEN, "insufficient_scope") }
            }
            Code::InvalidArgument => refusal(StatusCode::BAD_REQUEST, "invalid_request"),
            Code::ResourceExhausted => {
                let refusal = refusal(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable");
                Self { retry_after: Some(retry_after(status)), ..refusal }
            }
            Code::Unavailable => {
                Self { retry_after: Some(1), ..refusal(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable") }
            }
            _ => refusal(StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        }
    }
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
