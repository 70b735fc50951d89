//! The place of a call in a distributed trace, as the header `traceparent` says it (W3C Trace Context, level 1).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries a [`TraceContext`].
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The length of a header of version 00. A later version may append fields.
const LENGTH: usize = 55;
/// The bit of the flags that says whether the spans of the trace are recorded.
const SAMPLED: u8 = 1;

/// A span of a trace: the parent of the spans that are created for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span. It is not zero.
    pub span_id: [u8; 8],
    /// Whether the spans of the trace are recorded.
    pub is_sampled: bool,
}

/// The id of a trace. It is not zero. Its text is 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl TraceContext {
    /// Reads the header `traceparent`. Returns `None` if it is absent, repeated or malformed; then the call begins a trace of its own.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        Self::parse(value.as_bytes())
    }

    /// Writes the header `traceparent`.
    pub fn write_header(&self, headers: &mut HeaderMap) {
        let Self { trace_id, span_id, is_sampled } = self;
        let text = format!("00-{trace_id}-{:016x}-{:02x}", u64::from_be_bytes(*span_id), u8::from(*is_sampled));
        // Hexadecimal digits are a valid header value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(LENGTH)?;
        let [version] = hexadecimal(&head[..2])?;
        let has_rest = version > 0 && rest.starts_with(b"-");
        if version == 0xff || !(rest.is_empty() || has_rest) || [head[2], head[35], head[52]] != *b"---" {
            return None;
        }
        let trace_id: [u8; 16] = hexadecimal(&head[3..35])?;
        let span_id: [u8; 8] = hexadecimal(&head[36..52])?;
        let [flags] = hexadecimal(&head[53..])?;
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id: TraceId(trace_id), span_id, is_sampled: flags & SAMPLED != 0 })
    }
}

/// Returns the bytes of a text of lower-case hexadecimal digits. `text` has two for each byte.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().expect("a value"));
        }
        TraceContext::from_headers(&headers)
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        for (text, is_sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-00", false),
        ] {
            let context = read(&[text]).expect(text);
            assert_eq!((context.trace_id.to_string().as_str(), context.is_sampled), (&text[3..35], is_sampled));
            let mut headers = HeaderMap::new();
            context.write_header(&mut headers);
            assert_eq!(headers[TRACEPARENT], text);
        }
        // Unknown flags and the fields of later versions are ignored.
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
        ] {
            assert!(read(&[text]).is_some_and(|context| context.is_sampled), "{text}");
        }
    }

    #[test]
    fn a_malformed_or_repeated_traceparent_is_ignored() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(read(&[good, good]), None);
        for bad in [
            "",
            "00-0-0-0",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
    }
}
