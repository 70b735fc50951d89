//! The server: health, reflection, the gateway and the guarded services on one port.

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
    cors::Cors,
    cors_origin::CorsOrigin,
    multiplexer::{HEADER_LIMIT, ProtocolMultiplexer},
    request_log::RequestLogLayer,
};

/// The name that health checks ask whether news of revocations are fresh: SERVING where they are. The service itself is ready
/// without them, since most of its methods are.
pub const REVOCATIONS: &str = "revocations";
/// How many calls one connection may have under way.
const STREAM_LIMIT: u32 = 100;
/// How long a connection may be silent before it is asked whether it is still there, and how long it has to answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls in flight have when the server stops.
const GRACE: Duration = Duration::from_secs(20);
/// How often readiness is looked at: while the service is ready, and while it is not.
const READINESS_INTERVAL: Duration = Duration::from_secs(1);
const UNREADINESS_INTERVAL: Duration = Duration::from_millis(100);

/// A server of guarded services, with health (`grpc.health.v1`) and reflection (v1 and v1alpha) beside them.
pub struct Server {
    routes: Routes,
    trusted_proxies: Arc<[IpNet]>,
    bindings: Vec<Binding>,
    mounted: Router,
    descriptors: &'static [u8],
    cache_policy: CachePolicy,
    cors: Cors,
}

impl Server {
    /// A server that verifies access tokens with `verifier`, and whose reflection knows the protos in `descriptors`: what
    /// `shared-build` wrote to `descriptors.bin`.
    ///
    /// # Errors
    ///
    /// Descriptors that are none, or whose HTTP routes are none.
    pub fn new(verifier: Arc<Verifier>, descriptors: &'static [u8]) -> Result<Self, ReflectionError> {
        // Also the details of errors, so that a client that knows nothing but reflection can print them.
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
            cors: Cors::default(),
        })
    }

    /// Serves this service too.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a server plus a service is no arithmetic")]
    pub fn add(mut self, service: Guarded) -> Self {
        self.routes = self.routes.add(service);
        self
    }

    /// Runs `work` for every authenticated call, before its guard. The call fails where `work` does.
    #[must_use]
    pub fn on_authenticated<F: Future<Output = Result<()>> + Send + 'static>(
        mut self,
        work: impl Fn(Caller) -> F + Send + Sync + 'static,
    ) -> Self {
        self.routes = self.routes.on_authenticated(work);
        self
    }

    /// Believes these proxies what their `x-forwarded-for` says of where a call comes from. Nobody else is believed.
    #[must_use]
    pub fn trusted_proxies(mut self, networks: &[IpNet]) -> Self {
        self.trusted_proxies = networks.into();
        self
    }

    /// Answers plain HTTP at these routes too, where no route of the protos has the path. Nothing is authenticated before
    /// their handlers: they call the services with [`InProcess`], which they take as an argument.
    #[must_use]
    pub fn merge_http(mut self, routes: Router) -> Self {
        self.mounted = self.mounted.merge(routes);
        self
    }

    /// Describes the services that were added so far at `/openapi.json` and `/openapi.yaml`, and answers a page at `/` where there
    /// is one.
    ///
    /// # Errors
    ///
    /// Descriptors that are none.
    pub fn with_openapi(self, title: &str, version: &str, api_docs: Option<&ApiDocs>) -> Result<Self, DocumentError> {
        let about = About { title, version, services: self.routes.names() };
        let document = openapi::document(self.descriptors, &about)?;
        Ok(self.merge_http(gateway::api_docs_routes(&document, api_docs)))
    }

    /// Lets pages of these origins call, over HTTP and gRPC-Web. Without it a browser lets none.
    #[must_use]
    pub fn cors(mut self, origins: &[CorsOrigin]) -> Self {
        self.cors = Cors::new(origins);
        self
    }

    /// Lets whoever asks over HTTP keep what the method at `path`, such as `/package.Service/Method`, answers: for so long, in
    /// whole seconds, and then asks for another. Of everything else nothing may be kept.
    #[must_use]
    pub fn cache_response(mut self, path: &'static str, max_age: Duration) -> Self {
        self.cache_policy.insert(path, max_age);
        self
    }

    /// Serves on `listener` until `shutdown`. Then no call begins any more, and those in flight come to their end.
    ///
    /// `is_ready` is asked every second, and more often while it is not; health checks answer what it answered last.
    ///
    /// # Errors
    ///
    /// Those of the transport.
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
        // The descriptors also hold the services of imported files.
        let bindings: Vec<_> =
            self.bindings.into_iter().filter(|binding| routes.rules().get(binding.grpc_path()).is_some()).collect();
        let gateway = Gateway::new(bindings, self.mounted, self.cache_policy);
        let multiplexer = ProtocolMultiplexer::new(routes.into_service(), gateway, self.trusted_proxies, self.cors);
        let watch_readiness = async {
            loop {
                let (status, interval) = if is_ready().await {
                    (ServingStatus::Serving, READINESS_INTERVAL)
                } else {
                    (ServingStatus::NotServing, UNREADINESS_INTERVAL)
                };
                report(&health, &names, status).await;
                let hears = verifier.revocations().are_fresh();
                report(&health, &[REVOCATIONS], if hears { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
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
            // Outermost, so that whatever is refused below still gets a request id and a line in the log.
            .layer(RequestLogLayer)
            // Silence is the only sign of a peer that is gone.
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            // What one connection can make the server hold is bounded.
            .max_concurrent_streams(STREAM_LIMIT)
            .http2_max_header_list_size(HEADER_LIMIT)
            .serve_with_incoming_shutdown(multiplexer, accept::Incoming::new(listener), shutdown);
        let patience = async {
            let _ = stopped.await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served,
            // A stream without an end would keep the process alive for ever.
            () = patience => {
                tracing::warn!("calls that did not come to their end in time are cut off");
                Ok(())
            }
        }
    }
}

async fn report(health: &HealthReporter, names: &[&'static str], status: ServingStatus) {
    for name in names {
        health.set_service_status(*name, status).await;
    }
}
