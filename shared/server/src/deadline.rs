//! Gives every call, in every protocol, a deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use access::{
    Error,
    error::{Reason, status},
};
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::error_format::ErrorFormat;

/// The longest time until the response to a call begins. The deadline of the client can be shorter.
const LONGEST_CALL: Duration = Duration::from_mins(1);

/// The layer of [`WithDeadline`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline(inner)
    }
}

/// Ends the calls of a service at their deadlines.
#[derive(Debug, Clone)]
pub(crate) struct WithDeadline<S>(S);

impl<S> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let format = ErrorFormat::negotiate(request.headers());
        let deadline = deadline(request.headers_mut());
        let answer = deadline.map(|deadline| tokio::time::timeout(deadline, self.0.call(request)));
        Box::pin(async move {
            match answer {
                Some(answer) => match answer.await {
                    Ok(answer) => answer,
                    Err(_) => Ok(format.response(deadline_exceeded())),
                },
                None => Ok(format.response(malformed_timeout())),
            }
        })
    }
}

/// Returns the status of a call that missed its deadline.
fn deadline_exceeded() -> Status {
    status(Code::DeadlineExceeded, Reason::DeadlineExceeded, "the call took longer than it is allowed to")
}

/// Returns the status of a call whose deadline cannot be read.
fn malformed_timeout() -> Status {
    Error::invalid("grpc-timeout", "timeout", "must be 1 to 8 digits and a unit of H, M, S, m, u or n, for example 250m").into()
}

/// Returns the deadline of a call, and removes the client's deadline from the headers: tonic would otherwise enforce it with the status
/// CANCELLED. Returns `None` if the client's deadline is malformed.
fn deadline(headers: &mut HeaderMap) -> Option<Duration> {
    match headers.remove("grpc-timeout") {
        Some(given) => Some(parse_timeout(given.to_str().ok()?)?.min(LONGEST_CALL)),
        None => Some(LONGEST_CALL),
    }
}

/// Parses `grpc-timeout`: up to eight digits and a unit (the specification of gRPC over HTTP/2).
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_hours(amount)),
        "M" => Some(Duration::from_mins(amount)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_the_syntax_of_the_specification() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("1", None),
            ("123456789S", None),
            ("-1S", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
