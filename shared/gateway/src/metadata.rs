//! Converts HTTP headers to gRPC metadata and back. A header `grpc-metadata-NAME` is the metadata entry `NAME`.

use http::{HeaderMap, HeaderName};

/// The prefix of the headers that carry metadata, in both directions.
const PREFIX: &str = "grpc-metadata-";

/// The names that are never converted. They describe the caller and the request itself, so a client must not set them through
/// the prefix.
const RESERVED: [&str; 12] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "te",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
    "date",
];

/// Returns the metadata of a call from the headers of a request.
pub(crate) fn from_request_headers(headers: &HeaderMap) -> HeaderMap {
    let converted = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(PREFIX).filter(|name| !is_reserved(name))?;
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.clone()))
    });
    converted.collect()
}

/// Returns the headers of a response from the metadata of a call.
pub(crate) fn to_response_headers(metadata: &HeaderMap) -> HeaderMap {
    let converted = metadata.iter().filter_map(|(name, value)| {
        let name = Some(name.as_str()).filter(|name| !is_reserved(name))?;
        Some((HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).ok()?, value.clone()))
    });
    converted.collect()
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_converted_and_reserved_names_are_not() {
        let mut headers = HeaderMap::new();
        for name in [
            "grpc-metadata-tenant",
            "grpc-metadata-authorization",
            "grpc-metadata-grpc-timeout",
            "grpc-metadata-x-forwarded-for",
            "x",
        ] {
            headers.append(name, "value".parse().expect("a value"));
        }
        let metadata = from_request_headers(&headers);
        assert_eq!(metadata.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["tenant"]);
        assert_eq!(to_response_headers(&metadata).keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-metadata-tenant"]);
    }
}
