//! The errors of a call, and the one place that turns them into a gRPC status.
//!
//! Every status carries `google.rpc.ErrorInfo`. Its reason is one of `access.v1.Reason`, with the domain `access.v1`, or one that the
//! service publishes in an enum of its own, with the service's name as the domain. An invalid field also gets a violation in
//! `google.rpc.BadRequest`, a call that may succeed later gets `google.rpc.RetryInfo`, and one that exceeds a quota gets
//! `google.rpc.QuotaFailure`.

use std::{borrow::Cow, collections::HashMap, error::Error as StdError, fmt::Display, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt};

use crate::{FieldPath, RuleId};

pub use crate::proto::access::v1::Reason;

/// The domain of the reasons in `access.v1.Reason`. They mean the same in every service.
pub const DOMAIN: &str = "access.v1";

/// The names of the gRPC codes, in the order of their numbers.
pub const CODE_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The most violations in one response.
const VIOLATION_LIMIT: usize = 10;
/// The most bytes for all violations, for the path of one field, and for the message. With these limits the message and the details
/// stay below 4 KiB together.
const VIOLATION_BYTES: usize = 2048;
const FIELD_BYTES: usize = 256;
const MESSAGE_BYTES: usize = 512;

/// The delay after which a call that a limit of the server has refused should be repeated.
const LIMIT_RETRY: Duration = Duration::from_secs(1);
/// The delay after which a call that was UNAVAILABLE should be repeated.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

/// A published reason: the `reason` and the `domain` of `google.rpc.ErrorInfo` (AIP-193).
///
/// `access-build` generates the conversion for an enum `Reason` in a service's own package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReason {
    domain: &'static str,
    name: &'static str,
}

impl ErrorReason {
    /// Creates a reason such as `KEY_TOO_YOUNG`. `domain` is the name of the service that publishes it.
    pub const fn new(domain: &'static str, name: &'static str) -> Self {
        Self { domain, name }
    }

    /// Returns the publisher of the reason: the name of a service, or `access.v1`.
    pub fn domain(self) -> &'static str {
        self.domain
    }

    /// Returns the name, without the prefix that it has in its enum.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns true if an access rule has to declare the reason, because it does not follow from the rule or the request.
    pub fn needs_declaration(self) -> bool {
        self.domain != DOMAIN
    }
}

impl From<Reason> for ErrorReason {
    fn from(reason: Reason) -> Self {
        Self::new(DOMAIN, reason.as_str_name().trim_start_matches("REASON_"))
    }
}

