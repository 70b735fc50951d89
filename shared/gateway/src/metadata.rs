//! What crosses between HTTP headers and gRPC metadata: `grpc-metadata-…`, without what would be believed of somebody else.

use http::{HeaderMap, HeaderName};

/// What stands before the names, in both directions.
const PREFIX: &str = "grpc-metadata-";

/// Who is calling, from where, and how: a header that says so is the request's own, and never one that it carries along.
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

/// The metadata of a call.
pub(super) fn of_request(headers: &HeaderMap) -> HeaderMap {
    let carried = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(PREFIX).filter(|name| !is_reserved(name))?;
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value.clone()))
    });
    carried.collect()
}

/// The headers of an answer.
pub(super) fn of_answer(metadata: &HeaderMap) -> HeaderMap {
    let carried = metadata.iter().filter_map(|(name, value)| {
        let name = Some(name.as_str()).filter(|name| !is_reserved(name))?;
        Some((HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).ok()?, value.clone()))
    });
    carried.collect()
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_carried_and_what_is_believed_is_not() {
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
        let metadata = of_request(&headers);
        assert_eq!(metadata.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["tenant"]);
        assert_eq!(of_answer(&metadata).keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-metadata-tenant"]);
    }
}
