//! Compresses responses for clients that accept gzip (RFC 9110 section 12.5.3).

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;

/// The smallest body that is compressed, in bytes. A smaller one fits into one packet anyway.
const MIN_LENGTH: u64 = 1024;

/// Returns true if `Accept-Encoding` names gzip with a quality above 0.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(',')).map(|coding| coding.split_once(';').unwrap_or((coding, "")));
    codings.any(|(coding, parameters)| {
        let is_refused =
            parameters.trim().strip_prefix("q=").is_some_and(|quality| quality.trim().parse().is_ok_and(|q: f32| q <= 0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// Compresses the body of a response if its length is known. A stream stays as it is, because compression would delay its messages.
pub(crate) async fn compress(mut response: Response<Body>) -> Response<Body> {
    let is_worthwhile = response.body().size_hint().exact().is_some_and(|length| length >= MIN_LENGTH);
    if !is_worthwhile || response.headers().contains_key(header::CONTENT_ENCODING) {
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
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish()).expect("writing to memory does not fail");
    response = Response::from_parts(parts, Body::new(Full::from(compressed)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_if_the_header_names_it() {
        for (value, expected) in
            [("gzip", true), ("br, GZIP", true), ("gzip;q=0", false), ("gzip;q=0.001", true), ("deflate", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().expect("a header"))]);
            assert_eq!(is_accepted(&headers), expected, "{value}");
        }
    }
}
