//! Calls to other services, which carry the trace that they belong to.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response};
use tonic::{Code, body::Body, transport::Channel};
use tower::Service;

use super::{Span, SpanKind, tracer};
use crate::{CurrentCall, error::CODE_NAMES};

/// A channel whose calls carry the header `traceparent`. A generated client accepts it as a channel:
/// `UserServiceClient::new(TracedChannel::new(channel))`.
///
/// A call that is made while a call is handled belongs to the trace of that call. Any other call begins a trace, if there is a
/// [`tracer`]. The span of a call ends when its response begins.
#[derive(Clone)]
pub struct TracedChannel<S = Channel>(S);

impl<S> TracedChannel<S> {
    /// Wraps a channel.
    pub fn new(channel: S) -> Self {
        Self(channel)
    }
}

impl<S> fmt::Debug for TracedChannel<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TracedChannel")
    }
}

impl<S, B> Service<Request<Body>> for TracedChannel<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let mut span = start(method, request.headers_mut());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(span) = &mut span {
                let code = match &answer {
                    Ok(response) => {
                        response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
                    }
                    Err(_) => Code::Unavailable,
                };
                span.set("rpc.response.status_code", CODE_NAMES[code as usize]);
                if code != Code::Ok {
                    span.fail(CODE_NAMES[code as usize]);
                }
            }
            answer
        })
    }
}

/// Writes the header `traceparent` of a call of `method`. Returns the span of the call if it is recorded.
fn start(method: String, headers: &mut HeaderMap) -> Option<Span> {
    let (tracer, parent) = match CurrentCall::get() {
        Some(call) => (call.tracer().cloned(), call.trace().copied()),
        None => (tracer(), None),
    };
    let span = tracer.and_then(|tracer| tracer.start(parent, SpanKind::Client, method.clone().into()));
    if let Some(context) = span.as_ref().map(Span::context).or(parent) {
        context.write_header(headers);
    }
    let mut span = span.filter(Span::is_recorded)?;
    span.set("rpc.system.name", "grpc");
    span.set("rpc.method", method);
    Some(span)
}
