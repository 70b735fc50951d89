//! Authorizes and validates a request, and runs the handler. Generated code calls this module.
//!
//! Authorization precedes validation, so that an unauthorized caller learns nothing from a validation error.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use contract::{AccessPolicy, AccessRule, Actor, MethodRule, RevocationMode};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status};

use crate::{
    AuditRecorder, AuditedCall, Caller, ClientInfo, CurrentCall, Error, Result,
    client_presence::WaitingClient,
    error::{ErrorReason, Reason, error_chain},
    limits::COMPRESSION_MINIMUM,
    validate::{self, Validate, Violations},
};

/// A handler's stream of messages.
pub type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
/// A stream of messages whose errors are statuses.
pub type StatusStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The literal that stands for the caller's own id in an owner field.
const ME: &str = "me";
/// How often a handler is run again when the database aborts its transaction.
const RETRIES: usize = 5;
/// The delay before the first of them. It doubles, and jitter adds up to as much again, so that two transactions that conflicted once
/// do not conflict again.
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// Authorizes and validates a request to a handler that needs a caller, and replaces `me` in its owner field by the caller's id.
/// `check` adds the violations that no rule of the proto expresses.
///
/// # Errors
///
/// Returns the first that applies: UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE if the rule needs fresh revocations and they are
/// stale, or INVALID_ARGUMENT.
pub fn admit<T: Validate>(
    mut request: Request<T>,
    rule: &AccessRule,
    owner: impl FnOnce(&mut T) -> Option<&mut String>,
    check: impl FnOnce(&T, &mut Violations),
) -> Result<(Caller, T)> {
    let caller = request.extensions_mut().remove::<Caller>().ok_or_else(Error::access_token_invalid)?;
    let mut message = request.into_inner();
    let is_named = match owner(&mut message) {
        Some(owner) if owner == ME => {
            caller.subject().clone_into(owner);
            true
        }
        Some(owner) => owner.eq_ignore_ascii_case(caller.subject()),
        None => false,
    };
    // A service owns nothing, even if its client id equals a user id.
    let is_owner = is_named && caller.actor() == Actor::User;
    authorize(rule, &caller, is_owner)?;
    validate::check_with(&message, check)?;
    Ok((caller, message))
}

/// Evaluates an access rule. `is_owner` says whether the caller owns the resource that the request names.
///
/// # Errors
///
/// Returns PERMISSION_DENIED if the rule does not allow the caller, and UNAVAILABLE if the rule needs fresh revocations and they are
/// stale.
pub(crate) fn authorize(rule: &AccessRule, caller: &Caller, is_owner: bool) -> Result<()> {
    let is_allowed = match &rule.policy {
        AccessPolicy::Anyone | AccessPolicy::Authenticated => true,
        AccessPolicy::PermissionHolder(permission) => caller.may(permission),
        AccessPolicy::OwnerOrPermissionHolder(permission) => is_owner || caller.may(permission),
        AccessPolicy::Owner => is_owner,
    };
    if !is_allowed {
        return Err(Error::PermissionMissing(rule.policy.permission().cloned()));
    }
    if !rule.actors.is_empty() && !rule.actors.contains(&caller.actor()) {
        let message = match caller.actor() {
            Actor::User => "users cannot call this method, whatever their permissions; only services can",
            Actor::Service => "services cannot call this method, whatever their permissions; only users can",
        };
        return Err(Error::denied(Reason::ActorNotAllowed, message));
    }
    if rule.revocation == RevocationMode::Strict && !caller.revocations_are_fresh() {
        return Err(Error::RevocationsStale);
    }
    Ok(())
}

/// Validates a request to a handler that anyone may call. `check` adds the violations that no rule of the proto expresses.
pub fn admit_anyone<T: Validate>(mut request: Request<T>, check: impl FnOnce(&T, &mut Violations)) -> Result<(ClientInfo, T)> {
    let client = request.extensions_mut().remove::<ClientInfo>().unwrap_or_default();
    let message = request.into_inner();
    validate::check_with(&message, check)?;
    Ok((client, message))
}

