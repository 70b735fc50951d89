//! The call that the current task handles: its caller and its trace.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, OnceLock},
};

use contract::Actor;
use http::{HeaderValue, Uri};
use tokio::task::JoinHandle;

use crate::trace::{Span, SpanKind, TraceContext, TraceId, Tracer};

tokio::task_local! {
    static CALL: CurrentCall;
}

/// One call. Clones refer to the same call.
#[derive(Debug, Clone, Default)]
pub struct CurrentCall(Arc<Call>);

#[derive(Debug, Default)]
struct Call {
    uri: Uri,
    request_id: Option<HeaderValue>,
    trace: Option<TraceContext>,
    /// Creates the spans of the trace, if this process records traces.
    tracer: Option<Arc<dyn Tracer>>,
    /// The caller, which is not known before the access token is verified inside of the call.
    caller: OnceLock<(String, Actor)>,
}

impl CurrentCall {
    /// Creates a call. `trace` is the parent of the spans that `tracer` creates for it.
    pub fn new(uri: Uri, request_id: Option<HeaderValue>, trace: Option<TraceContext>, tracer: Option<Arc<dyn Tracer>>) -> Self {
        Self(Arc::new(Call { uri, request_id, trace, tracer, caller: OnceLock::new() }))
    }

    /// Returns the call that the current task handles. It is `None` in a task that handles no call.
    pub fn get() -> Option<Self> {
        CALL.try_with(Self::clone).ok()
    }

    /// Runs `work` as a part of the call.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CALL.scope(self.clone(), work)
    }

    /// Spawns a task that is a part of the current call and does not end with it.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        match Self::get() {
            Some(call) => tokio::spawn(call.scope(work)),
            None => tokio::spawn(work),
        }
    }

    /// Starts a span of an operation of the current call. Returns `None` if the call is not recorded; then `name` is not called.
    pub fn start_span<N: Into<Cow<'static, str>>>(kind: SpanKind, name: impl FnOnce() -> N) -> Option<Span> {
        let start = |call: &Self| {
            let trace = call.0.trace.filter(|trace| trace.is_sampled)?;
            call.0.tracer.as_ref()?.start(Some(trace), kind, name().into())
        };
        CALL.try_with(start).ok().flatten()
    }

    /// Records the user id or the client id of the caller of the current call, and its kind.
    pub fn record_caller(subject: &str, actor: Actor) {
        let _ = CALL.try_with(|call| call.0.caller.set((subject.to_owned(), actor)));
    }

    /// Returns the user id or the client id of the caller. It is `None` for a caller without a valid access token.
    pub fn subject(&self) -> Option<&str> {
        self.0.caller.get().map(|(subject, _)| subject.as_str())
    }

    /// Returns the kind of caller. It is `None` for a caller without a valid access token.
    pub fn actor(&self) -> Option<Actor> {
        self.0.caller.get().map(|(_, actor)| *actor)
    }

    /// Returns the id of the request. It is empty outside of a server that assigns ids.
    pub fn request_id(&self) -> &str {
        self.0.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default()
    }

    /// Returns the path of the request: the gRPC method, such as `/auth.v1.TokenService/Login`, or the path of an HTTP request.
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// Returns the parent of the spans that are created for the call.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    /// Returns the tracer of the spans that are created for the call.
    pub(crate) fn tracer(&self) -> Option<&Arc<dyn Tracer>> {
        self.0.tracer.as_ref()
    }

    /// Returns the trace that the call belongs to, if its client has sent one or this server records traces.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.trace.map(|trace| trace.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawned_task_belongs_to_the_call() {
        let trace = TraceContext { trace_id: TraceId([1; 16]), span_id: [2; 8], is_sampled: true };
        let call = CurrentCall::new(Uri::default(), None, Some(trace), None);
        let trace_id = || async { CurrentCall::get().and_then(|call| call.trace_id()) };
        let spawned = call.scope(async move { CurrentCall::spawn(trace_id()).await });
        assert_eq!(spawned.await.expect("an end"), Some(trace.trace_id));
        assert_eq!(CurrentCall::spawn(trace_id()).await.expect("an end"), None);
    }
}
