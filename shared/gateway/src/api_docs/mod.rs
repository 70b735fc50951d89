//! `/openapi.json`, `/openapi.yaml`, and the API page at `/`: a Swagger UI in this binary that shows the API, signs in and calls it.

use std::{
    io::Read,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Bytes,
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::openapi::DocumentError;

/// The version of Swagger UI. It is part of the paths of its files, so that clients can cache them forever.
const VERSION: &str = "5.35.0";
static BUNDLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new(include_bytes!("../../third_party/swagger-ui/swagger-ui-bundle.js.gz")));
static STYLES: LazyLock<Asset> = LazyLock::new(|| Asset::new(include_bytes!("../../third_party/swagger-ui/swagger-ui.css.gz")));

/// A file of Swagger UI. The binary contains it compressed.
struct Asset {
    compressed: &'static [u8],
    plain: Bytes,
}

impl Asset {
    /// Decompresses the file once for all responses.
    fn new(compressed: &'static [u8]) -> Self {
        let mut plain = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut plain).expect("the embedded file is valid gzip");
        Self { compressed, plain: plain.into() }
    }
}

const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The media type of YAML (RFC 9512).
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// The settings of the API page at `/`.
#[derive(Debug, Clone)]
pub struct ApiDocs {
    /// The URL at which a browser reaches the auth service, where the page signs in. It is empty if that is this service.
    pub auth_url: String,
}

/// Returns the routes of the `OpenAPI` document that `create` returns, and of the API page if there is one. The first request for the
/// document creates it, because that takes a part of the time and the memory of a start, and most processes are never asked.
///
/// The document has the status 500 if `create` returns an error.
pub fn routes<C>(title: &str, create: C, api_docs: Option<&ApiDocs>) -> Router
where
    C: FnOnce() -> Result<Value, DocumentError> + Send + 'static,
{
    let document = Arc::new(LazyLock::new(|| create().map(|document| Document::new(&document))));
    let yaml = Arc::clone(&document);
    let routes = Router::new()
        .route("/openapi.json", get(async move || document_file(&document, JSON, |document| &document.json)))
        .route("/openapi.yaml", get(async move || document_file(&yaml, YAML, |document| &document.yaml)));
    let Some(api_docs) = api_docs else { return routes };
    let html = include_str!("index.html")
        .replace("{auth_url}", &escaped(api_docs.auth_url.trim_end_matches('/')))
        .replace("{title}", &escaped(title))
        .replace("{version}", VERSION);
    let policy: Arc<str> = policy(&api_docs.auth_url).into();
    let html = Bytes::from(html);
    routes
        .route("/", get(async move || (policy_headers(&policy), file(HTML, html))))
        .route("/explorer/explorer.js", get(async || file(JAVASCRIPT, include_str!("explorer.js").into())))
        .route("/explorer/explorer.css", get(async || file(CSS, include_str!("explorer.css").into())))
        .route(&format!("/explorer/{VERSION}/swagger-ui-bundle.js"), get(async |headers| asset(&headers, JAVASCRIPT, &BUNDLE)))
        .route(&format!("/explorer/{VERSION}/swagger-ui.css"), get(async |headers| asset(&headers, CSS, &STYLES)))
}

/// The document in both formats.
struct Document {
    json: Bytes,
    yaml: Bytes,
}

impl Document {
    fn new(document: &Value) -> Self {
        let yaml = serde_saphyr::to_string(document).expect("every key of a JSON document is a string");
        Self { json: document.to_string().into(), yaml: yaml.into() }
    }
}

fn document_file(
    document: &Result<Document, DocumentError>,
    kind: HeaderValue,
    format: fn(&Document) -> &Bytes,
) -> Result<Response, (StatusCode, String)> {
    match document {
        Ok(document) => Ok(file(kind, format(document).clone())),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("the document cannot be created: {error}"))),
    }
}

fn file(kind: HeaderValue, bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, bytes).into_response()
}

/// Returns a file of Swagger UI. Every response shares one copy of it, compressed or not.
fn asset(request: &HeaderMap, kind: HeaderValue, asset: &Asset) -> Response {
    let mut response = if accepts_gzip(request) {
        let mut response = file(kind, Bytes::from_static(asset.compressed));
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        file(kind, asset.plain.clone())
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// Returns true if `Accept-Encoding` names gzip with a quality above 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(',')).map(|coding| coding.split_once(';').unwrap_or((coding, "")));
    codings.any(|(coding, parameters)| {
        let is_refused =
            parameters.trim().strip_prefix("q=").is_some_and(|quality| quality.trim().parse().is_ok_and(|q: f32| q <= 0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Returns the content security policy of the page: it may load from this service, and call this service and the auth service.
fn policy(auth_url: &str) -> String {
    let auth = url::Url::parse(auth_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' {auth}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn policy_headers(policy: &str) -> HeaderMap {
    let policy = HeaderValue::from_str(policy).expect("an origin in ASCII is a valid header value");
    HeaderMap::from_iter([
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ])
}

/// Escapes text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::openapi::About;

    #[test]
    fn gzip_is_accepted_if_the_header_names_it() {
        for (value, expected) in
            [("gzip", true), ("br, GZIP", true), ("gzip;q=0", false), ("gzip;q=0.001", true), ("deflate", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().expect("a header"))]);
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
    }

    #[test]
    fn the_document_as_yaml_reads_as_the_same_values() {
        let document = serde_json::json!({
            "responses": { "200": "x: y", "no": [], "null": {}, "on": false },
            "text": ["line\nline", "1", "true", "~", "# no comment", "", " padded ", "é \u{1f600}"],
            "nested": [{ "one": 1, "two": [true, null, 1.5] }, [[1]]],
        });
        let yaml = serde_saphyr::to_string(&document).expect("YAML");
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("YAML that can be read"), document);
    }

    async fn get(routes: &Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let response = routes.clone().oneshot(request).await.expect("a response");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn the_first_request_creates_the_document() {
        let created = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&created);
        let create = move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(serde_json::json!({ "openapi": "3.1.0" }))
        };
        let routes = routes("Test", create, None);
        assert_eq!(created.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            assert_eq!(get(&routes, "/openapi.json").await, (StatusCode::OK, r#"{"openapi":"3.1.0"}"#.to_owned()));
            assert_eq!(get(&routes, "/openapi.yaml").await, (StatusCode::OK, "openapi: \"3.1.0\"\n".to_owned()));
        }
        assert_eq!(created.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_document_that_cannot_be_created_has_status_500() {
        let create = || {
            let other_paths = serde_json::Map::new();
            let about = About { title: "Test", version: "1", services: &[], other_paths: &other_paths };
            crate::openapi::document(b"not descriptors", &about)
        };
        let (status, body) = get(&routes("Test", create, None), "/openapi.json").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("the descriptors are not a valid FileDescriptorSet"), "{body}");
    }

    #[test]
    fn every_response_shares_one_copy_of_a_file() {
        let request = HeaderMap::new();
        let bodies = [asset(&request, JAVASCRIPT, &BUNDLE), asset(&request, JAVASCRIPT, &BUNDLE)].map(Response::into_body);
        let frames = bodies.map(|body| only_frame(body).expect("a body of one frame"));
        assert!(std::ptr::eq(frames[0].as_ptr(), frames[1].as_ptr()) && frames[0].len() > BUNDLE.compressed.len());
    }

    /// Returns the only frame of a body that is already there.
    fn only_frame(mut body: axum::body::Body) -> Option<Bytes> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut context) {
            std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    }
}
