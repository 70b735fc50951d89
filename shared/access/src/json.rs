//! Parses JSON (RFC 8259) more strictly than `serde_json`: a duplicate key is an error, and an error names its place in the value.
//! It parses the tokens and the bodies of HTTP requests.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{FieldPath, PathStep};

/// The reason why a text is not accepted as JSON, and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct JsonError {
    /// The place in the value. It is [`FieldPath::Body`] for the value as a whole.
    pub path: FieldPath,
    /// The reason.
    pub problem: JsonProblem,
}

/// A reason why a text is not accepted as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// The text is not JSON.
    #[error("{0}")]
    Syntax(String),
    /// An object has a key twice.
    #[error("a key is there twice")]
    DuplicateKey,
    /// Arrays and objects are nested too deep.
    #[error("the value is nested too deep")]
    Depth,
    /// A number is too large for a float of 64 bits, for example `1e999`.
    #[error("a number is out of range")]
    Number,
}

/// Parses one JSON value whose arrays and objects are nested at most `depth_limit` deep. With a limit of 0 it accepts no array
/// and no object. `serde_json` has a limit of 128 itself.
///
/// # Errors
///
/// Returns the first problem of the text, and its place in the value.
///
/// ```
/// use access::json::{JsonProblem, parse};
///
/// assert_eq!(parse(br#"{"name": "a"}"#, 16)?["name"], "a");
/// let error = parse(br#"{"name": "a", "name": "b"}"#, 16).unwrap_err();
/// assert_eq!((error.path.to_string().as_str(), error.problem), ("name", JsonProblem::DuplicateKey));
/// # Ok::<(), access::json::JsonError>(())
/// ```
pub fn parse(text: &[u8], depth_limit: usize) -> Result<Value, JsonError> {
    let mut position = Position::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Tree { position: &mut position, depth: depth_limit }.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let problem = position.problem.unwrap_or_else(|| {
            let message = error.to_string();
            // serde_json has no type for this error.
            if message.starts_with("number out of range") { JsonProblem::Number } else { JsonProblem::Syntax(message) }
        });
        let path = if position.steps.is_empty() { FieldPath::Body } else { FieldPath::Value(position.steps) };
        JsonError { path, problem }
    })
}

/// The position of the parser in the value. After an error it is the position of the error.
#[derive(Default)]
struct Position {
    steps: Vec<PathStep>,
    /// The reason of an error, if `serde_json` does not check for it.
    problem: Option<JsonProblem>,
}

/// Deserializes one value and tracks its position.
struct Tree<'a> {
    position: &'a mut Position,
    /// The number of levels that may be inside this value.
    depth: usize,
}

impl Tree<'_> {
    /// Records a problem that `serde_json` does not check, and returns the error that ends the parsing.
    fn fail<E: serde::de::Error>(&mut self, problem: JsonProblem) -> E {
        self.position.problem = Some(problem);
        E::custom("")
    }

    /// Returns the depth limit of the values inside this one.
    fn inner_depth<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| self.fail(JsonProblem::Depth))
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
        let depth = self.inner_depth()?;
        let mut values = Vec::new();
        loop {
            self.position.steps.push(PathStep::Index(values.len()));
            let Some(value) = seq.next_element_seed(Tree { position: self.position, depth })? else { break };
            self.position.steps.pop();
            values.push(value);
        }
        self.position.steps.pop();
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.inner_depth()?;
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let is_duplicate = values.contains_key(&key);
            self.position.steps.push(PathStep::Field(key.clone().into()));
            if is_duplicate {
                return Err(self.fail(JsonProblem::DuplicateKey));
            }
            let value = map.next_value_seed(Tree { position: self.position, depth })?;
            self.position.steps.pop();
            values.insert(key, value);
        }
        Ok(values.into())
    }
}