/// The result of a handler and of the functions that it calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a call fails. `Status::from` turns it into the response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// UNAUTHENTICATED. The reason says which credential is not valid. Only the log says why.
    #[error("{1}")]
    Unauthenticated(ErrorReason, &'static str),
    /// PERMISSION_DENIED: the caller lacks this permission. None if no permission would allow the call.
    #[error("this caller may not do that")]
    PermissionMissing(Option<Cow<'static, str>>),
    /// PERMISSION_DENIED for everybody.
    #[error("{1}")]
    Denied(ErrorReason, &'static str),
    /// NOT_FOUND: the named field leads to nothing that this caller can see.
    #[error("{}", .0.description)]
    NotFound(Violation),
    /// ALREADY_EXISTS.
    #[error("{}", .1.description)]
    AlreadyExists(ErrorReason, Violation),
    /// INVALID_ARGUMENT.
    #[error("{}", invalid_message(.1))]
    Invalid(Reason, Vec<Violation>),
    /// ABORTED: the etag of the request is not the current one of the resource (AIP-154).
    #[error("{}", .0.description)]
    Stale(Violation),
    /// FAILED_PRECONDITION: the resource that the field names is not in the state that the call needs.
    #[error("{}", .1.description)]
    Precondition(ErrorReason, Violation),
    /// OUT_OF_RANGE: the data that the field asks for is not kept any more.
    #[error("{}", .1.description)]
    OutOfRange(ErrorReason, Violation),
    /// RESOURCE_EXHAUSTED.
    #[error("{message}")]
    Exhausted {
        /// The published reason.
        reason: ErrorReason,
        /// A sentence for people.
        message: String,
        /// The time after which the caller should try again.
        retry_after: Duration,
    },
    /// RESOURCE_EXHAUSTED: the call would exceed a quota. Unlike [`Exhausted`](Self::Exhausted), a retry alone does not help.
    #[error("{description}")]
    QuotaExceeded {
        /// The published reason.
        reason: ErrorReason,
        /// The name of the quota, for example `note_bytes_per_user`.
        quota: &'static str,
        /// A sentence for people that contains the limit.
        description: String,
    },
    /// UNAVAILABLE: a dependency, such as the database, cannot be reached. Only the log names it.
    #[error("the service is temporarily unavailable; try again")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// UNAVAILABLE: the revocations are stale, and the method accepts only tokens that are known not to be revoked.
    #[error("the service cannot check now whether the access token was revoked; try again")]
    RevocationsStale,
    /// UNAVAILABLE: the database ended the transaction because it conflicted with another one. It had no effect, so the guard
    /// runs a handler that writes again, at most five times.
    #[error("the service is temporarily unavailable; try again")]
    Conflict(#[source] Box<dyn StdError + Send + Sync>),
    /// INTERNAL: a fault of the service. The log contains the cause. The caller receives a constant message.
    #[error("internal error")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

/// A refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path from the request, as in `note.title` or `user_ids[3]`.
    pub field: FieldPath,
    /// The rule that it breaks: `string.max_len` of `buf.validate`, or one of the service's own such as `date.past`.
    pub rule: RuleId,
    /// The rule as a sentence for people. It never carries the value.
    pub description: Cow<'static, str>,
}

impl Violation {
    /// Creates a violation of `rule` by `field`. `description` must not contain the value.
    pub fn new(field: impl Into<FieldPath>, rule: impl Into<RuleId>, description: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), rule: rule.into(), description: description.into() }
    }
}

impl Error {
    /// Returns INVALID_ARGUMENT for one field.
    pub fn invalid(field: impl Into<FieldPath>, rule: impl Into<RuleId>, description: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(Reason::FieldInvalid, vec![Violation::new(field, rule, description)])
    }

    /// Returns NOT_FOUND for the resource that the field names.
    pub fn not_found(field: impl Into<FieldPath>) -> Self {
        let field: FieldPath = field.into();
        let description = format!("{field} names nothing that exists here and that this caller can see");
        Self::NotFound(Violation::new(field, "exists", description))
    }

    /// Returns UNAUTHENTICATED: the credential that `reason` names is not valid.
    pub fn unauthenticated(reason: impl Into<ErrorReason>, message: &'static str) -> Self {
        Self::Unauthenticated(reason.into(), message)
    }

    /// Returns UNAUTHENTICATED: the call has no access token, or one that is not valid.
    pub fn access_token_invalid() -> Self {
        Self::unauthenticated(Reason::AccessTokenInvalid, "a valid access token is required")
    }

    /// Returns PERMISSION_DENIED for every caller, for example because the operator disabled something.
    pub fn denied(reason: impl Into<ErrorReason>, message: &'static str) -> Self {
        Self::Denied(reason.into(), message)
    }

    /// Returns ALREADY_EXISTS: the resource that the call would create conflicts with one that exists.
    pub fn already_exists(reason: impl Into<ErrorReason>, violation: Violation) -> Self {
        Self::AlreadyExists(reason.into(), violation)
    }

    /// Returns FAILED_PRECONDITION: the resource that the field names is not in the state that the call needs.
    pub fn precondition(reason: impl Into<ErrorReason>, violation: Violation) -> Self {
        Self::Precondition(reason.into(), violation)
    }

    /// Returns OUT_OF_RANGE: the data that the field asks for is not kept any more.
    pub fn out_of_range(reason: impl Into<ErrorReason>, violation: Violation) -> Self {
        Self::OutOfRange(reason.into(), violation)
    }

    /// Returns RESOURCE_EXHAUSTED: too much work of the same kind is waiting. `retry_after` is sent as `RetryInfo`.
    pub fn overloaded(retry_after: Duration) -> Self {
        let message = format!("too much work of this kind is waiting; try again in {} ms", retry_after.as_millis());
        Self::Exhausted { reason: Reason::Overloaded.into(), message, retry_after }
    }

    /// Returns RESOURCE_EXHAUSTED: a limit of the server is reached, and `limit` says which. Its `RetryInfo` says one second.
    pub fn limit_reached(limit: impl Display) -> Self {
        let message = format!("{limit}; try again in {} s", LIMIT_RETRY.as_secs());
        Self::Exhausted { reason: Reason::Overloaded.into(), message, retry_after: LIMIT_RETRY }
    }

    /// Returns INTERNAL, for a fault that has no type of its own.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    /// Returns true if nothing of the call happened and the same call may succeed at once.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Returns the gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::Unauthenticated(..) => Code::Unauthenticated,
            Self::PermissionMissing(_) | Self::Denied(..) => Code::PermissionDenied,
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(..) => Code::AlreadyExists,
            Self::Invalid(..) => Code::InvalidArgument,
            Self::Stale(_) => Code::Aborted,
            Self::Precondition(..) => Code::FailedPrecondition,
            Self::OutOfRange(..) => Code::OutOfRange,
            Self::Exhausted { .. } | Self::QuotaExceeded { .. } => Code::ResourceExhausted,
            Self::Unavailable(_) | Self::Conflict(_) | Self::RevocationsStale => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// Returns the published reason.
    pub fn reason(&self) -> ErrorReason {
        match self {
            Self::Unauthenticated(reason, _)
            | Self::Denied(reason, _)
            | Self::AlreadyExists(reason, _)
            | Self::Precondition(reason, _)
            | Self::OutOfRange(reason, _)
            | Self::Exhausted { reason, .. }
            | Self::QuotaExceeded { reason, .. } => *reason,
            Self::Invalid(reason, _) => (*reason).into(),
            Self::PermissionMissing(_) => Reason::PermissionMissing.into(),
            Self::NotFound(_) => Reason::NotFound.into(),
            Self::Stale(_) => Reason::EtagStale.into(),
            Self::RevocationsStale => Reason::RevocationsStale.into(),
            Self::Unavailable(_) | Self::Conflict(_) => Reason::Unavailable.into(),
            Self::Internal(_) => Reason::Internal.into(),
        }
    }

    fn violations(&self) -> &[Violation] {
        match self {
            Self::NotFound(violation)
            | Self::AlreadyExists(_, violation)
            | Self::Precondition(_, violation)
            | Self::OutOfRange(_, violation)
            | Self::Stale(violation) => std::slice::from_ref(violation),
            Self::Invalid(_, violations) => violations,
            _ => &[],
        }
    }

    /// A fault is logged here and nowhere else.
    fn log(&self) {
        let Some(source) = self.source() else { return };
        let cause = error_chain(source);
        if self.code() == Code::Internal {
            tracing::error!(cause, "the call failed");
        } else {
            tracing::warn!(cause, "the call could not be served");
        }
    }
}

/// Returns an error and its causes in one line, for logs and command lines. Callers of the API receive less.
pub fn error_chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        // Many errors already end with their cause.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Summarizes the violations in one sentence. The details hold them one by one.
fn invalid_message(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is not valid".to_owned(),
        [only] => format!("{}: {}", only.field, only.description),
        [first, others @ ..] => format!("{}: {}; and {} more", first.field, first.description, others.len()),
    }
}

