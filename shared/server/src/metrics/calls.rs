//! The latency of every call by its method and its code, and the reasons of errors.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use access::error::CODE_NAMES;
use gateway::MatchedRoute;
use http::{Method, Request, Response};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};

use super::LATENCY_BUCKETS;
use crate::{call_status, protocol::Protocol};

/// The label of a method or a path that the server does not have.
const UNKNOWN: &str = "unknown";
/// The status of an HTTP call whose client has closed the connection before the response began.
const CLIENT_CLOSED: u16 = 499;
/// The methods of health and reflection, which have no guard.
const STANDARD_METHODS: [&str; 5] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrpcLabels {
    method: Arc<str>,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    method: &'static str,
    route: Arc<str>,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

/// The metrics of the calls of a server.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    /// The index in `methods` by the path of the call.
    indexes: HashMap<String, usize>,
    /// The first one stands for all that are unknown.
    methods: Vec<MethodMetrics>,
    grpc: Histograms<GrpcLabels>,
    http: Histograms<HttpLabels>,
    errors: Family<ReasonLabel, Counter>,
    unknown_route: Arc<str>,
}

/// A gRPC method, with the histograms of the codes that it has returned. A lookup by the code costs less than one by labels.
#[derive(Debug)]
struct MethodMetrics {
    name: Arc<str>,
    by_code: [OnceLock<Histogram>; CODE_NAMES.len()],
}

impl MethodMetrics {
    fn new(name: &str) -> Self {
        Self { name: name.into(), by_code: [const { OnceLock::new() }; CODE_NAMES.len()] }
    }
}

impl CallMetrics {
    /// Registers the metrics. `paths` are the paths of the guarded methods, such as `/package.Service/Method`.
    pub(crate) fn register<'a>(registry: &mut Registry, paths: impl Iterator<Item = &'a str>) -> Arc<Self> {
        let names = paths.map(|path| path.trim_start_matches('/')).chain(STANDARD_METHODS);
        let mut methods = vec![MethodMetrics::new(UNKNOWN)];
        let mut indexes = HashMap::new();
        for name in names {
            indexes.insert(format!("/{name}"), methods.len());
            methods.push(MethodMetrics::new(name));
        }
        let (grpc, http, errors) = (histograms(), histograms(), Family::default());
        let help = "The time until the response to a gRPC or gRPC-Web call began, by its method and its code";
        registry.register_with_unit("grpc_server_duration", help, Unit::Seconds, grpc.clone());
        let help = "The time until the response to an HTTP call began, by its method, its route and its status";
        registry.register_with_unit("http_server_duration", help, Unit::Seconds, http.clone());
        registry.register("server_errors", "The calls that failed, by the published reason of the error", Family::clone(&errors));
        Arc::new(Self { indexes, methods, grpc, http, errors, unknown_route: UNKNOWN.into() })
    }

    #[expect(clippy::disallowed_methods, reason = "the duration of a call is only counted")]
    fn start(self: &Arc<Self>, request: &Request<Body>) -> Call {
        let kind = if Protocol::from_headers(request.headers()) == Protocol::Http {
            Kind::Http(method_label(request.method()))
        } else {
            Kind::Grpc(self.indexes.get(request.uri().path()).copied().unwrap_or_default())
        };
        Call { metrics: Arc::clone(self), began: Instant::now(), kind, is_finished: false }
    }

    fn observe_grpc(&self, index: usize, code: Code, seconds: f64) {
        let method = &self.methods[index];
        let histogram = method.by_code[code as usize].get_or_init(|| {
            self.grpc.get_or_create_owned(&GrpcLabels { method: Arc::clone(&method.name), code: CODE_NAMES[code as usize] })
        });
        histogram.observe(seconds);
    }

    fn observe_http(&self, method: &'static str, route: &Arc<str>, code: u16, seconds: f64) {
        self.http.get_or_create(&HttpLabels { method, route: Arc::clone(route), code }).observe(seconds);
    }

    /// Counts an error by its reason.
    fn count_error(&self, status: Option<&Status>) {
        let Some(status) = status else { return };
        let reason = status.get_details_error_info().map_or_else(|| UNKNOWN.to_owned(), |info| info.reason);
        self.errors.get_or_create(&ReasonLabel { reason }).inc();
    }
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS))
}

/// Returns the label of an HTTP method. A client may send any.
pub(crate) fn method_label(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// A call in flight. It counts as cancelled if it is dropped before its response began.
#[derive(Debug)]
struct Call {
    metrics: Arc<CallMetrics>,
    began: Instant,
    kind: Kind,
    is_finished: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The index of the method.
    Grpc(usize),
    /// The HTTP method.
    Http(&'static str),
}

impl Call {
    /// Counts the call with its response. A stream is counted when it ends, because its code is not known before.
    fn finish(mut self, response: &Response<Body>) {
        self.is_finished = true;
        let seconds = self.began.elapsed().as_secs_f64();
        match self.kind {
            Kind::Grpc(index) => {
                let metrics = Arc::clone(&self.metrics);
                call_status::when_known(response, move |code, status| {
                    metrics.observe_grpc(index, code, seconds);
                    if code != Code::Ok {
                        metrics.count_error(status);
                    }
                });
            }
            Kind::Http(method) => {
                let metrics = &self.metrics;
                let route = response.extensions().get::<MatchedRoute>().map_or(&metrics.unknown_route, MatchedRoute::path);
                metrics.observe_http(method, route, response.status().as_u16(), seconds);
                metrics.count_error(response.extensions().get());
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        let (metrics, seconds) = (&self.metrics, self.began.elapsed().as_secs_f64());
        match self.kind {
            Kind::Grpc(index) => metrics.observe_grpc(index, Code::Cancelled, seconds),
            Kind::Http(method) => metrics.observe_http(method, &metrics.unknown_route, CLIENT_CLOSED, seconds),
        }
    }
}

/// The layer of [`CountCalls`]. Without metrics it counts nothing.
#[derive(Debug, Clone)]
pub(crate) struct CallMetricsLayer(pub(crate) Option<Arc<CallMetrics>>);

impl<S> Layer<S> for CallMetricsLayer {
    type Service = CountCalls<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountCalls { metrics: self.0.clone(), inner }
    }
}

/// Counts the calls of a service.
#[derive(Debug, Clone)]
pub(crate) struct CountCalls<S> {
    metrics: Option<Arc<CallMetrics>>,
    inner: S,
}

impl<S> Service<Request<Body>> for CountCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.metrics.as_ref().map(|metrics| metrics.start(&request));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(call) = call {
                call.finish(&response);
            }
            Ok(response)
        })
    }
}