/// Runs a handler that writes. It runs to its end even if the client disconnects or the deadline passes, so that no connection returns
/// to its pool inside a transaction.
///
/// A handler has one transaction. If the database aborts it (a deadlock, a serialization failure), it has had no effect, and the
/// handler is run again, at most five times.
///
/// # Errors
///
/// Returns the handler's error, or INTERNAL if it panics.
pub async fn run_to_completion<T, F>(
    method: &'static MethodRule,
    work: impl Fn() -> F + Send + 'static,
) -> Result<Response<T>, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    complete(method, with_retries(work)).await
}

/// As [`run_to_completion`], for a method whose calls are recorded in the audit log. The handler records a call that succeeds, in its
/// transaction. A refused call is recorded here, with `recorder`.
///
/// # Errors
///
/// Returns the handler's error, or INTERNAL if it panics.
pub async fn run_audited<T, F>(
    method: &'static MethodRule,
    call: AuditedCall,
    recorder: impl FnOnce() -> Arc<dyn AuditRecorder> + Send + 'static,
    work: impl Fn() -> F + Send + 'static,
) -> Result<Response<T>, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let attempts = async move {
        let outcome = call.scope(with_retries(work)).await;
        match &outcome {
            Ok(_) => check_recorded(&call),
            Err(error) if is_refusal(error) && !call.is_recorded() => recorder().record_refusal(&call, error).await,
            Err(_) => {}
        }
        outcome
    };
    complete(method, attempts).await
}

/// Records that the access rule of an audited method refused a call, and returns the status. The entry is written even if the client
/// disconnects. A request that is not valid is not recorded.
pub async fn refuse(call: AuditedCall, recorder: impl FnOnce() -> Arc<dyn AuditRecorder>, error: Error) -> Status {
    if error.code() != Code::PermissionDenied {
        return error.into();
    }
    let recorder = recorder();
    let work = async move {
        recorder.record_refusal(&call, &error).await;
        error
    };
    match CurrentCall::spawn(work).await {
        Ok(error) => error.into(),
        Err(stopped) => Error::internal(stopped).into(),
    }
}

/// Runs a handler, and runs it again when the database aborts its transaction.
async fn with_retries<T, F: Future<Output = Result<T>>>(work: impl Fn() -> F) -> Result<T> {
    let backoff = ExponentialBuilder::new().with_min_delay(RETRY_DELAY).with_max_times(RETRIES).with_jitter();
    let log = |error: &Error, delay| tracing::debug!(cause = error_chain(error), ?delay, "retrying the transaction");
    // The future of a handler has thousands of bytes. On the heap, the layers around it do not copy them.
    (move || Box::pin(work())).retry(backoff).when(Error::is_retryable).notify(log).await
}

/// Runs work in a task of its own, so that it is not dropped with the call.
async fn complete<T: Send + 'static>(
    method: &'static MethodRule,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<Response<T>, Status> {
    // The handler can look whether this future, and with it the client, is still there: see `ClientPresence`.
    let client = WaitingClient::default();
    let outcome = CurrentCall::spawn(client.scope(work)).await;
    drop(client);
    match outcome {
        Ok(answer) => Ok(Response::new(answer.inspect_err(|error| check_reason(method, error))?)),
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => Err(panicked(panic.as_ref()).into()),
            Err(cancelled) => Err(Error::Unavailable(cancelled.into()).into()),
        },
    }
}

/// Runs a handler that only reads. It is dropped when the client disconnects or the deadline passes.
///
/// # Errors
///
/// Returns the handler's error, or INTERNAL if it panics.
pub async fn run_cancellable<T, F: Future<Output = Result<T>> + Send>(
    method: &'static MethodRule,
    work: impl FnOnce() -> F,
) -> Result<Response<T>, Status> {
    let mut work = pin!(work());
    let answer = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(panicked(panic.as_ref()))),
    });
    Ok(Response::new(answer.await.inspect_err(|error| check_reason(method, error))?))
}

