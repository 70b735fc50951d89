//! The health of a service: `grpc.health.v1` for load balancers that speak gRPC, `/livez` and `/readyz` for all others.

use std::{borrow::Cow, collections::BTreeMap, pin::Pin, sync::Arc};

use access::{error::Reason, token::Verifier};
use axum::{Json, Router, routing::get};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
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
    feed_failure: Option<Cow<'static, str>>,
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

    /// Adds the reason why the event feed fails to the health name `revocations`, which fails when the revocations are too old.
    #[must_use]
    pub fn explain_revocations(mut self, reason: Option<impl Into<Cow<'static, str>>>) -> Self {
        self.feed_failure = reason.map(Into::into);
        self
    }

    /// Returns true if no requirement of the service is missing.
    pub(crate) fn is_ready(&self) -> bool {
        self.overall.is_none()
    }
}

/// The reason why a health name is `NOT_SERVING`, or `None` while it is SERVING.
type Problem = Option<Cow<'static, str>>;

fn status(problem: &Problem) -> ServingStatus {
    if problem.is_none() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

/// The health service. Clones share the states.
#[derive(Debug, Clone)]
pub(crate) struct HealthService {
    verifier: Arc<Verifier>,
    /// The last report of each name. The names of the services have that of the overall health.
    reports: Arc<BTreeMap<&'static str, watch::Sender<Problem>>>,
    services: Arc<[&'static str]>,
    feed_failure: Arc<Mutex<Problem>>,
}

impl HealthService {
    /// Creates the health service of a server with these services. Nothing is ready until the first report.
    pub(crate) fn new(verifier: Arc<Verifier>, services: &[&'static str]) -> Self {
        let starting = || watch::Sender::new(Some("the service is starting".into()));
        let reports = ["", WRITES, REVOCATIONS].into_iter().chain(services.iter().copied()).map(|name| (name, starting()));
        Self { verifier, reports: Arc::new(reports.collect()), services: services.into(), feed_failure: Arc::default() }
    }

    /// Reports the health of the service.
    pub(crate) fn report(&self, health: Health) {
        for name in self.services.iter().chain(&[""]) {
            self.set(name, health.overall.clone());
        }
        *self.feed_failure.lock() = health.feed_failure;
        // Without a database nothing can be written either.
        self.set(WRITES, health.overall.or(health.writes));
        self.report_revocations();
    }

    /// Reports whether the revocation feed is fresh.
    pub(crate) fn report_revocations(&self) {
        let problem = self.revocations();
        let is_stale = problem.is_some();
        if self.set(REVOCATIONS, problem) && is_stale {
            tracing::warn!(
                "the revocation feed is stale: methods with STRICT revocation answer UNAVAILABLE until it is received again"
            );
        }
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
            let shown = [(OVERALL, ""), (WRITES, WRITES), (REVOCATIONS, REVOCATIONS)];
            let problems = shown.map(|(shown, name)| (shown, service.problem(name).flatten()));
            let is_ready = problems.iter().any(|(name, problem)| *name == OVERALL && problem.is_none());
            let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let states: Map<_, _> = problems.into_iter().map(|(name, problem)| (name.to_owned(), state(&problem))).collect();
            (code, no_store, Json(states))
        };
        Router::new().route("/livez", get(async move || (live, "ok\n"))).route("/readyz", get(ready))
    }

    /// Returns the problem of a name, or `None` if the name is unknown. That of the revocation feed is the one of this moment, not of the
    /// last report, so that it agrees with the answers of STRICT methods.
    fn problem(&self, name: &str) -> Option<Problem> {
        let reported = self.reports.get(name)?;
        Some(if name == REVOCATIONS { self.revocations() } else { reported.borrow().clone() })
    }

    fn revocations(&self) -> Problem {
        if self.verifier.revocations().are_fresh() {
            return None;
        }
        Some(match &*self.feed_failure.lock() {
            Some(reason) => format!("{STALE}: {reason}").into(),
            None => STALE.into(),
        })
    }

    /// Stores a report. Returns true if the name was SERVING and is not any more, or the other way round.
    fn set(&self, name: &str, problem: Problem) -> bool {
        let Some(report) = self.reports.get(name) else { return false };
        let mut is_changed = false;
        report.send_if_modified(|current| {
            is_changed = status(current) != status(&problem);
            let is_modified = *current != problem;
            *current = problem;
            is_modified
        });
        is_changed
    }
}

/// Returns the state of a health name in JSON.
fn state(problem: &Problem) -> Value {
    match problem {
        None => json!({ "status": status(problem).as_str_name() }),
        Some(reason) => json!({ "status": status(problem).as_str_name(), "reason": reason }),
    }
}

/// A stream of responses to Watch.
type Watching = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        match self.problem(&name) {
            Some(problem) => Ok(Response::new(HealthCheckResponse { status: status(&problem).into() })),
            None => Err(access::error::status(Code::NotFound, Reason::NotFound, "there is no service of this name")),
        }
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watching>, Status> {
        let receiver = self.reports.get(request.into_inner().service.as_str()).map(watch::Sender::subscribe);
        let respond = |status: ServingStatus| Ok(HealthCheckResponse { status: status.into() });
        // The protocol asks for an open stream also where the name is unknown, because the service could be added later.
        let unknown = || Box::pin(tokio_stream::once(respond(ServingStatus::ServiceUnknown)).chain(tokio_stream::pending()));
        let stream: Watching = match receiver {
            Some(receiver) => Box::pin(WatchStream::new(receiver).map(move |problem| respond(status(&problem)))),
            None => unknown(),
        };
        Ok(Response::new(stream))
    }
}
