//! What an HTTP call is refused with: the HTTP status that belongs to the gRPC code, and `google.rpc.Status` as the body.

use std::sync::LazyLock;

use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use tonic::{Code, Status, body::Body};
use tonic_types::pb;

use crate::error::{Reason, status};

/// `google.rpc.Status`, and whatever its details are made of.
static STATUS: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("the descriptors of google.rpc are descriptors");
    pool.get_message_by_name("google.rpc.Status").expect("google.rpc.Status is one of google.rpc's")
});

/// Why an HTTP call is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    http: StatusCode,
    status: Status,
    allow: Option<HeaderValue>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { http: http_status(status.code()), status, allow: None }
    }
}

impl Refusal {
    /// 404: no route has this path.
    pub(crate) fn no_route() -> Self {
        status(Code::NotFound, Reason::MethodUnknown, "there is nothing at this path").into()
    }

    /// 405: the path is one, but not for this method.
    pub(crate) fn wrong_method(allow: &str) -> Self {
        let status = status(Code::Unimplemented, Reason::MethodUnknown, "this path does not answer this method");
        Self {
            http: StatusCode::METHOD_NOT_ALLOWED,
            status,
            allow: HeaderValue::from_str(allow).ok().filter(|_| !allow.is_empty()),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let message = status_message(&self.status);
        let body = serde_json::to_vec(&message).expect("a message is JSON");
        let mut response = Response::new(Body::new(http_body_util::Full::from(body)));
        *response.status_mut() = self.http;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, allow);
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
