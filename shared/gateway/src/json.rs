//! Parses JSON (RFC 8259) more strictly than `serde_json`: a duplicate key is an error, and an error names its place in the value.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use access::error::Violation;

/// The largest depth of nested arrays and objects.
pub(crate) const DEPTH_LIMIT: usize = 64;

/// Parses one JSON value.
///
/// # Errors
///
/// Returns a violation that names the place in the value and the rule: `json.syntax`, `json.duplicate_key`, `json.depth`, or
/// `json.number` for a number that is out of range.
pub(crate) fn parse(text: &[u8]) -> Result<Value, Violation> {
    let mut path = JsonPath::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Tree { path: &mut path, depth: 0 }.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let message = error.to_string();
        match path.rule {
            Some("json.duplicate_key") => Violation::new(path.text(), "json.duplicate_key", "is there twice"),
            Some(rule) => Violation::new(path.text(), rule, format!("stands deeper than {DEPTH_LIMIT} levels")),
            None if message.starts_with("number out of range") => {
                Violation::new(path.text(), "json.number", "is a number that is out of range")
            }
            None => Violation::new(path.text(), "json.syntax", format!("is not JSON: {message}")),
        }
    })
}

/// The position of the parser in the value. After an error it is the position of the error.
#[derive(Default)]
struct JsonPath {
    steps: Vec<Step>,
    /// The rule that the value breaks, if it is one that `serde_json` does not check.
    rule: Option<&'static str>,
}

enum Step {
    Key(String),
    Index(usize),
}

impl JsonPath {
    /// Returns the path as text, such as `note.tags[3]`, or `body` for the value as a whole.
    fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let _ = match step {
                Step::Key(key) if text.is_empty() => write!(text, "{key}"),
                Step::Key(key) => write!(text, ".{key}"),
                Step::Index(index) => write!(text, "[{index}]"),
            };
        }
        if text.is_empty() { "body".to_owned() } else { text }
    }
}

/// Deserializes one value and tracks its position.
struct Tree<'a> {
    path: &'a mut JsonPath,
    depth: usize,
}

impl Tree<'_> {
    /// Returns the depth of the values inside this one, or `None` if that is too deep.
    fn inner_depth(&mut self) -> Option<usize> {
        let depth = self.depth + 1;
        if depth > DEPTH_LIMIT {
            self.path.rule = Some("json.depth");
            return None;
        }
        Some(depth)
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.inner_depth().ok_or_else(|| A::Error::custom(""))?;
        let mut values = Vec::new();
        loop {
            self.path.steps.push(Step::Index(values.len()));
            let Some(value) = seq.next_element_seed(Tree { path: self.path, depth })? else { break };
            self.path.steps.pop();
            values.push(value);
        }
        self.path.steps.pop();
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.inner_depth().ok_or_else(|| A::Error::custom(""))?;
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let is_there = values.contains_key(&key);
            self.path.steps.push(Step::Key(key.clone()));
            if is_there {
                self.path.rule = Some("json.duplicate_key");
                return Err(A::Error::custom(""));
            }
            let value = map.next_value_seed(Tree { path: self.path, depth })?;
            self.path.steps.pop();
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!((violation.field.as_str(), violation.rule), (place, rule), "{text}: {}", violation.description);
        }
        assert_eq!(parse(deep.as_bytes()).expect_err("a refusal").rule, "json.depth");
        assert_eq!(parse(b"{\"a\": \"\xff\"}").expect_err("a refusal").rule, "json.syntax");
    }

    #[test]
    fn valid_json_has_the_value_that_serde_json_reads() {
        for text in [r#"{"a": [1, -2, 3.5, "x", null, true, {}], "b": {"c": {"d": []}}}"#, "1e3", "\"\\u00e9\"", " [ ] "] {
            assert_eq!(parse(text.as_bytes()).expect(text), serde_json::from_str::<Value>(text).expect(text));
        }
    }
}
