//! The errors of HTTP calls: the HTTP status that belongs to the gRPC code, with `google.rpc.Status` as the body.

use std::sync::LazyLock;

use access::{
    Error,
    error::{Reason, Violation, status},
    limits::MESSAGE_LIMIT,
};
use axum::response::IntoResponse;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::{Code, Status, body::Body};
use tonic_types::{StatusExt, pb};

use crate::{format::Format, json, xml};

/// The descriptor of `google.rpc.Status`. Its pool also has the messages of the details.
static STATUS: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("tonic-types has valid descriptors");
    pool.get_message_by_name("google.rpc.Status").expect("google.rpc declares Status")
});

/// The error of an HTTP call: a gRPC status with an HTTP status, by default the one that grpc-gateway maps the code to.
///
/// [`HttpError::response`] writes it in the format that the client wants. As an axum response it is JSON.
#[derive(Debug, Clone)]
pub struct HttpError {
    http: StatusCode,
    status: Status,
    allow: Option<HeaderValue>,
}

impl From<Status> for HttpError {
    fn from(status: Status) -> Self {
        Self { http: http_status(status.code()), status, allow: None }
    }
}

/// The error of a request with an invalid part.
impl From<Violation> for HttpError {
    fn from(violation: Violation) -> Self {
        let is_malformed = [json::SYNTAX, xml::SYNTAX, xml::FORBIDDEN].contains(&violation.rule);
        let reason = if is_malformed { Reason::MessageMalformed } else { Reason::FieldInvalid };
        Status::from(Error::Invalid(reason, vec![violation])).into()
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> axum::response::Response {
        self.response(Format::Json).map(axum::body::Body::new)
    }
}

impl HttpError {
    /// Returns the 404 of a path that no route has.
    pub(crate) fn no_route() -> Self {
        status(Code::NotFound, Reason::MethodUnknown, "there is nothing at this path").into()
    }

    /// Returns the 405 of a path that does not support the method. `allow` lists the methods that it supports.
    pub(crate) fn wrong_method(allow: Option<&str>) -> Self {
        let status = status(Code::Unimplemented, Reason::MethodUnknown, "this path does not answer this method");
        let allow = allow.and_then(|allow| HeaderValue::from_str(allow).ok());
        Self { http: StatusCode::METHOD_NOT_ALLOWED, status, allow }
    }

    /// Returns the 413 of a body that is larger than a message may be.
    pub(crate) fn too_large() -> Self {
        let message = format!("the body is larger than {MESSAGE_LIMIT} bytes");
        let status = status(Code::ResourceExhausted, Reason::MessageTooLarge, &message);
        Self { http: StatusCode::PAYLOAD_TOO_LARGE, status, allow: None }
    }

    /// Returns the 431 of headers that are too large.
    pub fn header_too_large() -> Self {
        let status = status(Code::ResourceExhausted, Reason::MessageTooLarge, "the headers are too large");
        Self { http: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, status, allow: None }
    }

    /// Returns the 415 of a body whose media type, character set or content encoding is not supported.
    pub(crate) fn unsupported_media_type() -> Self {
        let message = "the body must be application/json or application/xml in UTF-8, packed with gzip or not at all";
        let status = status(Code::InvalidArgument, Reason::MessageMalformed, message);
        Self { http: StatusCode::UNSUPPORTED_MEDIA_TYPE, status, allow: None }
    }

    /// Returns the error of a call with `If-Match`: 412 if the etag is stale, otherwise the usual one.
    pub(crate) fn from_conditional(status: Status) -> Self {
        let http = if status.code() == Code::Aborted { StatusCode::PRECONDITION_FAILED } else { http_status(status.code()) };
        Self { http, status, allow: None }
    }

    /// Returns the response in the format that the client wants.
    pub fn response(self, format: Format) -> Response<Body> {
        let message = status_message(&self.status);
        let body = match format {
            Format::Json => json::to_string(&message).ok(),
            Format::Xml => xml::document(&message).ok(),
        };
        // A status with details of an unknown type cannot be written as JSON. Its body is empty.
        let mut response = Response::new(Body::new(http_body_util::Full::from(body.unwrap_or_default())));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, format.content_type());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, allow);
        }
        if self.http == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(delay) = self.status.get_details_retry_info().and_then(|info| info.retry_delay) {
            // The header has whole seconds. Rounding down would make the client retry too early.
            headers.insert(header::RETRY_AFTER, delay.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).into());
        }
        // Tonic does the same. The metrics read it.
        response.extensions_mut().insert(self.status);
        response
    }
}

/// Returns the status as a `google.rpc.Status`. The details of a tonic status are that message, encoded.
pub(crate) fn status_message(status: &Status) -> DynamicMessage {
    let plain = || {
        let plain = pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() };
        DynamicMessage::decode(STATUS.clone(), plain.encode_to_vec().as_slice())
            .expect("an encoded google.rpc.Status can be decoded")
    };
    if status.details().is_empty() {
        return plain();
    }
    DynamicMessage::decode(STATUS.clone(), status.details()).unwrap_or_else(|_| plain())
}

/// Returns the HTTP status that grpc-gateway maps the code to.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).expect("a status has three digits"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
