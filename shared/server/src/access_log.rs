//! Writes one line to the log about every call, in every protocol.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use access::{ClientInfo, CurrentCall, error::CODE_NAMES, trace::Tracer};
use http::{Method, Request, Response};
use tonic::{Code, body::Body};
use tower::{Layer, Service};
use tracing::{Value, field::display};

use crate::{call_span::CallSpan, call_status, protocol::Protocol};

/// The target of the lines. The log filter can name it, for example `info,access_log=off`.
const TARGET: &str = "access_log";

/// The layer of [`AccessLog`].
#[derive(Debug, Clone)]
pub(crate) struct AccessLogLayer {
    tracer: Option<Arc<dyn Tracer>>,
}

impl AccessLogLayer {
    /// Creates a layer that also records the span of each call, if there is a tracer.
    pub(crate) fn new(tracer: Option<Arc<dyn Tracer>>) -> Self {
        Self { tracer }
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLog { tracer: self.tracer.clone(), inner }
    }
}

/// Logs the calls of a service. It expects the request id and the [`ClientInfo`] in the request.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog<S> {
    tracer: Option<Arc<dyn Tracer>>,
    inner: S,
}

impl<S> Service<Request<Body>> for AccessLog<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = Line::of(&request);
        let (call_span, current) = CallSpan::start(self.tracer.as_ref(), &request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = current.scope(answer).await;
            if let Ok(response) = &answer {
                // The line is written outside of the call, whose fields it would repeat.
                line.finish(response, call_span, current);
            }
            answer
        })
    }
}

/// The code of a response in its protocol.
#[derive(Debug, Clone, Copy)]
enum ResponseCode {
    Http(u16),
    Grpc(Code),
}

/// The part of a line that the request determines.
struct Line {
    began: Instant,
    protocol: Protocol,
    verb: Method,
    client: ClientInfo,
}

impl Line {
    #[expect(clippy::disallowed_methods, reason = "the duration of a call is only logged")]
    fn of(request: &Request<Body>) -> Self {
        Self {
            began: Instant::now(),
            protocol: Protocol::from_headers(request.headers()),
            verb: request.method().clone(),
            client: request.extensions().get::<ClientInfo>().cloned().unwrap_or_default(),
        }
    }

    /// Writes the line and ends the span. For a stream this is when the stream ends, because its code is not known before.
    fn finish(self, response: &Response<Body>, span: CallSpan, call: CurrentCall) {
        let ms = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        if self.protocol == Protocol::Http {
            self.write(ResponseCode::Http(response.status().as_u16()), ms, &call);
            return span.end_http(response, &call);
        }
        call_status::when_known(response, move |code, _| {
            self.write(ResponseCode::Grpc(code), ms, &call);
            span.end_grpc(code, &call);
        });
    }

    /// Writes the line. Its fields are determined only if it is logged.
    fn write(&self, code: ResponseCode, ms: f64, call: &CurrentCall) {
        let verb_and_path = format_args!("{} {}", self.verb, call.path());
        let (verb_and_path, path) = (display(verb_and_path), call.path());
        let (method, code): (&dyn Value, &dyn Value) = match &code {
            ResponseCode::Http(status) => (&verb_and_path, status),
            ResponseCode::Grpc(code) => (&path, &CODE_NAMES[*code as usize]),
        };
        tracing::info!(
            target: TARGET,
            protocol = self.protocol.name(),
            method,
            code,
            ms,
            client = self.client.address().map(display),
            user_agent = not_empty(&self.client.user_agent()),
            caller = call.subject(),
            certificate = not_empty(&self.client.certificate_names().join(",")),
            request_id = call.request_id(),
            trace_id = call.trace_id().map(display),
            "answered"
        );
    }
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use serde_json::Value;
    use tower::{ServiceExt, service_fn};
    use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

    use super::*;
    use crate::{
        stack::REQUEST_ID,
        telemetry::tests::{Lines, json},
    };

