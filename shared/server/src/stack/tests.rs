use std::{collections::HashSet, io::Write};

use access::{Clock, Routes, token::Verifier};
use axum::{
    Router,
    routing::{get, post},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use gateway::CachePolicy;
use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;
use tower::ServiceExt;

use super::*;
use crate::{concurrency::ConcurrencyLimit, connections::Connections, limits::ServerLimits, metrics::CallMetrics};

/// Sends a request to a stack with three routes.
async fn send(request: http::request::Builder, body: impl Into<Bytes>) -> (StatusCode, http::HeaderMap, Bytes) {
    let verifier = Arc::new(Verifier::new("https://auth.example.test", "test", Clock::system()));
    let routes = Router::new()
        .route("/large", get(async || "a".repeat(10_000)))
        .route("/small", get(async || "a".repeat(4000)))
        .route("/panic", get(async || -> &'static str { panic!("on purpose") }))
        .route("/echo", post(async |body: Bytes| body));
    let gateway = Gateway::new([], routes, CachePolicy::new());
    let origins = ["https://app.example.test".parse().expect("an origin")];
    let limits = ServerLimits::default();
    let admission = AdmissionLayer::new(
        Connections::new(limits, 1024, Arc::default()),
        ConcurrencyLimit::new(limits.max_concurrent_calls, limits.max_calls_per_caller, HashSet::new()),
        limits.max_header_bytes,
    );
    let call_metrics = CallMetricsLayer(Some(CallMetrics::register(&mut Registry::default(), std::iter::empty())));
    let settings =
        StackSettings { admission, call_metrics, tracer: None, trusted_proxies: Arc::default(), cors_origins: &origins };
    let stack = build(&Routes::new(verifier).into_service(), gateway, settings);
    let request = request.body(Body::new(Full::from(body.into()))).expect("a request");
    let (parts, body) = stack.oneshot(request).await.expect("the stack never fails").into_parts();
    (parts.status, parts.headers, body.collect().await.expect("a body").to_bytes())
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

#[tokio::test]
async fn a_panic_is_answered_with_the_request_id_and_for_web_pages() {
    let request = Request::get("/panic").header(REQUEST_ID, "order-17").header(header::ORIGIN, "https://app.example.test");
    let (status, headers, body) = send(request, "").await;
    assert_eq!((status, &headers[REQUEST_ID]), (StatusCode::INTERNAL_SERVER_ERROR, &HeaderValue::from_static("order-17")));
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.test");
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains(r#""code":13"#) && body.contains("INTERNAL") && !body.contains("purpose"), "{body}");
}

#[test]
fn a_panic_in_a_call_of_grpc_is_the_status_internal() {
    let response = grpc_panic(Box::new("on purpose"));
    assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from_static("13")));
}

#[tokio::test]
async fn only_a_short_and_plain_request_id_is_kept() {
    for (given, is_kept) in [("order-17", true), (&"a".repeat(65), false), ("a b", false), ("a\"b", false)] {
        let (_, headers, _) = send(Request::get("/large").header(REQUEST_ID, given), "").await;
        assert_eq!(headers[REQUEST_ID] == given, is_kept, "{given}");
        assert!(!headers[REQUEST_ID].is_empty());
    }
}

#[tokio::test]
async fn a_small_response_is_not_compressed() {
    let (_, headers, body) = send(Request::get("/small").header(header::ACCEPT_ENCODING, "gzip"), "").await;
    assert_eq!((headers.get(header::CONTENT_ENCODING), body.len()), (None, 4000));
}

#[tokio::test]
async fn a_response_is_compressed_if_the_client_accepts_gzip() {
    for (accepted, is_compressed) in
        [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("identity;q=0", false), ("*;q=0", false), ("br", false)]
    {
        let (status, headers, body) = send(Request::get("/large").header(header::ACCEPT_ENCODING, accepted), "").await;
        assert_eq!((status, headers.contains_key(header::CONTENT_ENCODING)), (StatusCode::OK, is_compressed), "{accepted}");
        assert_eq!(body.len() < 1000, is_compressed, "{accepted}");
        let (_, head, body) = send(Request::head("/large").header(header::ACCEPT_ENCODING, accepted), "").await;
        assert_eq!((head.get(header::CONTENT_ENCODING), body.len()), (headers.get(header::CONTENT_ENCODING), 0), "{accepted}");
    }
}

#[tokio::test]
async fn a_request_is_decompressed_up_to_the_limit() {
    for coding in ["gzip", "x-gzip", "GZIP"] {
        let request = Request::post("/echo").header(header::CONTENT_ENCODING, coding);
        let (status, _, body) = send(request, compressed(b"hello")).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello"[..]), "{coding}");
    }
    let bomb = compressed(&vec![0; MESSAGE_LIMIT + 1]);
    assert!(bomb.len() < MESSAGE_LIMIT / 100);
    let (status, ..) = send(Request::post("/echo").header(header::CONTENT_ENCODING, "gzip"), bomb).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, ..) = send(Request::post("/echo"), vec![0; MESSAGE_LIMIT + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_preflight_request_is_answered_and_other_options_are_not() {
    let preflight = Request::options("/echo")
        .header(header::ORIGIN, "https://app.example.test")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
    let (status, headers, _) = send(preflight, "").await;
    assert_eq!(
        (status, &headers[header::ACCESS_CONTROL_ALLOW_HEADERS]),
        (StatusCode::OK, &HeaderValue::from_static("authorization"))
    );
    assert_eq!(headers[header::ACCESS_CONTROL_MAX_AGE], "600");
    let (status, headers, _) = send(Request::options("/echo"), "").await;
    assert_eq!((status, headers.get(header::ACCESS_CONTROL_ALLOW_METHODS)), (StatusCode::METHOD_NOT_ALLOWED, None));
}

#[tokio::test]
async fn every_response_forbids_guessing_its_type() {
    for path in ["/large", "/panic", "/nothing"] {
        let (_, headers, _) = send(Request::get(path), "").await;
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn every_response_varies_by_origin_where_origins_are_configured() {
    for origin in [None, Some("https://app.example.test"), Some("https://other.example.test")] {
        let request = origin.into_iter().fold(Request::get("/large"), |request, origin| request.header(header::ORIGIN, origin));
        let (_, headers, _) = send(request, "").await;
        let vary: Vec<_> = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok()).collect();
        assert!(vary.iter().any(|value| value.eq_ignore_ascii_case("origin")), "{origin:?}: {vary:?}");
        let is_allowed = origin == Some("https://app.example.test");
        assert_eq!(headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), is_allowed, "{origin:?}");
    }
}

#[tokio::test]
async fn large_headers_and_a_malformed_timeout_are_refused() {
    let (status, ..) = send(Request::get("/large").header("x-large", "a".repeat(17_000)), "").await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let (status, ..) = send(Request::get("/large").header("x-large", "a".repeat(15_000)), "").await;
    assert_eq!(status, StatusCode::OK);
    for timeout in ["1", "S", "-1S", "123456789S", "1 S"] {
        let (status, _, body) = send(Request::get("/large").header("grpc-timeout", timeout), "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{timeout}");
        assert!(String::from_utf8_lossy(&body).contains("grpc-timeout"), "{timeout}");
    }
}

#[tokio::test]
async fn messages_in_another_encoding_than_protobuf_are_unimplemented() {
    for content_type in ["application/grpc+json", "application/grpc-web+json; charset=utf-8"] {
        let (_, headers, _) = send(Request::post("/a.B/C").header(header::CONTENT_TYPE, content_type), "").await;
        assert_eq!(headers["grpc-status"], "12", "{content_type}");
    }
}
