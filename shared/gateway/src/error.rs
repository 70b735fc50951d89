//! What an HTTP call is refused with: the HTTP status that belongs to the gRPC code, and `google.rpc.Status` as the body.

use std::sync::LazyLock;

use axum::response::IntoResponse;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::{Code, Status, body::Body};
use tonic_types::{StatusExt, pb};

use super::{format::Format, xml};
use access::{
    Error,
    error::{Reason, Violation, status},
    limits::MESSAGE_LIMIT,
};

/// `google.rpc.Status`, and whatever its details are made of.
static STATUS: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("the descriptors of google.rpc are descriptors");
    pool.get_message_by_name("google.rpc.Status").expect("google.rpc.Status is one of google.rpc's")
});

/// Why an HTTP call is refused: a gRPC status, with the HTTP status that grpc-gateway gives it. As a response of axum it is
/// JSON.
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

/// A part of the request that can't be read.
impl From<Violation> for HttpError {
    fn from(violation: Violation) -> Self {
        let is_malformed = ["json.syntax", "xml.syntax", "xml.forbidden"].contains(&violation.rule);
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
    /// 404: no route has this path.
    pub(super) fn no_route() -> Self {
        status(Code::NotFound, Reason::MethodUnknown, "there is nothing at this path").into()
    }

    /// 405: the path is one, but not for this method. `allow` names those that it is for.
    pub(super) fn wrong_method(allow: Option<&str>) -> Self {
        let status = status(Code::Unimplemented, Reason::MethodUnknown, "this path does not answer this method");
        let allow = allow.and_then(|allow| HeaderValue::from_str(allow).ok());
        Self { http: StatusCode::METHOD_NOT_ALLOWED, status, allow }
    }

    /// 413: the body is larger than a message may be.
    pub(super) fn too_large() -> Self {
        let message = format!("the body is larger than {MESSAGE_LIMIT} bytes");
        let status = status(Code::ResourceExhausted, Reason::MessageTooLarge, &message);
        Self { http: StatusCode::PAYLOAD_TOO_LARGE, status, allow: None }
    }

    /// 431: the headers are larger than they may be.
    pub fn header_too_large() -> Self {
        let status = status(Code::ResourceExhausted, Reason::MessageTooLarge, "the headers are too large");
        Self { http: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, status, allow: None }
    }

    /// 415: the body is of a type that is not read.
    pub(super) fn media_type() -> Self {
        let message = "the body must be application/json or application/xml in UTF-8, packed with gzip or not at all";
        let status = status(Code::InvalidArgument, Reason::MessageMalformed, message);
        Self { http: StatusCode::UNSUPPORTED_MEDIA_TYPE, status, allow: None }
    }

    /// 412 where a condition of the request itself does not hold.
    pub(super) fn of_condition(status: Status) -> Self {
        let http = if status.code() == Code::Aborted { StatusCode::PRECONDITION_FAILED } else { http_status(status.code()) };
        Self { http, status, allow: None }
    }

    /// Returns the response in the format that the client wants.
    pub fn response(self, format: Format) -> Response<Body> {
        let message = status_message(&self.status);
        let body = match format {
            Format::Json => serde_json::to_string(&message).ok(),
            Format::Xml => xml::document(&message).ok(),
        };
        // Details of a type that nobody knows have no text.
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
            // Whole seconds, and none too early.
            headers.insert(header::RETRY_AFTER, delay.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).into());
        }
        response
    }
}

/// The status as a message. Its details are one already, encoded.
pub(super) fn status_message(status: &Status) -> DynamicMessage {
    let plain = || {
        let plain = pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() };
        DynamicMessage::decode(STATUS.clone(), plain.encode_to_vec().as_slice()).expect("it was a google.rpc.Status a moment ago")
    };
    if status.details().is_empty() {
        return plain();
    }
    DynamicMessage::decode(STATUS.clone(), status.details()).unwrap_or_else(|_| plain())
}

/// As grpc-gateway maps them.
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
