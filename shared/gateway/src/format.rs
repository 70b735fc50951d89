//! The formats of requests and responses: `Content-Type` and `Accept` (RFC 9110 sections 8.3 and 12.5.1).

use http::{HeaderMap, HeaderValue, header};

/// The format of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// XML.
    Xml,
}

/// The format of a stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One JSON object per line.
    Lines,
    /// Server-sent events.
    Events,
    /// One XML document with an element per message.
    Xml,
}

const JSON: &str = "application/json";
const XML: [&str; 2] = ["application/xml", "text/xml"];
const LINES: [&str; 2] = ["application/x-ndjson", "application/jsonl"];
const EVENTS: &str = "text/event-stream";

impl Format {
    /// Returns the format that `Accept` prefers. It is JSON if the header prefers neither.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let accept = Accept::new(headers);
        let xml = accept.quality(XML[0]).max(accept.quality(XML[1]));
        if xml > accept.quality(JSON) { Self::Xml } else { Self::Json }
    }

    /// Returns the format of a body with this `Content-Type`, or `None` if the media type or the character set is not supported.
    pub(crate) fn from_content_type(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        let (kind, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
        let charset = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
        if !matches!(charset.map(|charset| charset.trim_matches('"')), None | Some("utf-8" | "utf8" | "us-ascii")) {
            return None;
        }
        match kind.trim() {
            JSON => Some(Self::Json),
            kind if XML.contains(&kind) => Some(Self::Xml),
            _ => None,
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => JSON,
            Self::Xml => XML[0],
        })
    }
}

impl Framing {
    /// Returns the format that `Accept` prefers. It is [`Framing::Lines`] if the header prefers none.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Self {
        let accept = Accept::new(headers);
        let lines = accept.quality(LINES[0]).max(accept.quality(LINES[1])).max(accept.quality(JSON));
        let events = accept.quality(EVENTS);
        let xml = accept.quality(XML[0]).max(accept.quality(XML[1]));
        if events > lines && events >= xml {
            Self::Events
        } else if xml > lines {
            Self::Xml
        } else {
            Self::Lines
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Lines => LINES[0],
            Self::Events => EVENTS,
            Self::Xml => XML[0],
        })
    }
}

/// The media ranges of a request, each with its quality in thousandths.
struct Accept(Vec<(String, u16)>);

impl Accept {
    fn new(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(',')).filter_map(|range| {
            let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
            let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
            let range = range.trim().to_ascii_lowercase();
            (!range.is_empty()).then(|| (range, quality.map_or(1000, thousandths)))
        });
        Self(ranges.collect())
    }

    /// Returns the quality that the most specific range gives a media type. Without any range it is 1000.
    fn quality(&self, kind: &str) -> u16 {
        if self.0.is_empty() {
            return 1000;
        }
        let family = kind.split_once('/').map_or(kind, |(family, _)| family);
        let of_range = |wanted: &str| self.0.iter().find(|(range, _)| range == wanted).map(|(_, quality)| *quality);
        of_range(kind).or_else(|| of_range(&format!("{family}/*"))).or_else(|| of_range("*/*")).unwrap_or(0)
    }
}

/// Parses a quality: `0.8` is 800. An invalid quality is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
fn thousandths(quality: &str) -> u16 {
    quality
        .trim()
        .parse::<f32>()
        .ok()
        .filter(|quality| (0.0..=1.0).contains(quality))
        .map_or(0, |quality| (quality * 1000.0) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a header"))])
    }

    #[test]
    fn accept_chooses_the_format_of_the_response() {
        for (accept, format, framing) in [
            ("*/*", Format::Json, Framing::Lines),
            ("application/json", Format::Json, Framing::Lines),
            ("application/xml", Format::Xml, Framing::Xml),
            ("text/xml", Format::Xml, Framing::Xml),
            ("application/xml;q=0.5, application/json", Format::Json, Framing::Lines),
            ("application/xml, application/json;q=0.5", Format::Xml, Framing::Xml),
            ("application/json;q=0, */*", Format::Xml, Framing::Lines),
            ("text/event-stream", Format::Json, Framing::Events),
            ("text/event-stream, */*;q=0.1", Format::Json, Framing::Events),
            ("application/x-ndjson", Format::Json, Framing::Lines),
            ("image/png", Format::Json, Framing::Lines),
            ("application/xml;q=x", Format::Json, Framing::Lines),
        ] {
            let headers = headers(header::ACCEPT, accept);
            assert_eq!((Format::negotiate(&headers), Framing::negotiate(&headers)), (format, framing), "{accept}");
        }
        assert_eq!(Format::negotiate(&HeaderMap::new()), Format::Json);
    }

    #[test]
    fn a_body_is_json_or_xml_in_utf_8() {
        for (content_type, expected) in [
            ("application/json", Some(Format::Json)),
            ("Application/JSON; charset=UTF-8", Some(Format::Json)),
            ("application/json;charset=\"utf-8\"", Some(Format::Json)),
            ("text/xml", Some(Format::Xml)),
            ("application/json; charset=utf-16", None),
            ("application/jsonp", None),
            ("text/plain", None),
            ("application/x-www-form-urlencoded", None),
        ] {
            assert_eq!(Format::from_content_type(&headers(header::CONTENT_TYPE, content_type)), expected, "{content_type}");
        }
        assert_eq!(Format::from_content_type(&HeaderMap::new()), None);
    }
}
