//! The form in which a request gets an error from a layer: as its protocol and its `Accept` header ask for it.

use access::error::{Reason, status};
use gateway::{Format, HttpError};
use http::{HeaderMap, HeaderValue, Response, header};
use tonic::{Code, Status, body::Body};

use crate::protocol::Protocol;

/// The form of error responses to one request.
#[derive(Debug, Clone)]
pub(crate) enum ErrorFormat {
    Grpc,
    /// gRPC-Web, with the content type of the request.
    GrpcWeb(HeaderValue),
    Http(Format),
}

impl ErrorFormat {
    /// Returns the form of error responses to a request with these headers.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Self {
        match Protocol::from_headers(headers) {
            Protocol::Grpc | Protocol::UnknownGrpc => Self::Grpc,
            Protocol::GrpcWeb => Self::GrpcWeb(headers[header::CONTENT_TYPE].clone()),
            Protocol::Http => Self::Http(Format::negotiate(headers)),
        }
    }

    /// Returns the response to a request whose headers are too large.
    pub(crate) fn header_too_large(self) -> Response<Body> {
        match self {
            Self::Http(format) => HttpError::header_too_large().response(format),
            _ => self.response(status(Code::ResourceExhausted, Reason::MessageTooLarge, "the headers are too large")),
        }
    }

    /// Returns the response.
    pub(crate) fn response(self, status: Status) -> Response<Body> {
        match self {
            Self::Grpc => status.into_http(),
            // The status is in the headers, so that the response has no body whose encoding matters.
            Self::GrpcWeb(content_type) => {
                let mut response = status.into_http();
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
                response
            }
            Self::Http(format) => HttpError::from(status).response(format),
        }
    }
}