/// Returns the first violations, as many as a response has room for: clients refuse headers of more than 8 KiB.
fn field_violations(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let violations = violations.iter().take(VIOLATION_LIMIT).map(|violation| FieldViolation {
        field: truncate(violation.field.to_string(), FIELD_BYTES),
        description: violation.description.clone().into_owned(),
        reason: violation.rule.reason(),
        localized_message: None,
    });
    violations
        .take_while(|violation| {
            let is_first = bytes == 0;
            bytes += violation.field.len() + violation.description.len() + violation.reason.len();
            is_first || bytes <= VIOLATION_BYTES
        })
        .collect()
}

/// Cuts a text at a character, to at most `bytes` bytes.
fn truncate(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes - '…'.len_utf8()));
        text.push('…');
    }
    text
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.log();
        let mut details = ErrorDetails::new();
        let violations = field_violations(error.violations());
        if !violations.is_empty() {
            details.set_bad_request(violations);
        }
        match &error {
            Error::Exhausted { retry_after, .. } => {
                details.set_retry_info(Some(*retry_after));
            }
            Error::Unavailable(_) | Error::Conflict(_) | Error::RevocationsStale => {
                details.set_retry_info(Some(UNAVAILABLE_RETRY));
            }
            _ => {}
        }
        if let Error::QuotaExceeded { quota, description, .. } = &error {
            details.set_quota_failure(vec![QuotaViolation::new(*quota, description)]);
        }
        let metadata = match &error {
            Error::PermissionMissing(Some(permission)) => {
                HashMap::from([("permission".to_owned(), permission.clone().into_owned())])
            }
            _ => HashMap::new(),
        };
        details.set_error_info(error.reason().name, error.reason().domain, metadata);
        Status::with_error_details(error.code(), truncate(error.to_string(), MESSAGE_BYTES), details)
    }
}

