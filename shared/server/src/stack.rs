//! The layer stack: every request passes it from the top of the paragraph to the bottom, and every response from the bottom to the top.

use std::{any::Any, convert::Infallible, sync::Arc};

use access::{
    ClientInfo, GuardedRoutes,
    error::{Reason, status},
    limits::{COMPRESSION_MINIMUM, MESSAGE_LIMIT},
    trace::Tracer,
};
use axum::{extract, middleware};
use gateway::{Format, Gateway, HttpError, InProcess};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::Limited;
use ipnet::IpNet;
use tonic::{Code, Status, body::Body};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceBuilder, service_fn, util::BoxCloneSyncService};
use tower_http::{
    CompressionLevel,
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, Predicate, predicate::SizeAbove},
    decompression::RequestDecompressionLayer,
    map_request_body::MapRequestBodyLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    set_header::SetResponseHeaderLayer,
};
use uuid::Uuid;

use crate::{
    accept::ConnectInfo, access_log::AccessLogLayer, admission::AdmissionLayer, call_status, cors_origin::CorsOrigin,
    cross_origin::CrossOriginLayer, deadline::DeadlineLayer, drain::drain_when_dropped, metrics::CallMetricsLayer,
    multiplexer::ProtocolMultiplexer,
};

/// The header with the id of a call. The response repeats the id of the request, or has a new one.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The length of the longest id that is accepted from a request.
const REQUEST_ID_LIMIT: usize = 64;
/// The largest body of a request on the wire, in bytes. It is the limit of a message plus the largest overhead of gzip, so that a
/// body without compression always reaches the limit of the gateway first.
const WIRE_LIMIT: usize = MESSAGE_LIMIT + MESSAGE_LIMIT / 64;
/// A service behind the stack, or a part of it.
pub(crate) type HttpService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The settings of the stack.
#[derive(Debug)]
pub(crate) struct StackSettings<'a> {
    pub(crate) admission: AdmissionLayer,
    pub(crate) call_metrics: CallMetricsLayer,
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) cors_origins: &'a [CorsOrigin],
}

/// Builds the stack around the guarded services and the gateway.
pub(crate) fn build(
    services: &GuardedRoutes,
    gateway: Gateway,
    settings: StackSettings<'_>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + use<> {
    let StackSettings { admission, call_metrics, tracer, trusted_proxies, cors_origins } = settings;
    // The layers for gRPC. The settings of tonic determine compression and limits.
    let grpc = ServiceBuilder::new()
        // Follow the body to its trailers, which contain the status of a stream, for the log and the metrics.
        .map_response(call_status::follow)
        // Answer INTERNAL if a layer panics. The guard already catches the panics of handlers.
        .layer(CatchPanicLayer::custom(grpc_panic as fn(Panic) -> _))
        .service(services.clone());

    // The layers for HTTP with JSON or XML.
    let http = ServiceBuilder::new()
        .map_response(|response: Response<axum::body::Body>| response.map(Body::new))
        // Read the rest of a body that nobody reads, so that the client gets the response.
        .map_request(drain_when_dropped)
        .map_request(|request: Request<Body>| request.map(axum::body::Body::new))
        // Keep browsers from guessing another content type.
        .layer(SetResponseHeaderLayer::if_not_present(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        // Remove the body of a response to HEAD, when its length and its encoding are known.
        .layer(middleware::from_fn(answer_head))
        // Correct the names of encodings where the layers below are stricter than RFC 9110.
        .map_request(normalize_encodings)
        // Compress whole responses. A stream is not compressed, because compression would delay its messages.
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(SizeAbove::new(COMPRESSION_MINIMUM.into()).and(HasKnownLength)),
        )
        // Limit the bytes on the wire, because a compressed body can be long and decompress to nothing.
        .layer(MapRequestBodyLayer::new(|body| Limited::new(body, WIRE_LIMIT)))
        // Decompress the body while it is read, after authentication. The gateway limits the result and answers 413 in the client's
        // format, and 415 if the encoding is unknown.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(MapRequestBodyLayer::new(Body::new))
        // Answer 500 if the gateway or a route of the service panics.
        .layer(CatchPanicLayer::custom(http_panic as fn(Panic) -> _))
        .service(in_process(services.clone(), gateway));

    // The layers for every protocol.
    ServiceBuilder::new()
        // Ignore a request id that is not short and plain, because the next layer accepts any.
        .map_request(check_request_id)
        // Give every request an id, and repeat it in the response. It is outermost, so that every rejected call gets one.
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // Add the headers that let web pages of other origins call, also to the errors of the layers below.
        .layer(CrossOriginLayer::new(cors_origins))
        // Count every call, also those that miss their deadline.
        .layer(call_metrics)
        // Determine the client's address, which the log names and by which calls are counted.
        .map_request(move |mut request: Request<Body>| {
            // The layer that limits calls takes it out.
            let info = request.extensions().get::<ConnectInfo>().cloned();
            let certificate_names = info.map(|info| {
                request.extensions_mut().insert(info.tcp);
                info.certificate_names
            });
            let client_info = ClientInfo::from_request(&request, &trusted_proxies);
            request.extensions_mut().insert(client_info.with_certificate_names(certificate_names.unwrap_or_default()));
            request
        })
        // Write one line to the log about every call, and record its span.
        .layer(AccessLogLayer::new(tracer))
        // End every call at its deadline.
        .layer(DeadlineLayer)
        // Refuse calls beyond the limits of headers, concurrent calls and unread responses, and count the response until the client has read it.
        .layer(admission)
        // Send the request on by its protocol.
        .service(ProtocolMultiplexer::new(
            grpc.clone(),
            BoxCloneSyncService::new(GrpcWebLayer::new().layer(grpc)),
            BoxCloneSyncService::new(http),
        ))
}

/// Returns the gateway as a service that calls the guarded services in process.
fn in_process(
    services: GuardedRoutes,
    gateway: Gateway,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync {
    let gateway = Arc::new(gateway);
    service_fn(move |request: Request<Body>| {
        let client_info = request.extensions().get::<ClientInfo>().cloned().unwrap_or_default();
        let services = InProcess::new(services.clone(), client_info);
        let gateway = Arc::clone(&gateway);
        async move { Ok(gateway.answer(request, services).await) }
    })
}

/// Creates request ids. They sort by time.
#[derive(Debug, Clone, Copy)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    #[expect(clippy::disallowed_methods, reason = "a request id is only logged")]
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let mut id = HeaderValue::from_maybe_shared(Uuid::now_v7().to_string()).ok()?;
        // HPACK does not add a sensitive value to its table (RFC 7541 section 6.2.3). A value that no other response has would only replace
        // other values there.
        id.set_sensitive(true);
        Some(RequestId::new(id))
    }
}

