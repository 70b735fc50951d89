//! The text of a migration: which of it is for which engine, its statements, and their tokens.
//!
//! What follows a line `-- on sqlite:` or `-- on postgres:` is for that engine alone, until `-- on both:` or the end.

use std::{borrow::Cow, fmt, iter};

const SECTION: &str = "-- on ";

/// What a database runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `SQLite`.
    Sqlite,
    /// `PostgreSQL`.
    Postgres,
}

impl Engine {
    /// The line that begins what is for it alone.
    pub(super) fn section(self) -> &'static str {
        match self {
            Self::Sqlite => "-- on sqlite:",
            Self::Postgres => "-- on postgres:",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// What of a text is for an engine. The lines that are not are empty, so that those that are keep their numbers.
///
/// # Errors
///
/// The line of a section that is none.
pub(super) fn select_section(text: &str, engine: Engine) -> Result<Cow<'_, str>, &str> {
    if !text.lines().any(|line| line.starts_with(SECTION)) {
        return Ok(text.into());
    }
    let mut is_for_it = true;
    let mut chosen = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim_end() {
            "-- on both:" => is_for_it = true,
            line if line == engine.section() => is_for_it = true,
            line if [Engine::Sqlite, Engine::Postgres].iter().any(|other| line == other.section()) => is_for_it = false,
            // A comment may begin like this. One that ends like a section is a section that is misspelled.
            line if line.starts_with(SECTION) && line.ends_with(':') => return Err(line),
            _ if is_for_it => chosen.push_str(line),
            _ => {}
        }
        chosen.push('\n');
    }
    Ok(chosen.into())
}

/// A word, a quoted name or text, or a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Where it begins in the text.
    pub(super) start: usize,
}

impl<'a> Token<'a> {
    /// Where the next may begin.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// True for this word of the language.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }

    /// As a name: without its quotes, or in the lower case that a name without quotes means.
    pub(super) fn name(&self) -> Cow<'a, str> {
        match self.text.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\"").into(),
            None if self.text.starts_with('\'') => self.text.into(),
            None => self.text.to_lowercase().into(),
        }
    }
}

/// The tokens of a text, without its comments.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut at = 0;
    iter::from_fn(|| {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next()?;
            let length = match first {
                c if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                '-' if rest.starts_with("--") => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '/' if rest.starts_with("/*") => {
                    at += rest.find("*/").map_or(rest.len(), |end| end + 2);
                    continue;
                }
                '\'' | '"' => quoted(rest, first),
                '$' => dollars(rest),
                c if c.is_alphanumeric() || c == '_' => {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            let word = Token { text: &rest[..length], start: at };
            at += length;
            return Some(word);
        }
    })
    .collect()
}

/// How long a quoted word is. A quote that stands twice is one inside.
fn quoted(rest: &str, quote: char) -> usize {
    let mut inside = rest.char_indices().skip(1).peekable();
    while let Some((index, c)) = inside.next() {
        if c == quote && inside.next_if(|(_, next)| *next == quote).is_none() {
            return index + 1;
        }
    }
    rest.len()
}

/// How long `$tag$ … $tag$` is, or the sign alone.
fn dollars(rest: &str) -> usize {
    let Some(end) = rest[1..].find('$').map(|end| end + 2) else { return 1 };
    let tag = &rest[..end];
    if tag[1..end - 1].contains(|c: char| !c.is_alphanumeric() && c != '_') {
        return 1;
    }
    rest[end..].find(tag).map_or(rest.len(), |close| end + close + tag.len())
}

/// A statement of a text.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "autogenerate"), expect(dead_code, reason = "only `makemigrations` reads comments and lines"))]
pub(super) struct Statement<'a> {
    /// The comments before it.
    pub(super) comments: &'a str,
    /// Itself, from its first word to its last.
    pub(super) text: &'a str,
    /// Its tokens, whose places are those in the whole text.
    pub(super) tokens: Vec<Token<'a>>,
    /// The line that it begins on; the first is 1.
    pub(super) line: usize,
}

/// The statements of a text.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut begin = 0;
    for tokens in tokens(text).split_inclusive(|word| word.text == ";") {
        let statement = match tokens {
            [statement @ .., last] if last.text == ";" => statement,
            unfinished => unfinished,
        };
        if let [first, ..] = statement {
            let (start, end) = (first.start, statement[statement.len() - 1].end());
            statements.push(Statement {
                comments: text[begin..start].trim(),
                text: &text[start..end],
                tokens: statement.to_vec(),
                line: text[..start].matches('\n').count() + 1,
            });
        }
        begin = tokens[tokens.len() - 1].end();
    }
    statements
}

/// What stands between the parenthesis that the tokens begin with and its other, and what follows.
pub(super) fn parenthesized<'w, 'a>(tokens: &'w [Token<'a>]) -> Option<(&'w [Token<'a>], &'w [Token<'a>])> {
    let mut depth = 0;
    if tokens.first()?.text != "(" {
        return None;
    }
    let end = tokens.iter().position(|word| {
        depth += i32::from(word.text == "(") - i32::from(word.text == ")");
        depth == 0
    })?;
    Some((&tokens[1..end], &tokens[end + 1..]))
}

/// What stands between the commas that are in no parentheses.
pub(super) fn split<'w, 'a>(tokens: &'w [Token<'a>]) -> impl Iterator<Item = &'w [Token<'a>]> {
    let mut depth = 0;
    tokens
        .split(move |word| {
            depth += i32::from(word.text == "(") - i32::from(word.text == ")");
            depth == 0 && word.text == ","
        })
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_comments() {
        let text = "SELECT 'it''s -- one', \"a b\" /* ; */ FROM t -- ; \n WHERE x<>$1; DO $x$ a; b $x$";
        let found: Vec<_> = tokens(text).iter().map(|word| word.text).collect();
        let sql = ["SELECT", "'it''s -- one'", ",", "\"a b\"", "FROM", "t", "WHERE", "x", "<", ">", "$", "1", ";"];
        assert_eq!(found, [&sql[..], &["DO", "$x$ a; b $x$"]].concat());
        for unfinished in ["'", "\"a", "$a$ b", "/* a", "-- a", "$", "é", "''"] {
            tokens(unfinished);
        }
    }

    #[test]
    fn statements_have_their_comments_and_lines() {
        let found = statements("-- a\n-- b\nSELECT 1;\n\nSELECT\n2 -- c\n;; -- d\n");
        let found: Vec<_> = found.iter().map(|found| (found.comments, found.text, found.line)).collect();
        assert_eq!(found, [("-- a\n-- b", "SELECT 1", 3), ("", "SELECT\n2", 5)]);
    }

    #[test]
    fn a_section_is_for_one_engine_and_keeps_its_lines() {
        let text = "a\n-- on sqlite:\nb\n-- on postgres:\nc\n-- on both:\nd\n";
        assert_eq!(select_section(text, Engine::Sqlite), Ok("a\n\nb\n\n\n\nd\n".into()));
        assert_eq!(select_section(text, Engine::Postgres), Ok("a\n\n\n\nc\n\nd\n".into()));
        assert_eq!(select_section("-- on sqlight:\na", Engine::Sqlite), Err("-- on sqlight:"));
        assert_eq!(select_section("-- on the other hand\na", Engine::Sqlite), Ok("-- on the other hand\na\n".into()));
        assert_eq!(select_section("a", Engine::Sqlite), Ok("a".into()));
    }
}
