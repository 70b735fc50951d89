//! Packs what a client is ready to unpack (RFC 9110 section 12.5.3), where it is worth it.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;

/// The smallest body that is packed, in bytes: a smaller one fits into one packet anyway.
const WORTH_IT: u64 = 1024;

/// True where `accept-encoding` takes gzip.
pub(crate) fn is_taken(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(',')).map(|coding| coding.split_once(';').unwrap_or((coding, "")));
    codings.any(|(coding, parameters)| {
        let is_refused =
            parameters.trim().strip_prefix("q=").is_some_and(|quality| quality.trim().parse().is_ok_and(|q: f32| q <= 0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// The response, packed where all of it is there already. A stream is left as it is: its parts are waited for.
pub(super) async fn pack(mut response: Response<Body>) -> Response<Body> {
    let is_whole = response.body().size_hint().exact().is_some_and(|length| length >= WORTH_IT);
    if !is_whole || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    let packed = encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail");
    response = Response::from_parts(parts, Body::new(Full::from(packed)));
    response
}
