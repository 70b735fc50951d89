//! Recognizes the protocol of a request.

use http::{HeaderMap, HeaderValue, header};

/// The protocol of a request, by its `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
    /// gRPC or gRPC-Web with messages in another encoding than Protobuf.
    UnknownGrpc,
    Http,
}

impl Protocol {
    /// Returns the name for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc | Self::UnknownGrpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Http => "http",
        }
    }

    /// Returns the protocol of a request with these headers. Parameters of the content type do not matter.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| essence(value.as_bytes()));
        let Some(kind) = strip_prefix(content_type, b"application/grpc") else { return Self::Http };
        let is_one_of = |kinds: &[&[u8]]| kinds.iter().any(|known| kind.eq_ignore_ascii_case(known));
        if is_one_of(&[b"", b"+proto"]) {
            Self::Grpc
        } else if is_one_of(&[b"-web", b"-web+proto", b"-web-text", b"-web-text+proto"]) {
            Self::GrpcWeb
        } else if kind.starts_with(b"+") || strip_prefix(kind, b"-web").is_some() {
            Self::UnknownGrpc
        } else {
            Self::Http
        }
    }
}

/// Removes the parameters of the content type of a gRPC-Web request, which tonic-web does not accept, and asks for a response in the
/// encoding of the request, binary or text, unless the client asks for one of them.
pub(crate) fn normalize_grpc_web(headers: &mut HeaderMap) {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return };
    let plain = |value: &HeaderValue| HeaderValue::try_from(essence(value.as_bytes()).to_ascii_lowercase()).ok();
    let Some(content_type) = plain(content_type) else { return };
    let accept = headers.get(header::ACCEPT).and_then(plain);
    let accept = accept.filter(|accept| accept.as_bytes().starts_with(b"application/grpc-web"));
    let accept = accept.unwrap_or_else(|| content_type.clone());
    headers.insert(header::ACCEPT, accept);
    headers.insert(header::CONTENT_TYPE, content_type);
}

/// Returns a media type without its parameters (RFC 9110 section 8.3.1).
fn essence(media_type: &[u8]) -> &[u8] {
    let end = media_type.iter().position(|&byte| byte == b';').unwrap_or(media_type.len());
    media_type[..end].trim_ascii()
}

/// Returns the rest of a text after a prefix that is compared without regard to case.
fn strip_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    text.split_at_checked(prefix.len()).filter(|(start, _)| start.eq_ignore_ascii_case(prefix)).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str, accept: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a header"));
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn the_content_type_determines_the_protocol() {
        for (content_type, expected) in [
            ("application/grpc", Protocol::Grpc),
            ("application/grpc+proto", Protocol::Grpc),
            ("Application/gRPC; charset=utf-8", Protocol::Grpc),
            ("application/grpc-web", Protocol::GrpcWeb),
            ("application/grpc-web+proto;charset=utf-8", Protocol::GrpcWeb),
            ("application/grpc-web-text ; x=y", Protocol::GrpcWeb),
            ("application/grpc+json", Protocol::UnknownGrpc),
            ("application/grpc-web+json", Protocol::UnknownGrpc),
            ("application/grpcx", Protocol::Http),
            ("application/json", Protocol::Http),
            ("", Protocol::Http),
        ] {
            assert_eq!(Protocol::from_headers(&headers(content_type, None)), expected, "{content_type}");
        }
    }

    #[test]
    fn a_grpc_web_response_has_the_encoding_of_the_request() {
        for (content_type, accept, expected) in [
            ("application/grpc-web-text; charset=utf-8", None, "application/grpc-web-text"),
            ("application/grpc-web-text", Some("*/*"), "application/grpc-web-text"),
            ("application/grpc-web+proto", None, "application/grpc-web+proto"),
            ("application/grpc-web", Some("application/grpc-web-text;q=1"), "application/grpc-web-text"),
        ] {
            let mut headers = headers(content_type, accept);
            normalize_grpc_web(&mut headers);
            assert_eq!(headers[header::ACCEPT], expected, "{content_type} {accept:?}");
            assert!(!headers[header::CONTENT_TYPE].as_bytes().contains(&b';'), "{content_type}");
        }
    }
}
