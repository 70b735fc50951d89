//! The origins that the CORS settings allow.

use std::str::FromStr;

use http::HeaderValue;
use url::Url;

/// An origin whose web pages may call: a scheme, a host and a port as in `https://app.example.com`, or `*` for every origin.
///
/// Allowing every origin exposes no credentials. They are in a header that a page sets itself, never in a cookie that the browser adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOrigin(pub(crate) HeaderValue);

impl CorsOrigin {
    /// Returns true for `*`.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_origin = Url::parse(text).is_ok_and(|url| url.origin().is_tuple() && url.origin().ascii_serialization() == text);
        let value = HeaderValue::from_str(text).ok().filter(|_| is_origin || text == "*");
        value.map(Self).ok_or_else(|| "must be an origin such as https://app.example.com, without a path, or *".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for right in ["https://app.example.com", "http://127.0.0.1:8080", "*"] {
            assert!(right.parse::<CorsOrigin>().is_ok(), "{right}");
        }
        for wrong in
            ["", "app.example.com", "https://app.example.com/", "https://app.example.com:443", "null", "https://*.example.com/x"]
        {
            assert!(wrong.parse::<CorsOrigin>().is_err(), "{wrong}");
        }
    }
}