/// Removes a request id that is too long, or that could be mistaken for another part of a log line.
fn check_request_id(mut request: Request<Body>) -> Request<Body> {
    let is_plain = |id: &HeaderValue| {
        (1..=REQUEST_ID_LIMIT).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    if !request.headers().get(REQUEST_ID).is_none_or(is_plain) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Replaces encodings that tower-http treats differently: it accepts only `gzip` in lower case, not `x-gzip`, and it responds with
/// 406, after the call was made, if a client refuses every encoding.
fn normalize_encodings<B>(mut request: Request<B>) -> Request<B> {
    let headers = request.headers_mut();
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
        match encoding.as_bytes().to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => drop(headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))),
            b"identity" => drop(headers.remove(header::CONTENT_ENCODING)),
            _ => {}
        }
    }
    let accepted: Vec<_> = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok()).collect();
    if !accepted.is_empty() {
        // The first occurrence of `identity` is the one that counts.
        let accepted = format!("identity;q=0.001, {}", accepted.join(", "));
        if let Ok(accepted) = HeaderValue::try_from(accepted) {
            headers.insert(header::ACCEPT_ENCODING, accepted);
        }
    }
    request
}

/// Selects the responses whose length is known before they are sent. A stream is not one of them.
#[derive(Debug, Clone, Copy)]
struct HasKnownLength;

impl Predicate for HasKnownLength {
    fn should_compress<B: http_body::Body>(&self, response: &Response<B>) -> bool {
        response.body().size_hint().exact().is_some()
    }
}

/// Answers HEAD as GET is answered, without the body.
async fn answer_head(mut request: extract::Request, next: middleware::Next) -> axum::response::Response {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        *request.method_mut() = Method::GET;
    }
    let mut response = next.run(request).await;
    if is_head {
        let length = response.body().size_hint().exact();
        *response.body_mut() = axum::body::Body::empty();
        if let Some(length) = length.filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
    }
    response
}

/// The value of a panic.
type Panic = Box<dyn Any + Send>;

#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http calls")]
fn grpc_panic(panic: Panic) -> Response<Body> {
    panic_status(panic.as_ref()).into_http()
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that tower-http calls")]
fn http_panic(panic: Panic) -> Response<Body> {
    HttpError::from(panic_status(panic.as_ref())).response(Format::Json)
}

/// Logs a panic, and returns the status that hides it.
fn panic_status(panic: &(dyn Any + Send)) -> Status {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or_default(), "the call panicked");
    status(Code::Internal, Reason::Internal, "internal error")
}

#[cfg(test)]
mod tests;
