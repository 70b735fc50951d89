//! The statuses that the transport makes by itself, put right and dressed like every other.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::error::{Reason, status};

/// What tonic says, as INTERNAL, of a request that its client has malformed.
const MALFORMED: [&str; 3] = ["failed to decode Protobuf message", "Missing request message", "Unexpected EOF decoding stream"];

#[derive(Debug, Clone, Copy)]
pub(super) struct Dress;

impl<S> Layer<S> for Dress {
    type Service = Dressed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Dressed(inner)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Dressed<S>(S);

impl<S> Service<Request<Body>> for Dressed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async { Ok(dress(answer.await?)) })
    }
}

/// A status without details comes from tonic itself.
fn dress(response: Response<Body>) -> Response<Body> {
    let Some(found) = Status::from_header_map(response.headers()).filter(|status| status.details().is_empty()) else {
        return response;
    };
    let message = found.message();
    let better = match found.code() {
        Code::OutOfRange if message.contains("message length too large") => status(
            Code::ResourceExhausted,
            Reason::MessageTooLarge,
            &format!("the message is larger than {} bytes", super::MESSAGE_LIMIT),
        ),
        Code::Internal if MALFORMED.iter().any(|sign| message.contains(sign)) => {
            status(Code::InvalidArgument, Reason::MessageMalformed, "the request is not one message of the method's request type")
        }
        Code::Unimplemented => status(Code::Unimplemented, Reason::MethodUnknown, message),
        Code::NotFound => status(Code::NotFound, Reason::NotFound, message),
        Code::Internal => status(Code::Internal, Reason::Internal, message),
        _ => return response,
    };
    better.into_http()
}
