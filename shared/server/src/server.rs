//! The server: guarded services, health, reflection and the gateway on one port.

use std::{future::Future, sync::Arc, time::Duration};

use access::{Caller, Guarded, Result, Routes, token::Verifier};
use axum::Router;
use gateway::{
    ApiDocs, Binding, CachePolicy, Gateway,
    openapi::{self, About, DocumentError},
};
use ipnet::IpNet;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_reflection::server::Error as ReflectionError;

use crate::{
    accept,
    cors_origin::CorsOrigin,
    stack::{self, HEADER_LIMIT},
};

/// The health service name that reports the revocation feed: SERVING while it is fresh. The service itself stays ready with a stale feed,
/// because only methods with STRICT revocation need it.
pub const REVOCATIONS: &str = "revocations";
/// The largest number of concurrent calls on one connection.
const STREAM_LIMIT: u32 = 100;
/// The interval of HTTP/2 keepalive pings.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time within which a client must answer a keepalive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that calls in flight have to complete after the shutdown begins.
const GRACE: Duration = Duration::from_secs(20);
/// The interval between readiness checks while the service is ready.
const READINESS_INTERVAL: Duration = Duration::from_secs(1);
/// The interval between readiness checks while the service is not ready.
const UNREADINESS_INTERVAL: Duration = Duration::from_millis(100);

/// A server of guarded services. It also serves health (`grpc.health.v1`) and reflection (v1 and v1alpha).
pub struct Server {
    routes: Routes,
    trusted_proxies: Arc<[IpNet]>,
    bindings: Vec<Binding>,
    mounted: Router,
    descriptors: &'static [u8],
    cache_policy: CachePolicy,
    cors_origins: Vec<CorsOrigin>,
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
        };
        let routes = Routes::new(verifier);
        let routes = routes.add_standard(reflection().build_v1()?).add_standard(reflection().build_v1alpha()?);
        Ok(Self {
            routes,
            trusted_proxies: Arc::default(),
            bindings: gateway::read(descriptors).map_err(ReflectionError::InvalidFileDescriptorSet)?,
            mounted: Router::new(),
            descriptors,
            cache_policy: CachePolicy::new(),
            cors_origins: Vec::new(),
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

    /// Trusts `X-Forwarded-For` from these networks only.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: &[IpNet]) -> Self {
        self.trusted_proxies = networks.into();
        self
    }

    /// Adds HTTP routes for paths that match no route of the protos. Their handlers run without authentication. They call the services
    /// through [`InProcess`](gateway::InProcess), which they take as an argument.
    #[must_use]
    pub fn merge_http(mut self, routes: Router) -> Self {
        self.mounted = self.mounted.merge(routes);
        self
    }

    /// Serves the `OpenAPI` document of the services that were added so far at `/openapi.json` and `/openapi.yaml`, and the API page at `/`
    /// if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error that names the method or the field if an option in the protos is invalid.
    pub fn with_openapi(self, title: &str, version: &str, api_docs: Option<&ApiDocs>) -> Result<Self, DocumentError> {
        let about = About { title, version, services: self.routes.names() };
        let document = openapi::document(self.descriptors, &about)?;
        Ok(self.merge_http(gateway::api_docs_routes(&document, api_docs)))
    }

    /// Allows web pages of these origins to call over HTTP and gRPC-Web. By default no other origin is allowed.
    #[must_use]
    pub fn cors(mut self, origins: &[CorsOrigin]) -> Self {
        self.cors_origins = origins.to_vec();
        self
    }

    /// Allows HTTP clients and caches to store the responses of the method at `path`, such as `/package.Service/Method`, for `max_age` in
    /// whole seconds. The responses of all other methods have `Cache-Control: no-store`.
    #[must_use]
    pub fn cache_response(mut self, path: &'static str, max_age: Duration) -> Self {
        self.cache_policy.insert(path, max_age);
        self
    }

    /// Serves on `listener` until `shutdown` completes. Then the server accepts no more calls, and those in flight have 20 seconds to
    /// complete.
    ///
    /// The server calls `is_ready` every second, and every 100 milliseconds while it is false. Health checks report the last result.
    pub async fn serve<R: Future<Output = bool>>(
        self,
        listener: TcpListener,
        is_ready: impl Fn() -> R,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), transport::Error> {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "serving");
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        let routes = self.routes.add_standard(health_service);
        let names: Vec<_> = std::iter::once("").chain(routes.names().iter().copied()).collect();
        let verifier = Arc::clone(routes.verifier());
        // The descriptors also contain the services of imported files, which this server does not serve.
        let bindings: Vec<_> =
            self.bindings.into_iter().filter(|binding| routes.rules().get(binding.grpc_path()).is_some()).collect();
        let gateway = Gateway::new(bindings, self.mounted, self.cache_policy);
        let stack = stack::build(&routes.into_service(), gateway, self.trusted_proxies, &self.cors_origins);
        let watch_readiness = async {
            loop {
                let (status, interval) = if is_ready().await {
                    (ServingStatus::Serving, READINESS_INTERVAL)
                } else {
                    (ServingStatus::NotServing, UNREADINESS_INTERVAL)
                };
                report(&health, &names, status).await;
                let is_fresh = verifier.revocations().are_fresh();
                report(&health, &[REVOCATIONS], if is_fresh { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
                tokio::time::sleep(interval).await;
            }
        };
        let (stopping, stopped) = oneshot::channel();
        let shutdown = async {
            tokio::select! {
                () = watch_readiness => {}
                () = shutdown => report(&health, &names, ServingStatus::NotServing).await,
            }
            let _ = stopping.send(());
        };
        let serving = transport::Server::builder()
            .accept_http1(true)
            // A ping without an answer is the only sign of a client that disappeared without closing the connection.
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            // These limits bound the memory that one connection can occupy.
            .max_concurrent_streams(STREAM_LIMIT)
            .http2_max_header_list_size(HEADER_LIMIT)
            .serve_with_incoming_shutdown(stack, accept::Incoming::new(listener), shutdown);
        let grace_period = async {
            let _ = stopped.await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served,
            // A stream without an end would otherwise keep the process alive.
            () = grace_period => {
                tracing::warn!("closing the connections of calls that did not finish in time");
                Ok(())
            }
        }
    }
}

/// Sets the status of these names in the health service.
async fn report(health: &HealthReporter, names: &[&'static str], status: ServingStatus) {
    for name in names {
        health.set_service_status(*name, status).await;
    }
}
