//! Gives every call, in every protocol, a deadline, and writes one log line about it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use access::{
    Error,
    error::{Reason, status},
};
use http::{HeaderMap, Request, Response};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, field::Empty};

use crate::{error_format::ErrorFormat, protocol::Protocol, stack::REQUEST_ID};

/// The longest time until the response to a call begins. The deadline of the client can be shorter.
const LONGEST_CALL: Duration = Duration::from_mins(1);

/// The layer of [`RequestLog`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLogLayer;

impl<S> Layer<S> for RequestLogLayer {
    type Service = RequestLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestLog(inner)
    }
}

/// Adds the deadline and the log line to the calls of a service.
#[derive(Debug, Clone)]
pub(crate) struct RequestLog<S>(S);

impl<S> Service<Request<Body>> for RequestLog<S>
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

    #[expect(clippy::disallowed_methods, reason = "the duration of a call is only logged")]
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let began = Instant::now();
        let protocol = Protocol::from_headers(request.headers());
        let format = ErrorFormat::negotiate(request.headers());
        let deadline = deadline(request.headers_mut());
        // The span has the highest level, so that log lines of every level carry the request id.
        let request_id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let span = tracing::error_span!("call", method = request.uri().path(), request_id, caller = Empty);
        let answer = deadline.map(|deadline| {
            let _inside = span.enter();
            tokio::time::timeout(deadline, self.0.call(request))
        });
        let call = async move {
            let response = match answer {
                Some(answer) => match answer.await {
                    Ok(answer) => answer?,
                    Err(_) => format.response(deadline_exceeded()),
                },
                None => format.response(malformed_timeout()),
            };
            let ms = began.elapsed().as_secs_f64() * 1e3;
            if protocol == Protocol::Http {
                tracing::info!(status = response.status().as_u16(), ms, "answered");
            } else {
                let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
                tracing::info!(?code, ms, "answered");
            }
            Ok(response)
        };
        Box::pin(call.instrument(span))
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
    use std::{convert::Infallible, io, sync::Arc};

    use parking_lot::Mutex;
    use tower::{ServiceExt, service_fn};
    use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_of_any_level_carries_the_request_id() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("error")).with_ansi(false);
        let _guard = subscriber.with_writer(move || writer.clone()).finish().set_default();
        let service = RequestLogLayer.layer(service_fn(async |_: Request<Body>| {
            tracing::error!("something failed");
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        let request = Request::builder().header(REQUEST_ID, "order-17").body(Body::empty()).expect("a request");
        service.oneshot(request).await.expect("an answer");
        let lines = String::from_utf8(log.0.lock().clone()).expect("text");
        assert!(lines.contains("order-17") && lines.contains("something failed"), "{lines}");
    }

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