/// Keeps a small response from being compressed, which would cost more than it saves. A large one is compressed if the client accepts it.
pub fn compressed_if_large<T: prost::Message>(response: Response<T>) -> Response<T> {
    if response.get_ref().encoded_len() < usize::from(COMPRESSION_MINIMUM) { uncompressed(response) } else { response }
}

/// Keeps the messages of a response from being compressed.
pub fn uncompressed<T>(mut response: Response<T>) -> Response<T> {
    response.disable_compression();
    response
}

/// Returns true if an error of a handler refuses the call, and does not only say that the service cannot serve it now.
fn is_refusal(error: &Error) -> bool {
    match error.code() {
        Code::Unavailable | Code::Internal => false,
        Code::ResourceExhausted => error.reason().name() != ErrorReason::from(Reason::Overloaded).name(),
        _ => true,
    }
}

/// Reports an audited call that was successful without an entry in the audit log, which is a fault of the handler.
fn check_recorded(call: &AuditedCall) {
    if !call.is_recorded() {
        tracing::error!(method = %call.method(), "the call succeeded without an entry in the audit log");
        debug_assert!(false, "{} succeeded without an entry in the audit log", call.method());
    }
}

/// Panics in a debug build if the method does not declare the reason of the error, because the API document would not list it.
fn check_reason(method: &MethodRule, error: &Error) {
    let reason = error.reason();
    debug_assert!(
        !reason.needs_declaration() || method.reasons.iter().any(|name| name == reason.name()),
        "{} does not declare the reason {} in its access rule",
        method.path,
        reason.name()
    );
}

