//! The normal form of SQL text, for comparisons.

use crate::sql::Token;

/// Returns the tokens in a form that does not depend on case, quotes and spaces.
pub(super) fn normalize(tokens: &[Token<'_>]) -> String {
    let normal = |word: &Token<'_>| {
        let name = word.name();
        if word.text.starts_with('\'') || (word.text.starts_with('"') && quoted(&name) != *name) {
            word.text.to_owned()
        } else {
            name.to_uppercase()
        }
    };
    tokens.iter().map(normal).collect::<Vec<_>>().join(" ")
}

/// Returns a name as it is written in a statement, with quotes if it needs them.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
