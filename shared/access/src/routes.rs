//! Combines guarded services into one service, for tonic's `Server` or for `server::Server`.

use std::{convert::Infallible, fmt, future::Future, sync::Arc};

use http::{Request, Response};
use tonic::{
    body::Body,
    server::NamedService,
    service::{self, RoutesBuilder},
};
use tower::{Layer, Service};

use crate::{
    AccessRules, Authentication, AuthenticationLayer, CallLimit, Caller, MethodRule, NormalizeStatus, NormalizeStatusLayer,
    OnAuthenticated, Result, token::Verifier,
};

/// A service behind its guard. Only generated code can create one.
pub struct Guarded {
    name: &'static str,
    methods: &'static [MethodRule],
    add_to: Box<dyn FnOnce(&mut RoutesBuilder)>,
}

impl Guarded {
    /// Creates a guarded service. Only generated code calls it.
    #[doc(hidden)]
    pub fn __generated<S>(methods: &'static [MethodRule], service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let add_to = Box::new(|routes: &mut RoutesBuilder| {
            routes.add_service(service);
        });
        Self { name: S::NAME, methods, add_to }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Collects guarded services and puts authentication before them.
///
/// ```no_run
/// use std::{net::SocketAddr, sync::Arc};
///
/// use access::{Guarded, Routes, token::Verifier};
/// use tonic::transport::{Error, Server};
///
/// // `greeter` is `greeter_service::guarded(Greeter)`, which `access-build` generates.
/// async fn serve(address: SocketAddr, verifier: Arc<Verifier>, greeter: Guarded) -> Result<(), Error> {
///     let routes = Routes::new(verifier).add(greeter);
///     Server::builder().serve(address, routes.into_service()).await
/// }
/// # drop(serve);
/// ```
pub struct Routes {
    rules: AccessRules,
    builder: RoutesBuilder,
    names: Vec<&'static str>,
    verifier: Arc<Verifier>,
    on_authenticated: Option<OnAuthenticated>,
    call_limit: Option<CallLimit>,
}

/// Guarded services behind authentication: the service that a server serves.
pub type GuardedRoutes = Authentication<NormalizeStatus<service::Routes>>;

impl Routes {
    /// Creates an empty collection. `verifier` verifies the access tokens of every call.
    pub fn new(verifier: Arc<Verifier>) -> Self {
        Self {
            rules: AccessRules::default(),
            builder: service::Routes::builder(),
            names: Vec::new(),
            verifier,
            on_authenticated: None,
            call_limit: None,
        }
    }

    /// Adds a guarded service.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "adding a service to routes is not arithmetic")]
    pub fn add(mut self, service: Guarded) -> Self {
        self.rules.extend(service.methods);
        self.names.push(service.name);
        (service.add_to)(&mut self.builder);
        self
    }

    /// Adds a service without a guard. Only the methods of health and reflection can be called. The methods of any other service
    /// have no access rule, so they fail with UNIMPLEMENTED.
    #[must_use]
    pub fn add_standard<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.builder.add_service(service);
        self
    }

    /// Runs `work` for every authenticated call, before its guard. The call fails if `work` does.
    #[must_use]
    pub fn on_authenticated<F: Future<Output = Result<()>> + Send + 'static>(
        mut self,
        work: impl Fn(Caller) -> F + Send + Sync + 'static,
    ) -> Self {
        self.on_authenticated = Some(Arc::new(move |caller| Box::pin(work(caller))));
        self
    }

    /// Limits the calls of each user or client that are handled at the same time. More calls get RESOURCE_EXHAUSTED. By default there is
    /// no limit.
    #[must_use]
    pub fn limit_calls_per_caller(mut self, limit: CallLimit) -> Self {
        self.call_limit = Some(limit);
        self
    }

    /// Returns the full names of the guarded services.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Returns the access rules of every method that is served.
    pub fn rules(&self) -> &AccessRules {
        &self.rules
    }

    /// Returns the verifier of the access tokens.
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Returns the services as one service. A call passes authentication, then the guard of its method, then the handler.
    pub fn into_service(self) -> GuardedRoutes {
        let mut authentication = AuthenticationLayer::new(Arc::new(self.rules), self.verifier);
        if let Some(work) = self.on_authenticated {
            authentication = authentication.on_authenticated(work);
        }
        if let Some(limit) = self.call_limit {
            authentication = authentication.limit_calls(limit);
        }
        // Authentication comes first, so that a caller without a token cannot make the server parse a message.
        authentication.layer(NormalizeStatusLayer.layer(self.builder.routes().prepare()))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("names", &self.names).finish_non_exhaustive()
    }
}
