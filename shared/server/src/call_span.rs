//! The span of a call: its method, its code and the kind of its caller, by the semantic conventions of OpenTelemetry.

use std::sync::Arc;

use access::{
    Actor, CurrentCall,
    error::CODE_NAMES,
    trace::{Span, SpanKind, TraceContext, Tracer},
};
use gateway::MatchedRoute;
use http::{Request, Response};
use tonic::{Code, body::Body};

use crate::{metrics::method_label, protocol::Protocol, stack::REQUEST_ID};

/// The name of a method that the server does not have. A caller can send any.
const OTHER: &str = "_OTHER";

/// The span of one call, if it is recorded. A call without a response is cancelled.
#[derive(Debug)]
pub(crate) struct CallSpan(Option<(Span, Method)>);

#[derive(Debug)]
enum Method {
    /// The method, such as `package.Service/Method`.
    Grpc(String),
    /// The HTTP method.
    Http(&'static str),
}

impl CallSpan {
    /// Starts the span of a request, and returns the call that it is a part of.
    pub(crate) fn start(tracer: Option<&Arc<dyn Tracer>>, request: &Request<Body>) -> (Self, CurrentCall) {
        let parent = TraceContext::from_headers(request.headers());
        let span = tracer.and_then(|tracer| tracer.start(parent, SpanKind::Server, OTHER.into()));
        let request_id = request.headers().get(REQUEST_ID).cloned();
        let trace = span.as_ref().map(Span::context).or(parent);
        let call = CurrentCall::new(request.uri().clone(), request_id, trace, tracer.cloned());
        let Some(mut span) = span.filter(Span::is_recorded) else { return (Self(None), call) };
        let method = if Protocol::from_headers(request.headers()) == Protocol::Http {
            let verb = method_label(request.method());
            span.rename(verb);
            span.set("http.request.method", verb);
            Method::Http(verb)
        } else {
            span.set("rpc.system.name", "grpc");
            Method::Grpc(request.uri().path().trim_start_matches('/').to_owned())
        };
        (Self(Some((span, method))), call)
    }

    /// Ends the span of a gRPC call.
    pub(crate) fn end_grpc(mut self, code: Code, call: &CurrentCall) {
        let Some((mut span, Method::Grpc(method))) = self.0.take() else { return };
        set_caller(&mut span, call);
        set_grpc(&mut span, method, code);
    }

    /// Ends the span of an HTTP call.
    pub(crate) fn end_http(mut self, response: &Response<Body>, call: &CurrentCall) {
        let Some((mut span, Method::Http(verb))) = self.0.take() else { return };
        if let Some(route) = response.extensions().get::<MatchedRoute>() {
            span.rename(format!("{verb} {}", route.path()));
            span.set("http.route", route.path().to_string());
        }
        set_caller(&mut span, call);
        let status = response.status();
        span.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.fail(status.as_str().to_owned());
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        match self.0.take() {
            Some((mut span, Method::Grpc(method))) => set_grpc(&mut span, method, Code::Cancelled),
            Some((mut span, Method::Http(_))) => span.fail("cancelled"),
            None => {}
        }
    }
}

fn set_caller(span: &mut Span, call: &CurrentCall) {
    let kind = match call.actor() {
        Some(Actor::User) => "user",
        Some(Actor::Service) => "service",
        None => "anonymous",
    };
    span.set("caller.kind", kind);
}

/// Names the method and the code. The errors of a client are no failures of the server.
fn set_grpc(span: &mut Span, method: String, code: Code) {
    let method = if code == Code::Unimplemented { OTHER.to_owned() } else { method };
    span.rename(method.clone());
    span.set("rpc.method", method);
    let name = CODE_NAMES[code as usize];
    span.set("rpc.response.status_code", name);
    let is_failure = matches!(
        code,
        Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented | Code::Internal | Code::Unavailable | Code::DataLoss
    );
    if is_failure {
        span.fail(name);
    }
}
