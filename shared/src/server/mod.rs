//! The server: what stands between the socket and the guards, the same for every service.

mod accept;
mod call;
mod cors;
mod dress;
mod front;
mod in_process;

use std::{collections::HashMap, convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::Router;
use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tonic::{
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{Layer, Service};

use crate::{
    Caller, Result,
    authenticate::{Authenticate, EachCaller},
    contract::{Contract, Method, STANDARD},
    explorer::{self, Page},
    gateway::{self, Gateway},
    openapi::{self, About},
    token::Verifier,
};

pub use cors::CorsOrigin;
pub use in_process::InProcess;
pub use prost_reflect::DescriptorError;
pub use tonic_reflection::server::Error as ReflectionError;

/// The name that health checks ask whether news of revocations are fresh: SERVING where they are. The service itself is ready
/// without them, since most of its methods are.
pub const REVOCATIONS: &str = "revocations";
/// The largest message that is read, in bytes.
pub const MESSAGE_LIMIT: usize = 1 << 20;
/// The largest header list, in bytes.
const HEADER_LIMIT: u32 = 8 << 10;
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

/// A service behind its guard. Generated code makes it, and nothing else can.
pub struct Guarded {
    name: &'static str,
    methods: &'static [Method],
    add_to: Box<dyn FnOnce(&mut RoutesBuilder)>,
}

impl Guarded {
    /// For generated code.
    #[doc(hidden)]
    pub fn __generated<S>(methods: &'static [Method], service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let add_to = Box::new(|routes: &mut RoutesBuilder| {
            routes.add_service(service);
        });
        Self { name: S::NAME, methods, add_to }
    }
}

/// A server of guarded services, with health (`grpc.health.v1`) and reflection (v1 and v1alpha) beside them.
pub struct Server {
    contract: Contract,
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    verifier: Arc<Verifier>,
    each_caller: Option<EachCaller>,
    trusted_proxies: Arc<[IpNet]>,
    bindings: Vec<gateway::Binding>,
    mounted: Router,
    descriptors: &'static [u8],
    keep: gateway::Keep,
    cors: cors::Cors,
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
        let mut contract = Contract::default();
        contract.extend(STANDARD);
        let mut routes = Routes::builder();
        routes.add_service(reflection().build_v1()?);
        routes.add_service(reflection().build_v1alpha()?);
        Ok(Self {
            contract,
            routes,
            names: vec![""],
            verifier,
            each_caller: None,
            trusted_proxies: Arc::default(),
            bindings: gateway::read(descriptors).map_err(ReflectionError::InvalidFileDescriptorSet)?,
            mounted: Router::new(),
            descriptors,
            keep: HashMap::new(),
            cors: cors::Cors::default(),
        })
    }

    /// Serves this service too.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a server plus a service is no arithmetic")]
    pub fn add(mut self, service: Guarded) -> Self {
        self.contract.extend(service.methods);
        self.names.push(service.name);
        (service.add_to)(&mut self.routes);
        self
    }

    /// Runs `work` for every authenticated call, before its guard. The call fails where `work` does.
    #[must_use]
    pub fn each_caller<F: Future<Output = Result<()>> + Send + 'static>(
        mut self,
        work: impl Fn(Caller) -> F + Send + Sync + 'static,
    ) -> Self {
        self.each_caller = Some(Arc::new(move |caller| Box::pin(work(caller))));
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
    pub fn http(mut self, routes: Router) -> Self {
        self.mounted = self.mounted.merge(routes);
        self
    }

    /// Describes the services that were added so far at `/openapi.json` and `/openapi.yaml`, and answers a page at `/` where there
    /// is one.
    ///
    /// # Errors
    ///
    /// Descriptors that are none.
    pub fn described(self, title: &str, version: &str, page: Option<&Page>) -> Result<Self, DescriptorError> {
        let about = About { title, version, services: &self.names };
        let document = openapi::document(self.descriptors, &about)?;
        Ok(self.http(explorer::routes(&document, page)))
    }

    /// Lets pages of these origins call, over HTTP and gRPC-Web. Without it a browser lets none.
    #[must_use]
    pub fn cors(mut self, origins: &[CorsOrigin]) -> Self {
        self.cors = cors::Cors::new(origins);
        self
    }

    /// Lets whoever asks over HTTP keep what the method at `path`, such as `/package.Service/Method`, answers: for so long, in
    /// whole seconds, and then asks for another. Of everything else nothing may be kept.
    #[must_use]
    pub fn keep(mut self, path: &'static str, max_age: Duration) -> Self {
        self.keep.insert(path, max_age);
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
        let mut routes = self.routes;
        routes.add_service(health_service);
        let contract = Arc::new(self.contract);
        // Descriptors hold what they import, too.
        let bindings = self.bindings.into_iter().filter(|binding| contract.rule(binding.grpc_path()).is_some());
        let gateway = Gateway::new(bindings, self.mounted, self.keep);
        let authenticate =
            Authenticate { contract: Arc::clone(&contract), verifier: Arc::clone(&self.verifier), each_caller: self.each_caller };
        // Before the body is read, so that a stranger can't make the server parse anything.
        let stack = authenticate.layer(dress::Dress.layer(routes.routes().prepare()));
        let front = front::Front::new(stack, gateway, self.trusted_proxies, self.cors);
        let watch_readiness = async {
            loop {
                let (status, interval) = if is_ready().await {
                    (ServingStatus::Serving, READINESS_INTERVAL)
                } else {
                    (ServingStatus::NotServing, UNREADINESS_INTERVAL)
                };
                report(&health, &self.names, status).await;
                let hears = self.verifier.hears_of_revocations();
                report(&health, &[REVOCATIONS], if hears { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
                tokio::time::sleep(interval).await;
            }
        };
        let (stopping, stopped) = oneshot::channel();
        let shutdown = async {
            tokio::select! {
                () = watch_readiness => {}
                () = shutdown => report(&health, &self.names, ServingStatus::NotServing).await,
            }
            let _ = stopping.send(());
        };
        let serving = transport::Server::builder()
            .accept_http1(true)
            // Outermost, so that whatever is refused below still gets a request id and a line in the log.
            .layer(call::Calls)
            // Silence is the only sign of a peer that is gone.
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            // What one connection can make the server hold is bounded.
            .max_concurrent_streams(STREAM_LIMIT)
            .http2_max_header_list_size(HEADER_LIMIT)
            .serve_with_incoming_shutdown(front, accept::Incoming::new(listener), shutdown);
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

/// Ends when the process is asked to stop: by SIGTERM, or by Ctrl-C.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn stop_signal() -> impl Future<Output = ()> {
    // Before the first await, so that no signal is missed from now on.
    let on = |kind| signal(kind).expect("signals can be listened for in a runtime");
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate()), on(SignalKind::interrupt()));
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: calls in flight come to their end");
    }
}
