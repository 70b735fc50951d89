//! The place of a value in a request, and the id of the rule that it breaks.

use std::{borrow::Cow, fmt};

/// The place of a value in a request. It is displayed as in `note.tags[3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldPath {
    /// The body of an HTTP request as a whole, for an error in its syntax. It is displayed as `body`.
    Body,
    /// A value: the steps from the request to it.
    Value(Vec<PathStep>),
}

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// The field with this name, or the one at this dotted path.
    Field(Cow<'static, str>),
    /// The item of a list at this index.
    Index(usize),
    /// The entry of a map with this key.
    Key(String),
}

impl FieldPath {
    /// Returns the path of the same value, seen from the value that contains it. The body as a whole is contained in nothing.
    #[must_use]
    pub fn inside(mut self, step: PathStep) -> Self {
        if let Self::Value(steps) = &mut self {
            steps.insert(0, step);
        }
        self
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Value(steps) = self else { return f.write_str("body") };
        let mut is_empty = true;
        for step in steps {
            match step {
                PathStep::Field(name) if is_empty => f.write_str(name)?,
                PathStep::Field(name) => write!(f, ".{name}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Key(key) => write!(f, "[{key:?}]")?,
            }
            is_empty = is_empty && matches!(step, PathStep::Field(name) if name.is_empty());
        }
        Ok(())
    }
}

impl From<&str> for FieldPath {
    fn from(name: &str) -> Self {
        Self::from(name.to_owned())
    }
}

impl From<String> for FieldPath {
    fn from(name: String) -> Self {
        Self::Value(vec![PathStep::Field(name.into())])
    }
}

/// The id of a rule: `string.max_len` of `buf.validate`, or one of the service's own such as `date.past`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(&'static str);

impl RuleId {
    /// Creates an id.
    pub const fn new(id: &'static str) -> Self {
        Self(id)
    }

    /// Returns the id as text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Returns the reason of a `google.rpc.BadRequest.FieldViolation`, such as `STRING_MAX_LEN`.
    pub(crate) fn reason(self) -> String {
        self.0.replace('.', "_").to_uppercase()
    }
}

impl From<&'static str> for RuleId {
    fn from(id: &'static str) -> Self {
        Self(id)
    }
}

impl PartialEq<&str> for RuleId {
    fn eq(&self, id: &&str) -> bool {
        self.0 == *id
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_displayed_from_the_request_to_the_value() {
        let path = FieldPath::Value(Vec::new()).inside(PathStep::Index(3)).inside(PathStep::Field("tags".into()));
        assert_eq!(path.clone().inside(PathStep::Field("note".into())).to_string(), "note.tags[3]");
        assert_eq!(path.inside(PathStep::Key("a\"b".to_owned())).to_string(), r#"["a\"b"].tags[3]"#);
        assert_eq!(FieldPath::from("note.title").to_string(), "note.title");
        assert_eq!(FieldPath::Body.inside(PathStep::Field("note".into())).to_string(), "body");
    }
}