/// Returns a status with `ErrorInfo`, for layers that reject a call before a handler sees it. A status that a retry may change also has
/// `RetryInfo` of one second.
pub fn status(code: Code, reason: Reason, message: &str) -> Status {
    let ErrorReason { domain, name } = reason.into();
    let mut details = ErrorDetails::with_error_info(name, domain, HashMap::new());
    // A message that is too large stays too large.
    if code == Code::Unavailable || (code == Code::ResourceExhausted && reason != Reason::MessageTooLarge) {
        details.set_retry_info(Some(UNAVAILABLE_RETRY));
    }
    Status::with_error_details(code, message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_a_retry_may_change_has_retry_info() {
        let delay = |status: &Status| status.get_details_retry_info().and_then(|info| info.retry_delay);
        let source = || Box::<dyn StdError + Send + Sync>::from("the cause");
        for error in [Error::Unavailable(source()), Error::Conflict(source()), Error::RevocationsStale] {
            assert_eq!(delay(&error.into()), Some(UNAVAILABLE_RETRY));
        }
        assert_eq!(delay(&Error::overloaded(Duration::from_millis(250)).into()), Some(Duration::from_millis(250)));
        assert_eq!(delay(&status(Code::Unavailable, Reason::Unavailable, "")), Some(UNAVAILABLE_RETRY));
        assert_eq!(delay(&status(Code::ResourceExhausted, Reason::Overloaded, "")), Some(UNAVAILABLE_RETRY));
        assert_eq!(delay(&status(Code::ResourceExhausted, Reason::MessageTooLarge, "")), None);
        assert_eq!(delay(&Error::not_found("user_id").into()), None);
    }

    #[test]
    fn an_error_with_many_long_violations_stays_small() {
        let violation = |index: usize| {
            let field = format!("user_ids[{index}].{}", "é".repeat(10_000));
            Violation::new(field, "string.uuid", "must be a UUID, for example 0190a6c4-5f5e-7cc1-9d3f-1a2b3c4d5e6f")
        };
        for count in [1, 10, 100_000] {
            let status = Status::from(Error::Invalid(Reason::FieldInvalid, (0..count).map(violation).collect()));
            assert!(status.message().len() + status.details().len() <= 4096, "{count}");
            let details = status.get_error_details();
            let violations = &details.bad_request().expect("violations").field_violations;
            assert!((1..=10).contains(&violations.len()), "{count}");
            assert_eq!(details.error_info().expect("a reason").reason, "FIELD_INVALID");
        }
    }

    #[test]
    fn the_message_names_the_first_violation_and_counts_the_others() {
        let violation = |index: usize| Violation::new(format!("user_ids[{index}]"), "string.uuid", "must be a UUID");
        let message = |count| Error::Invalid(Reason::FieldInvalid, (0..count).map(violation).collect()).to_string();
        assert_eq!(message(1), "user_ids[0]: must be a UUID");
        assert_eq!(message(12), "user_ids[0]: must be a UUID; and 11 more");
        let status = Status::from(Error::Invalid(Reason::FieldInvalid, (0..12).map(violation).collect()));
        assert_eq!(status.get_error_details().bad_request().expect("violations").field_violations.len(), 10);
    }
}
