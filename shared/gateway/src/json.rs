//! Parses the JSON body of a request, and describes an error as a violation.

use access::{
    RuleId,
    error::Violation,
    json::{self, JsonProblem},
};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

/// The largest depth of nested arrays and objects.
pub(crate) const DEPTH_LIMIT: usize = 64;
/// The rule that a body is JSON.
pub(crate) const SYNTAX: RuleId = RuleId::new("json.syntax");
const DUPLICATE_KEY: RuleId = RuleId::new("json.duplicate_key");
const DEPTH: RuleId = RuleId::new("json.depth");
const NUMBER: RuleId = RuleId::new("json.number");

/// The byte order mark in UTF-8, with which some editors and clients begin a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses one JSON value. A byte order mark before it is ignored, as RFC 8259 section 8.1 permits.
///
/// # Errors
///
/// Returns a violation that names the place in the value and the rule: `json.syntax`, `json.duplicate_key`, `json.depth`, or
/// `json.number` for a number that is out of range.
pub(crate) fn parse(text: &[u8]) -> Result<Value, Violation> {
    json::parse(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text), DEPTH_LIMIT).map_err(|error| {
        let at = |rule, description: String| Violation::new(error.path, rule, description);
        match error.problem {
            JsonProblem::Syntax(message) => at(SYNTAX, format!("is not JSON: {message}")),
            JsonProblem::DuplicateKey => at(DUPLICATE_KEY, "is there twice".to_owned()),
            JsonProblem::Depth => at(DEPTH, format!("stands deeper than {DEPTH_LIMIT} levels")),
            JsonProblem::Number => at(NUMBER, "is a number that is out of range".to_owned()),
        }
    })
}

/// Writes a message as JSON. Fields with their default value are written, as grpc-gateway writes them. Messages, `optional` fields and
/// members of a `oneof` that are not set are absent.
pub(crate) fn to_string(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(256);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options())?;
    Ok(String::from_utf8(text).expect("a serializer of JSON writes UTF-8"))
}

/// Converts a message to the value that [`to_string`] writes.
pub(crate) fn to_value(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    message.serialize_with_options(serde_json::value::Serializer, &options())
}

fn options() -> SerializeOptions {
    SerializeOptions::new().skip_default_fields(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_ignored() {
        assert_eq!(parse(b"\xef\xbb\xbf{}").expect("JSON"), Value::Object(serde_json::Map::new()));
        assert!(parse(b"\xef\xbb\xbf\xef\xbb\xbf{}").is_err());
        assert!(parse(b"{\xef\xbb\xbf}").is_err());
    }

    #[test]
    fn an_error_names_its_place() {
        let deep = format!("{}{}", "[".repeat(DEPTH_LIMIT + 1), "]".repeat(DEPTH_LIMIT + 1));
        for (text, place, rule) in [
            ("", "body", "json.syntax"),
            ("{", "body", "json.syntax"),
            ("{} {}", "body", "json.syntax"),
            (r#"{"a": 1, "a": 1}"#, "a", "json.duplicate_key"),
            (r#"{"note": {"title": "x", "title": "y"}}"#, "note.title", "json.duplicate_key"),
            (r#"{"list": [1, {"a": 1, "\u0061": 2}]}"#, "list[1].a", "json.duplicate_key"),
            (r#"{"a": {"b": 1e400}}"#, "a.b", "json.number"),
            (r#"{"a": [1, -1e999]}"#, "a[1]", "json.number"),
            (r#"{"a": 01}"#, "a", "json.syntax"),
            (r#"{"a": NaN}"#, "a", "json.syntax"),
            (r#"{"a": "\ud800"}"#, "a", "json.syntax"),
            ("{\"a\": \"\u{1}\"}", "a", "json.syntax"),
        ] {
            let violation = parse(text.as_bytes()).expect_err(text);
            assert_eq!(
                (violation.field.to_string().as_str(), violation.rule.as_str()),
                (place, rule),
                "{text}: {}",
                violation.description
            );
        }
        assert_eq!(parse(deep.as_bytes()).expect_err("a refusal").rule.as_str(), "json.depth");
        assert_eq!(parse(b"{\"a\": \"\xff\"}").expect_err("a refusal").rule.as_str(), "json.syntax");
    }

    #[test]
    fn valid_json_has_the_value_that_serde_json_reads() {
        for text in [r#"{"a": [1, -2, 3.5, "x", null, true, {}], "b": {"c": {"d": []}}}"#, "1e3", "\"\\u00e9\"", " [ ] "] {
            assert_eq!(parse(text.as_bytes()).expect(text), serde_json::from_str::<Value>(text).expect(text));
        }
    }
}