    async fn lines_of(request: Request<Body>, filter: &str, response: Response<()>) -> Vec<Value> {
        let lines = Lines::default();
        let _guard = json(lines.clone(), EnvFilter::new(filter)).set_default();
        let service = AccessLogLayer::new(None).layer(service_fn(move |_: Request<Body>| {
            let response = response.clone().map(|()| Body::empty());
            async {
                tracing::error!("something failed");
                CurrentCall::record_caller("user-1", access::Actor::User);
                Ok::<_, Infallible>(response)
            }
        }));
        service.oneshot(request).await.expect("an answer");
        let text = lines.text();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[tokio::test]
    async fn a_line_says_each_field_once() {
        let request = Request::get("/v1/users/me?token=secret")
            .header(REQUEST_ID, "order-17")
            .header("user-agent", "curl/8")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let mut request = request.body(Body::empty()).expect("a request");
        let client = ClientInfo::from_request(&request, &[]);
        request.extensions_mut().insert(client.with_certificate_names(["DNS:a".to_owned(), "DNS:b".to_owned()].into()));
        let response = Response::builder().status(StatusCode::NOT_FOUND).body(()).expect("a response");
        let mut lines = lines_of(request, "info", response).await;
        let answered = lines.pop().expect("a line");
        for (field, expected) in [
            ("protocol", "http"),
            ("method", "GET /v1/users/me"),
            ("user_agent", "curl/8"),
            ("caller", "user-1"),
            ("certificate", "DNS:a,DNS:b"),
            ("request_id", "order-17"),
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("message", "answered"),
        ] {
            assert_eq!(answered[field], expected, "{answered}");
            assert_eq!(answered.to_string().matches(expected).count(), 1, "{answered}");
        }
        let ms = answered["ms"].as_f64().expect("a number");
        assert_eq!((answered["code"].as_u64(), (ms * 1e3).round()), (Some(404), ms * 1e3));
        assert!(answered.get("call").is_none(), "{answered}");
        let failed = lines.pop().expect("a line");
        assert_eq!(
            (&failed["message"], &failed["call"]["request_id"]),
            (&"something failed".into(), &"order-17".into()),
            "{failed}"
        );
    }

    #[tokio::test]
    async fn a_grpc_call_is_logged_with_its_path_and_the_name_of_its_status() {
        let request = || {
            let request = Request::post("/a.B/C").header("content-type", "application/grpc").header("traceparent", "00-0-0-0");
            request.body(Body::empty()).expect("a request")
        };
        let response = Response::builder().header("grpc-status", "5").body(()).expect("a response");
        let lines = lines_of(request(), "info", response.clone()).await;
        let answered = lines.last().expect("a line");
        let found = ["protocol", "method", "code"].map(|field| answered[field].as_str().unwrap_or_default());
        assert_eq!(found, ["grpc", "/a.B/C", "NOT_FOUND"]);
        for absent in ["user_agent", "client", "certificate", "trace_id"] {
            assert!(answered.get(absent).is_none(), "{answered}");
        }
        let lines = lines_of(request(), "info,access_log=off", response).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[tokio::test]
    async fn a_stream_is_logged_when_it_ends_with_the_status_of_its_trailers() {
        let lines = Lines::default();
        let _guard = json(lines.clone(), EnvFilter::new("info")).set_default();
        let service = AccessLogLayer::new(None).layer(service_fn(|_: Request<Body>| async {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("10"));
            let frames = [Frame::data(Bytes::from_static(b"a message")), Frame::trailers(trailers)];
            let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, Infallible>)));
            Ok::<_, Infallible>(call_status::follow(Response::new(body)))
        }));
        let request = Request::post("/a.B/Watch").header("content-type", "application/grpc").body(Body::empty());
        let answer = service.oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(lines.text(), "", "the stream goes on");
        answer.into_body().collect().await.expect("a body");
        let line: Value = serde_json::from_str(&lines.text()).expect("one line");
        assert_eq!((&line["method"], &line["code"]), (&"/a.B/Watch".into(), &"ABORTED".into()));
    }
}
