//! The text of a migration: its sections for each engine, its statements, and their tokens.
//!
//! The lines after `-- on sqlite:` or `-- on postgres:` are for that engine alone, up to `-- on both:` or the end.

use std::{borrow::Cow, fmt, iter::once};

use sqlparser::{
    dialect::PostgreSqlDialect,
    tokenizer::{Location, Token as SqlToken, TokenWithSpan, Tokenizer},
};

const SECTION: &str = "-- on ";

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `SQLite`.
    Sqlite,
    /// `PostgreSQL`.
    Postgres,
}

impl Engine {
    /// Returns the line that begins the section for this engine.
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

/// Returns the text for an engine. The lines for the other one are replaced by empty lines, which keeps the line numbers. The error is a
/// line that looks like the first line of a section, but names no engine.
pub(super) fn select_section(text: &str, engine: Engine) -> Result<Cow<'_, str>, &str> {
    if !text.lines().any(|line| line.starts_with(SECTION)) {
        return Ok(text.into());
    }
    let mut is_selected = true;
    let mut selected = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim_end() {
            "-- on both:" => is_selected = true,
            line if line == engine.section() => is_selected = true,
            line if [Engine::Sqlite, Engine::Postgres].iter().any(|other| line == other.section()) => is_selected = false,
            // An ordinary comment may begin with `-- on `. With a colon at its end it is a misspelled section.
            line if line.starts_with(SECTION) && line.ends_with(':') => return Err(line),
            _ if is_selected => selected.push_str(line),
            _ => {}
        }
        selected.push('\n');
    }
    Ok(selected.into())
}

/// A word, a quoted name, a string or a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// The offset of its first byte.
    pub(super) start: usize,
}

impl<'a> Token<'a> {
    /// Returns the offset after its last byte.
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns true if the token is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }

    /// Returns the name that the token stands for: without its quotes, or in lower case if it has none.
    pub(super) fn name(&self) -> Cow<'a, str> {
        match self.text.strip_prefix('"').and_then(|inside| inside.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\"").into(),
            None if self.text.starts_with('\'') => self.text.into(),
            None => self.text.to_lowercase().into(),
        }
    }
}

/// Returns the tokens of a text, without its comments. If a quote or a comment is not closed, the rest of the text is one token, and the
/// engine reports the error.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    // The dialect of PostgreSQL also reads the statements for SQLite, which has no dollar quotes and no nested comments.
    let mut found = Vec::new();
    let mut tokenizer = Tokenizer::new(&PostgreSqlDialect {}, text).with_unescape(false);
    let is_complete = tokenizer.tokenize_with_location_into_buf(&mut found).is_ok();
    let lines: Vec<_> = once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
    let offset = |location: Location| {
        let (line, column) = (index(location.line), index(location.column));
        let start = lines.get(line).copied().unwrap_or(text.len());
        text[start..].char_indices().nth(column).map_or(text.len(), |(length, _)| start + length)
    };
    // The tokens are cut out of the text, because sqlparser does not print them as they are written.
    let token = |start: usize, end: usize| Token { text: &text[start..end], start };
    let mut tokens = Vec::with_capacity(found.len());
    let mut end = 0;
    for TokenWithSpan { token: kind, span } in &found {
        end = offset(span.end);
        if !matches!(kind, SqlToken::Whitespace(_)) {
            tokens.push(token(offset(span.start), end));
        }
    }
    let rest = text[end..].trim_start();
    if !is_complete && !rest.starts_with("/*") && !rest.is_empty() {
        tokens.push(token(text.len() - rest.len(), text.len()));
    }
    tokens
}

/// Returns the index of a line or a column, which sqlparser counts from 1.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1)
}

/// A statement of a text.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "autogenerate"), expect(dead_code, reason = "only `makemigrations` reads comments and lines"))]
pub(super) struct Statement<'a> {
    /// The comments before the statement.
    pub(super) comments: &'a str,
    /// The statement, from its first token to its last.
    pub(super) text: &'a str,
    /// Its tokens, with their offsets in the whole text.
    pub(super) tokens: Vec<Token<'a>>,
    /// The number of its first line, from 1.
    pub(super) line: usize,
}

/// Returns the statements of a text.
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

/// Returns the tokens between the parenthesis that the tokens begin with and its closing one, and the tokens after it.
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

/// Splits tokens at the commas that are in no parentheses.
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
    fn tokens_do_not_include_comments() {
        let text = "SELECT 'it''s -- one', \"a b\" /* ; */ FROM t -- ; \n WHERE x<>$1; DO $x$ a; b $x$";
        let found: Vec<_> = tokens(text).iter().map(|word| word.text).collect();
        let sql = ["SELECT", "'it''s -- one'", ",", "\"a b\"", "FROM", "t", "WHERE", "x", "<>", "$1", ";"];
        assert_eq!(found, [&sql[..], &["DO", "$x$ a; b $x$"]].concat());
        for (unfinished, rest) in
            [("a 'b", "'b"), ("a \"b", "\"b"), ("a $b$ c", "$b$ c"), ("é\n 'é;", "'é;"), ("a ''", "''"), ("a $", "$")]
        {
            assert_eq!(tokens(unfinished).last().map(|token| token.text), Some(rest), "{unfinished}");
        }
        for comment in ["/* a", "-- a", "/* /* */ ;", ""] {
            assert!(tokens(comment).is_empty(), "{comment}");
        }
        let texts = |text| tokens(text).iter().map(|token| token.text).collect::<Vec<_>>();
        assert_eq!(texts("/* /* */ ; */ E'\\';é'\r\n; é -- é"), ["E'\\';é'", ";", "é"]);
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