/// Maps the errors of a stream to statuses.
pub fn statuses<T: 'static>(stream: Streaming<T>) -> StatusStream<T> {
    Box::pin(stream.map(|item| item.map_err(Status::from)))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::internal(format!("a handler panicked: {}", message.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::CallTarget;
    use testing::ErrorLines;

    static METHOD: MethodRule = MethodRule {
        path: std::borrow::Cow::Borrowed("/test.v1.Test/Call"),
        rule: AccessRule {
            policy: AccessPolicy::Anyone,
            actors: std::borrow::Cow::Borrowed(&[]),
            revocation: RevocationMode::Local,
        },
        reasons: std::borrow::Cow::Borrowed(&[std::borrow::Cow::Borrowed("TOO_LOW")]),
    };

    #[tokio::test]
    async fn a_handler_returns_only_reasons_that_its_method_declares() {
        let failing = |reason| {
            move || async move {
                let reason = ErrorReason::new("test-service", reason);
                Err::<(), _>(Error::precondition(reason, crate::error::Violation::new("height", "height", "is not allowed")))
            }
        };
        let declared = failing("TOO_LOW");
        assert_eq!(run_to_completion(&METHOD, declared).await.expect_err("a status").code(), Code::FailedPrecondition);
        assert_eq!(run_cancellable(&METHOD, declared).await.expect_err("a status").code(), Code::FailedPrecondition);
        let stopped = tokio::spawn(run_to_completion(&METHOD, failing("TOO_HIGH"))).await.expect_err("a panic");
        assert!(stopped.is_panic());
    }

    #[tokio::test]
    async fn a_panic_of_a_handler_returns_internal_and_is_logged() {
        let log = ErrorLines::watch();
        let status = run_cancellable(&METHOD, || async { panic!("in a reader") as Result<()> }).await.expect_err("a status");
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        let status = run_to_completion(&METHOD, || async { panic!("in a writer") as Result<()> }).await.expect_err("a status");
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        let lines = log.take();
        assert!(lines[0].contains("in a reader") && lines[1].contains("in a writer"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_handler_that_writes_runs_to_its_end_after_the_client_disconnects() {
        let (start, started) = tokio::sync::oneshot::channel::<()>();
        let (finish, finished) = tokio::sync::oneshot::channel();
        let channels = Arc::new(std::sync::Mutex::new(Some((started, finish))));
        let call = tokio::spawn(run_to_completion(&METHOD, move || {
            let (started, finish) = channels.lock().expect("a lock").take().expect("one run");
            async move {
                started.await.expect("a beginning");
                finish.send("the end").expect("a listener");
                Ok(())
            }
        }));
        tokio::task::yield_now().await;
        call.abort();
        assert!(call.await.expect_err("an aborted call").is_cancelled());
        start.send(()).expect("a handler that goes on");
        assert_eq!(finished.await.expect("an end"), "the end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_transaction_is_retried_five_times() {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let outcome = run_to_completion(&METHOD, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(Error::Conflict("deadlock detected".into())) }
        });
        assert_eq!(outcome.await.expect_err("a status").code(), Code::Unavailable);
        assert_eq!(runs.load(Ordering::Relaxed), RETRIES + 1);
    }

    /// Counts the refused calls.
    #[derive(Clone, Default)]
    struct Refusals(Arc<AtomicUsize>);

    impl AuditRecorder for Refusals {
        fn record_refusal<'a>(&'a self, call: &'a AuditedCall, _: &'a Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
            assert_eq!(call.target().map(|target| target.id), Some("42".to_owned()));
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn refused_calls_of_an_audited_method_are_recorded() {
        let refusals = Refusals::default();
        let call = || AuditedCall::new(&METHOD, &Request::new(())).with_target("user", Some("42"));
        for (error, expected) in [
            (|| Error::not_found("user_id"), 1),
            (|| Error::PermissionMissing(None), 2),
            (|| Error::overloaded(Duration::from_secs(1)), 2),
            (|| Error::Unavailable("down".into()), 2),
        ] as [(fn() -> Error, usize); 4]
        {
            let recorder = refusals.clone();
            let outcome = run_audited(&METHOD, call(), || Arc::new(recorder), move || async move { Err::<(), _>(error()) }).await;
            assert!(outcome.is_err());
            assert_eq!(refusals.0.load(Ordering::Relaxed), expected);
        }
        let recorder = refusals.clone();
        refuse(call(), || Arc::new(recorder), Error::PermissionMissing(None)).await;
        let recorder = refusals.clone();
        refuse(call(), || Arc::new(recorder), Error::invalid("field", "rule", "is not valid")).await;
        assert_eq!(refusals.0.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn an_audited_call_that_succeeds_without_an_entry_is_a_fault() {
        let log = ErrorLines::watch();
        let call = AuditedCall::new(&METHOD, &Request::new(()));
        let recorded = || async {
            AuditedCall::get().expect("a call").mark_recorded();
            Ok(())
        };
        run_audited(&METHOD, call.clone(), || Arc::new(Refusals::default()), recorded).await.expect("an answer");
        assert!(call.is_recorded());
        let call = AuditedCall::new(&METHOD, &Request::new(()));
        let status =
            run_audited(&METHOD, call, || Arc::new(Refusals::default()), || async { Ok(()) }).await.expect_err("a panic");
        assert_eq!(status.code(), Code::Internal);
        let lines = log.take();
        assert!(lines[0].contains("without an entry in the audit log"), "{lines:?}");
    }

    #[test]
    fn only_an_id_is_a_target() {
        let target = |id: &str| AuditedCall::new(&METHOD, &Request::new(())).with_target("user", Some(id)).target();
        let id = "0190a6c4-5f5e-7cc1-9d3f-1a2b3c4d5e6f";
        assert_eq!(target(id), Some(CallTarget { kind: "user", id: id.to_owned() }));
        for text in ["", "not an id", "é", &"1".repeat(65)] {
            assert_eq!(target(text), None);
        }
    }
}
