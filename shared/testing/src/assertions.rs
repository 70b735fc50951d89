//! Creates requests with a token, and asserts the code, the reason and the violations of an error.

use std::fmt;

use access::error::Reason;

use tonic::{Code, Request, Status, metadata::AsciiMetadataValue};
use tonic_types::StatusExt;

/// Returns a request with a bearer token.
///
/// # Panics
///
/// Panics if the token contains a character that a header cannot have.
pub fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: AsciiMetadataValue = format!("Bearer {token}").parse().expect("a token that can stand in a header");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Returns the reason of an error, and its violations: the fields with the rules that they violate.
///
/// # Panics
///
/// Panics if the status has no `ErrorInfo`, or if its domain is not the published one.
pub fn details(status: &Status) -> (String, Vec<(String, String)>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a status carries ErrorInfo");
    assert_domain(&info.reason, &info.domain);
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    (info.reason.clone(), violations.into_iter().map(|violation| (violation.field, violation.reason)).collect())
}

/// Asserts that a call failed with this code, this reason, and these fields with the rules that they violate.
///
/// # Panics
///
/// Panics if the call succeeded, or failed in another way.
#[track_caller]
pub fn assert_refused<T: fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str, violations: &[(&str, &str)]) {
    let status = outcome.expect_err("a refusal");
    let (found, fields) = details(&status);
    let fields: Vec<_> = fields.iter().map(|(field, rule)| (field.as_str(), rule.as_str())).collect();
    assert_eq!((status.code(), found.as_str(), fields.as_slice()), (code, reason, violations), "{}", status.message());
}

/// Asserts that `access.v1` is the domain of its own reasons, and that every other reason has the name of a service.
#[track_caller]
fn assert_domain(reason: &str, domain: &str) {
    if Reason::from_str_name(&format!("REASON_{reason}")).is_some() {
        assert_eq!(domain, access::error::DOMAIN, "{reason}");
    } else {
        assert!(domain.ends_with("-service"), "{reason} has the domain {domain}");
    }
}
