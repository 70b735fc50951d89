//! The server: guarded services, health, reflection and the gateway on one port.

use std::{collections::HashSet, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use access::{CallLimit, Caller, Guarded, Result, Routes, token::Verifier, trace};
use axum::Router;
use gateway::{
    ApiDocs, Binding, CachePolicy, Gateway,
    openapi::{self, About},
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Error as ReflectionError;

use crate::{
    accept::Incoming,
    admission::AdmissionLayer,
    concurrency::ConcurrencyLimit,
    connections::Connections,
    health_service::{Health, HealthService},
    limits,
    metrics::{self, CallMetrics, CallMetricsLayer, ConnectionMetrics, ProcessMetrics, VerifierMetrics},
    settings::ServerSettings,
    stack::{self, StackSettings},
    tls::TlsError,
};

/// The largest number of concurrent calls on one connection.
const STREAM_LIMIT: u32 = 100;
/// The interval of HTTP/2 keepalive pings.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time within which a client must answer a keepalive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that calls in flight have to complete after the shutdown begins.
const GRACE: Duration = Duration::from_secs(20);
/// The interval between health checks while the service is ready.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit of a request for the metrics on an address of their own.
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between health checks while the service is not ready, and between checks of the revocation feed.
const SHORT_INTERVAL: Duration = Duration::from_millis(100);

/// A server of guarded services. It also serves health (`grpc.health.v1`) and reflection (v1 and v1alpha).
///
/// Over HTTP it serves `/livez`, which always answers 200, `/readyz`, which answers 503 while the service is not ready, and
/// `/metrics` for Prometheus where [`metrics_listen`](ServerSettings::metrics_listen) allows it.
///
/// One connection has at most 100 calls at the same time. A connection whose client does not answer a keepalive ping within 10
/// seconds is closed. The other limits are [`ServerLimits`](crate::ServerLimits).
pub struct Server {
    routes: Routes,
    bindings: Vec<Binding>,
    mounted: Router,
    descriptors: &'static [u8],
    cache_policy: CachePolicy,
    settings: ServerSettings,
    reserved_paths: HashSet<&'static str>,
    /// Path items of the `OpenAPI` document for routes that are not in the protos.
    other_paths: serde_json::Map<String, serde_json::Value>,
    metrics: Registry,
}

/// The reason why a server does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listener has no address.
    #[error("the address of the listener cannot be read: {0}")]
    Listener(#[source] std::io::Error),
    /// The address of the metrics is in use, or not one of this machine.
    #[error("--metrics-listen: cannot listen on {address}: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] transport::Error),
}

impl Server {
    /// Creates a server that verifies access tokens with `verifier`. `descriptors` is the encoded `FileDescriptorSet` of its protos: the
    /// file `descriptors.bin` that `access-build` writes.
    ///
    /// # Errors
    ///
    /// Returns an error if `descriptors` is not a valid `FileDescriptorSet`, and one that names the method if an HTTP route is invalid.
    pub fn new(verifier: Arc<Verifier>, descriptors: &'static [u8]) -> Result<Self, ReflectionError> {
        // The messages of error details are included, so that a client that relies on reflection can print them.
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
                .include_reflection_service(false)
        };
        let routes = Routes::new(verifier);
        let routes = routes.add_standard(reflection().build_v1()?).add_standard(reflection().build_v1alpha()?);
        Ok(Self {
            routes,
            bindings: gateway::read(descriptors).map_err(ReflectionError::InvalidFileDescriptorSet)?,
            mounted: Router::new(),
            descriptors,
            cache_policy: CachePolicy::new(),
            settings: ServerSettings::default(),
            reserved_paths: HashSet::new(),
            other_paths: serde_json::Map::new(),
            metrics: Registry::default(),
        })
    }

    /// Adds a guarded service.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "adding a service to a server is not arithmetic")]
    pub fn add(mut self, service: Guarded) -> Self {
        self.routes = self.routes.add(service);
        self
    }

    /// Runs `work` for every authenticated call, before its guard. The call fails if `work` does.
    #[must_use]
    pub fn on_authenticated<F: Future<Output = Result<()>> + Send + 'static>(
        mut self,
        work: impl Fn(Caller) -> F + Send + Sync + 'static,
    ) -> Self {
        self.routes = self.routes.on_authenticated(work);
        self
    }

    /// Replaces the settings. Without a call, the server has the defaults of [`ServerSettings`].
    #[must_use]
    pub fn configure(mut self, settings: &ServerSettings) -> Self {
        self.settings.clone_from(settings);
        self
    }

    /// Adds metrics of the service, which are served next to those of the server.
    #[must_use]
    pub fn with_metrics(mut self, register: impl FnOnce(&mut Registry)) -> Self {
        register(&mut self.metrics);
        self
    }

    /// Adds HTTP routes for paths that match no route of the protos. Their handlers run without authentication. They call the services
    /// through [`InProcess`](gateway::InProcess), which they take as an argument.
    ///
    /// # Panics
    ///
    /// Panics if two routes have the same path and method, as [`Router::merge`] does.
    #[must_use]
    pub fn merge_http(mut self, routes: Router) -> Self {
        self.mounted = self.mounted.merge(routes);
        self
    }

    /// Describes routes of [`merge_http`](Self::merge_http): `paths` are path items of `OpenAPI`, by their paths.
    #[must_use]
    pub fn describe_http(mut self, paths: serde_json::Map<String, serde_json::Value>) -> Self {
        self.other_paths.extend(paths);
        self
    }

    /// Serves the `OpenAPI` document of the services that were added so far at `/openapi.json` and `/openapi.yaml`, and the API page at `/`
    /// if there is one. The first request for the document creates it.
    ///
    /// If an option in the protos is invalid, the document has the status 500 and a text that names the method or the field.
    /// [`openapi::document`] returns the same error.
    #[must_use]
    pub fn with_openapi(self, title: &'static str, version: &'static str, api_docs: Option<&ApiDocs>) -> Self {
        let (descriptors, services, other_paths) = (self.descriptors, self.routes.names().to_vec(), self.other_paths.clone());
        let create = move || {
            let about = About { title, version, services: &services, other_paths: &other_paths };
            openapi::document(descriptors, &about)
        };
        self.merge_http(gateway::api_docs_routes(title, create, api_docs))
    }

    /// Gives the calls of these HTTP or gRPC paths, such as `/package.Service/Method`, a share of the concurrent calls of their own, so
    /// that a flood of other calls does not keep them out. Health checks always have one.
    #[must_use]
    pub fn reserve(mut self, paths: &[&'static str]) -> Self {
        self.reserved_paths.extend(paths);
        self
    }

    /// Allows HTTP clients and caches to store the responses of the method at `path`, such as `/package.Service/Method`, for `max_age` in
    /// whole seconds. The responses of all other methods have `Cache-Control: no-store`.
    #[must_use]
    pub fn cache_response(mut self, path: &'static str, max_age: Duration) -> Self {
        self.cache_policy.insert(path, max_age);
        self
    }

    /// Serves on `listener` until `shutdown` completes, with TLS if it is configured. Then the server accepts no more calls, and
    /// those in flight have 20 seconds to complete. [`stop_signal`](crate::stop_signal()) is the usual `shutdown`.
    ///
    /// The server calls `check_health` every second, and every 100 milliseconds while the service is not ready. `grpc.health.v1` and
    /// `/readyz` report the last result.
    ///
    /// # Errors
    ///
    /// Returns an error if a file of TLS cannot be used, if nothing encrypts connections from other machines, or if the address
    /// of the metrics is in use.
    pub async fn serve<R: Future<Output = Health>>(
        self,
        listener: TcpListener,
        check_health: impl Fn() -> R,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let ServerSettings { http, tls, limits, trusted_proxies, metrics_listen, counts_calls } = self.settings;
        let address = listener.local_addr().map_err(ServerError::Listener)?;
        let tls = tls.load(address)?;
        tracing::info!(%address, tls = tls.is_some(), "serving");
        let call_limit = CallLimit::new(limits.max_calls_per_caller);
        let routes = self.routes.limit_calls_per_caller(call_limit.clone());
        let health = HealthService::new(Arc::clone(routes.verifier()), routes.names());
        let routes = routes.add_standard(HealthServer::new(health.clone()));
        // The descriptors also contain the services of imported files, which this server does not serve.
        let bindings: Vec<_> =
            self.bindings.into_iter().filter(|binding| routes.rules().get(binding.grpc_path()).is_some()).collect();
        let trusted_proxies: Arc<[_]> = trusted_proxies.into();
        let connections = Connections::new(limits, limits::raise_file_limit(), Arc::clone(&trusted_proxies));
        let concurrency = ConcurrencyLimit::new(limits.max_concurrent_calls, limits.max_calls_per_caller, self.reserved_paths);
        let admission = AdmissionLayer::new(Arc::clone(&connections), concurrency.clone(), limits.max_header_bytes);
        let mut registry = self.metrics;
        let call_metrics = counts_calls.then(|| CallMetrics::register(&mut registry, routes.rules().paths()));
        let call_metrics = CallMetricsLayer(call_metrics);
        registry.register_collector(Box::new(ConnectionMetrics {
            connections: Arc::clone(&connections),
            concurrency,
            call_limit,
            refusals: admission.refusals(),
        }));
        registry.register_collector(Box::new(VerifierMetrics(Arc::clone(routes.verifier()))));
        registry.register_collector(Box::new(ProcessMetrics));
        let metrics = metrics::routes(Arc::new(registry));
        let mut mounted = self.mounted.merge(health.routes());
        // Everyone who can reach the service could read them on another address.
        if address.ip().is_loopback() {
            mounted = mounted.merge(metrics.clone());
        }
        let gateway = Gateway::new(bindings, mounted, self.cache_policy);
        let serving_metrics = serve_metrics(metrics_listen, metrics).await?;
        let tracer = trace::tracer();
        let settings = StackSettings { admission, call_metrics, tracer, trusted_proxies, cors_origins: &http.cors_origins };
        let stack = stack::build(&routes.into_service(), gateway, settings);
        let watch_health = async {
            loop {
                let current = check_health().await;
                let interval = if current.is_ready() { HEALTH_INTERVAL } else { SHORT_INTERVAL };
                health.report(current);
                tokio::time::sleep(interval).await;
            }
        };
        let watch_revocations = async {
            loop {
                tokio::time::sleep(SHORT_INTERVAL).await;
                health.report_revocations();
            }
        };
        let (stopping, stopped) = oneshot::channel();
        let shutdown = async {
            tokio::select! {
                () = watch_health => {}
                () = watch_revocations => {}
                () = shutdown => {}
            }
            health.report_stopping();
            let _ = stopping.send(());
        };
        let serving = transport::Server::builder()
            .accept_http1(true)
            // A ping without an answer is the only sign of a client that disappeared without closing the connection.
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            // These limits bound the memory that one connection can occupy.
            .max_concurrent_streams(STREAM_LIMIT)
            .http2_max_header_list_size(limits.max_header_bytes)
            .serve_with_incoming_shutdown(stack, Incoming::new(listener, Arc::clone(&connections), tls.clone()), shutdown);
        let keep_tls_fresh = async {
            match &tls {
                Some(tls) => tls.keep_reloading().await,
                None => std::future::pending().await,
            }
        };
        let grace_period = async {
            let _ = stopped.await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => Ok(served?),
            served = serving_metrics => Ok(served?),
            () = keep_tls_fresh => Ok(()),
            () = connections.keep_ending_stalled() => Ok(()),
            // A stream without an end would otherwise keep the process alive.
            () = grace_period => {
                tracing::warn!("closing the connections of calls that did not finish in time");
                Ok(())
            }
        }
    }
}

/// Serves the metrics on an address of their own, if there is one.
async fn serve_metrics(
    address: Option<SocketAddr>,
    metrics: Router,
) -> Result<impl Future<Output = Result<(), transport::Error>>, ServerError> {
    let listener = match address {
        Some(address) => {
            let failed = |source| ServerError::Metrics { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            tracing::info!(%address, "serving the metrics");
            Some(listener)
        }
        None => None,
    };
    Ok(async move {
        let Some(listener) = listener else { return std::future::pending().await };
        let mut server = transport::Server::builder().accept_http1(true).timeout(METRICS_TIMEOUT);
        server.add_routes(metrics.into()).serve_with_incoming(TcpListenerStream::new(listener)).await
    })
}
