//! Recognizes the protocol of a request.

use http::{HeaderMap, header};

/// The protocol of a request, by its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
    Http,
}

impl Protocol {
    /// Returns the protocol of a request with these headers.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        match content_type.strip_prefix(b"application/grpc") {
            Some(rest) if rest.starts_with(b"-web") => Self::GrpcWeb,
            Some(rest) if rest.first().is_none_or(|next| b"+;".contains(next)) => Self::Grpc,
            _ => Self::Http,
        }
    }
}
