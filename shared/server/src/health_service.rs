//! The health of a service: `grpc.health.v1` for load balancers that speak gRPC, `/livez` and `/readyz` for all others.

use std::{borrow::Cow, collections::BTreeMap, pin::Pin, sync::Arc};

use access::{error::Reason, token::Verifier};
use axum::{Json, Router, routing::get};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

/// The health service name that reports the revocation feed: SERVING while it is fresh. The service itself stays ready with a stale feed,
/// because only methods with STRICT revocation need it.
pub const REVOCATIONS: &str = "revocations";
/// The health service name that reports whether the database accepts writes. The service itself stays ready while it does not, because
/// reads are answered.
pub const WRITES: &str = "writes";
/// The name under which `/readyz` shows the overall health, whose name in `grpc.health.v1` is empty.
const OVERALL: &str = "overall";
const STALE: &str = "the event feed of the auth service was not received in time; methods with STRICT revocation are unavailable";

/// The health of a service at one moment: healthy, unless a requirement is not met.
#[derive(Debug, Clone, Default)]
pub struct Health {
    overall: Option<Cow<'static, str>>,
    writes: Option<Cow<'static, str>>,
    revocations: Option<Cow<'static, str>>,
}

impl Health {
    /// Creates the health of a service that has no problem.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reports the service as not ready, with this reason, unless `condition` is true. Load balancers then send it no calls, so this
    /// is only for what no call can be answered without.
    #[must_use]
    pub fn require(mut self, condition: bool, reason: impl Into<Cow<'static, str>>) -> Self {
        if !condition {
            self.overall.get_or_insert(reason.into());
        }
        self
    }

    /// Reports that writes fail, with this reason, unless `condition` is true.
    #[must_use]
    pub fn require_writes(mut self, condition: bool, reason: impl Into<Cow<'static, str>>) -> Self {
        if !condition {
            self.writes.get_or_insert(reason.into());
        }
        self
    }

    /// Gives the reason that is shown if the revocation feed is stale.
    #[must_use]
    pub fn explain_revocations(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.revocations = Some(reason.into());
        self
    }

    /// Returns true if no requirement of the service is missing.
    pub(crate) fn is_ready(&self) -> bool {
        self.overall.is_none()
    }
}

/// The state of one health name: SERVING without a reason, `NOT_SERVING` with one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct HealthState {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'static, str>>,
}

impl HealthState {
    fn new(reason: Option<Cow<'static, str>>) -> Self {
        let mut state = Self { status: "", reason };
        state.status = state.status().as_str_name();
        state
    }

    fn status(&self) -> ServingStatus {
        if self.reason.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

/// The health service. Clones share the states.
#[derive(Debug, Clone)]
pub(crate) struct HealthService {
    verifier: Arc<Verifier>,
    /// The states by name. The names of the services have the state of the overall health.
    states: Arc<Mutex<BTreeMap<&'static str, watch::Sender<HealthState>>>>,
    services: Arc<[&'static str]>,
    explanation: Arc<Mutex<Option<Cow<'static, str>>>>,
}

impl HealthService {
    /// Creates the health service of a server with these services. Nothing is ready until the first report.
    pub(crate) fn new(verifier: Arc<Verifier>, services: &[&'static str]) -> Self {
        let starting = || watch::Sender::new(HealthState::new(Some("the service is starting".into())));
        let states = ["", WRITES, REVOCATIONS].into_iter().chain(services.iter().copied()).map(|name| (name, starting()));
        Self { verifier, states: Arc::new(Mutex::new(states.collect())), services: services.into(), explanation: Arc::default() }
    }

    /// Reports the health of the service.
    pub(crate) fn report(&self, health: Health) {
        for name in self.services.iter().chain(&[""]) {
            self.set(name, HealthState::new(health.overall.clone()));
        }
        // Without a database nothing can be written either.
        self.set(WRITES, HealthState::new(health.overall.or(health.writes)));
        *self.explanation.lock() = health.revocations;
        self.report_revocations();
    }

    /// Reports whether the revocation feed is fresh.
    pub(crate) fn report_revocations(&self) {
        let was_fresh = self.state(REVOCATIONS).is_some_and(|state| state.reason.is_none());
        let state = self.revocations();
        if was_fresh && state.reason.is_some() {
            tracing::warn!(
                "the revocation feed is stale: methods with STRICT revocation answer UNAVAILABLE until it is received again"
            );
        }
        self.set(REVOCATIONS, state);
    }

    /// Reports that the service stops, so that load balancers send no more calls.
    pub(crate) fn report_stopping(&self) {
        self.report(Health::new().require(false, "the service is stopping"));
    }

    /// Returns the routes of `/livez` and `/readyz`.
    pub(crate) fn routes(&self) -> Router {
        let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        let service = self.clone();
        let live = no_store.clone();
        let ready = async move || {
            let states = service.all();
            let is_ready = states.get(OVERALL).is_some_and(|state| state.reason.is_none());
            let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (code, no_store, Json(states))
        };
        Router::new().route("/livez", get(async move || (live, "ok\n"))).route("/readyz", get(ready))
    }

    fn all(&self) -> BTreeMap<&'static str, HealthState> {
        let names = [(OVERALL, ""), (WRITES, WRITES), (REVOCATIONS, REVOCATIONS)];
        names.into_iter().filter_map(|(shown, name)| Some((shown, self.state(name)?))).collect()
    }

    /// Returns the state of a name. That of the revocation feed is the one of this moment, not of the last report, so that it agrees
    /// with the answers of STRICT methods.
    fn state(&self, name: &str) -> Option<HealthState> {
        self.states.lock().get(name).map(|state| state.borrow().clone())
    }

    fn revocations(&self) -> HealthState {
        let explanation = || self.explanation.lock().clone().unwrap_or(STALE.into());
        HealthState::new((!self.verifier.revocations().are_fresh()).then(explanation))
    }

    fn set(&self, name: &str, state: HealthState) {
        if let Some(sender) = self.states.lock().get(name) {
            sender.send_if_modified(|current| {
                let is_modified = *current != state;
                *current = state;
                is_modified
            });
        }
    }
}

/// A stream of responses to Watch.
type Watching = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        let state = if name == REVOCATIONS { Some(self.revocations()) } else { self.state(&name) };
        match state {
            Some(state) => Ok(Response::new(HealthCheckResponse { status: state.status().into() })),
            None => Err(access::error::status(Code::NotFound, Reason::NotFound, "there is no service of this name")),
        }
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watching>, Status> {
        let receiver = self.states.lock().get(request.into_inner().service.as_str()).map(watch::Sender::subscribe);
        let respond = |status: ServingStatus| Ok(HealthCheckResponse { status: status.into() });
        // The protocol asks for an open stream also where the name is unknown, because the service could be added later.
        let unknown = || Box::pin(tokio_stream::once(respond(ServingStatus::ServiceUnknown)).chain(tokio_stream::pending()));
        let stream: Watching = match receiver {
            Some(receiver) => Box::pin(WatchStream::new(receiver).map(move |state| respond(state.status()))),
            None => unknown(),
        };
        Ok(Response::new(stream))
    }
}
