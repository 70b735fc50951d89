//! The statements of tables and indexes, with their comments. Migrations are generated from them.

use std::collections::{BTreeMap, BTreeSet};

use super::constraint::{Constraint, Kind};
pub(super) use super::normalize::quoted;
use crate::sql::{Statement, Token, parenthesized, split, statements, tokens};

/// The statements of a schema.
#[derive(Debug, Clone, Default)]
pub(super) struct SchemaText {
    /// The tables, in the order of their statements.
    pub(super) tables: Vec<Table>,
    pub(super) indexes: BTreeMap<String, Index>,
}

/// A `CREATE TABLE` statement.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    /// The whole statement, with the comments before it.
    pub(super) text: String,
    /// The range of the name in the text.
    name_range: (usize, usize),
    pub(super) columns: Vec<Column>,
    constraints: Vec<WrittenConstraint>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// The comment lines above the column.
    pub(super) comments: String,
    /// The column's name, type, NOT NULL and DEFAULT, without its constraints.
    pub(super) plain: String,
    pub(super) type_name: String,
    pub(super) default: Option<String>,
    pub(super) is_required: bool,
    pub(super) is_generated: bool,
    constraints: Vec<WrittenConstraint>,
}

/// A constraint with its text.
#[derive(Debug, Clone)]
pub(super) struct WrittenConstraint {
    pub(super) is: Constraint,
    /// The text as a constraint of the table, without its name.
    pub(super) text: String,
    /// The explicit name of the constraint.
    pub(super) name: Option<String>,
}

/// A `CREATE INDEX` statement.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) table: String,
    pub(super) text: String,
}

impl SchemaText {
    /// Parses the statements of a schema. The error is the first line of a statement that cannot be part of a schema.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut texts = Self::default();
        for statement in statements(text) {
            let source = if statement.comments.is_empty() {
                statement.text.to_owned()
            } else {
                format!("{}\n{}", statement.comments, statement.text)
            };
            if let Some(table) = Table::parse(&source) {
                texts.tables.push(table);
            } else if let Some((name, table)) = index(&statement) {
                texts.indexes.insert(name, Index { table, text: source });
            } else {
                return Err(statement.text.lines().next().unwrap_or_default().to_owned());
            }
        }
        Ok(texts)
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    pub(super) fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.table(table)?.columns.iter().find(|found| found.name == column)
    }

    /// Returns the indexes of a table, without the indexes that its constraints create.
    pub(super) fn indexes_of(&self, table: &str) -> impl Iterator<Item = &str> {
        self.indexes.values().filter(move |index| index.table == table).map(|index| index.text.as_str())
    }
}

impl Table {
    /// Parses a `CREATE TABLE` statement. Returns None for any other statement.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text);
        if !(tokens.first()?.is("CREATE") && tokens.get(1)?.is("TABLE")) {
            return None;
        }
        let name = tokens.get(2)?;
        let (inside, rest) = parenthesized(&tokens[3..])?;
        if !rest.is_empty() {
            // Options such as WITHOUT ROWID and INHERITS are not supported, because only one engine accepts each of them.
            return None;
        }
        let mut table = Self {
            name: name.name().into_owned(),
            text: text.to_owned(),
            name_range: (name.start, name.end()),
            columns: Vec::new(),
            constraints: Vec::new(),
        };
        for element in split(inside) {
            if let Some((written, [])) = constraint(text, element, None) {
                table.constraints.push(written);
            } else {
                let comments = comments(text, &tokens, element.first()?);
                table.columns.push(Column { comments, ..column(text, element)? });
            }
        }
        Some(table)
    }

    /// Returns the constraints of the table and of its columns, all written as constraints of the table. NOT NULL and DEFAULT are
    /// not among them, because they belong to the column.
    pub(super) fn constraints(&self) -> Vec<WrittenConstraint> {
        self.columns.iter().flat_map(|column| &column.constraints).chain(&self.constraints).cloned().collect()
    }

    /// Returns the text of a constraint.
    pub(super) fn written(&self, constraint: &Constraint) -> Option<WrittenConstraint> {
        self.constraints().into_iter().find(|written| written.is.kind.means(&constraint.kind))
    }

    pub(super) fn column_names(&self) -> BTreeSet<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// Returns the statement that creates the table under another name.
    pub(super) fn renamed(&self, name: &str) -> String {
        format!("{}{name}{}", &self.text[..self.name_range.0], &self.text[self.name_range.1..])
    }
}

fn column(text: &str, element: &[Token<'_>]) -> Option<Column> {
    const CLAUSES: [&str; 11] =
        ["CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS"];
    let name = element.first()?.name().into_owned();
    let is_clause = |word: &Token<'_>| CLAUSES.iter().any(|clause| word.is(clause));
    let type_end = element[1..].iter().position(is_clause).map_or(element.len(), |index| index + 1);
    let mut plain = source(text, &element[..type_end]).to_owned();
    let (mut default, mut is_required, mut is_generated, mut written) = (None, false, false, Vec::new());
    let mut rest = &element[type_end..];
    while let [first, behind @ ..] = rest {
        // A CONSTRAINT name belongs to the constraint that follows, and is dropped for NOT NULL.
        if let Some((one, left)) = constraint(text, rest, Some(&name)) {
            written.push(one);
            rest = left;
            continue;
        }
        let length = match first {
            first if first.is("CONSTRAINT") => 2,
            first if first.is("NOT") => 2,
            first if first.is("DEFAULT") => 1 + value(behind),
            first if first.is("GENERATED") || first.is("AS") => rest.len(),
            first if first.is("COLLATE") => 2,
            _ => 1,
        };
        let clause = source(text, rest.get(..length)?);
        if first.is("DEFAULT") {
            default = Some(source(text, &behind[..length - 1]).to_owned());
        }
        is_required |= first.is("NOT");
        is_generated |= first.is("GENERATED") || first.is("AS");
        if !first.is("CONSTRAINT") {
            plain = format!("{plain} {clause}");
        }
        rest = &rest[length..];
    }
    Some(Column {
        comments: String::new(),
        plain,
        type_name: source(text, &element[1..type_end]).to_uppercase(),
        default,
        is_generated,
        is_required: is_required || written.iter().any(|written| matches!(written.is.kind, Kind::PrimaryKey(_))),
        constraints: written,
        name,
    })
}

/// Returns the number of tokens of a default: `(…)`, `-1`, `f(…)`, or one token.
fn value(tokens: &[Token<'_>]) -> usize {
    let Some(first) = tokens.first() else { return 0 };
    let begin = usize::from(matches!(first.text, "-" | "+"));
    let signed = begin + usize::from(first.text != "(");
    parenthesized(&tokens[signed.min(tokens.len())..]).map_or(signed, |(inside, _)| signed + inside.len() + 2)
}

/// Parses the constraint that the tokens begin with, and returns it with the tokens after it.
fn constraint<'w, 'a>(text: &str, tokens: &'w [Token<'a>], column: Option<&str>) -> Option<(WrittenConstraint, &'w [Token<'a>])> {
    let (name, tokens) = match tokens {
        [first, name, rest @ ..] if first.is("CONSTRAINT") => (Some(name.name().into_owned()), rest),
        tokens => (None, tokens),
    };
    let ends = |word: &Token<'_>| {
        ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "REFERENCES", "NULL", "DEFAULT", "COLLATE", "GENERATED"]
            .iter()
            .any(|keyword| word.is(keyword))
    };
    let mut end = 1;
    while let Some(word) = tokens.get(end) {
        let previous = &tokens[end - 1];
        let is_action = previous.is("SET");
        let is_not_null = word.is("NOT") && tokens.get(end + 1).is_some_and(|next| next.is("NULL"));
        let is_own = word.is("REFERENCES") && tokens[0].is("FOREIGN");
        if word.text == "(" {
            end += parenthesized(&tokens[end..])?.0.len() + 2;
        } else if (ends(word) || is_not_null) && !is_action && !is_own {
            break;
        } else {
            end += 1;
        }
    }
    let own = tokens.get(..end)?;
    let is = Constraint::parse(own, column)?;
    let own_text = source(text, own);
    let own_text = match column.map(quoted) {
        Some(column) if own[0].is("REFERENCES") => format!("FOREIGN KEY ({column}) {own_text}"),
        Some(column) if own[0].is("UNIQUE") => format!("UNIQUE ({column})"),
        Some(column) if own[0].is("PRIMARY") => format!("PRIMARY KEY ({column})"),
        _ => own_text.to_owned(),
    };
    Some((WrittenConstraint { is, text: own_text, name }, &tokens[end..]))
}

/// Returns the comment lines between a token and the one before it.
fn comments(text: &str, tokens: &[Token<'_>], word: &Token<'_>) -> String {
    let begin = tokens.iter().take_while(|other| other.start < word.start).last().map_or(0, Token::end);
    let lines = text[begin..word.start].lines().skip(1).map(str::trim).filter(|line| line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the name and the table of a `CREATE INDEX` statement.
fn index(statement: &Statement<'_>) -> Option<(String, String)> {
    let mut tokens = statement.tokens.iter().filter(|word| !word.is("UNIQUE"));
    if !(tokens.next()?.is("CREATE") && tokens.next()?.is("INDEX")) {
        return None;
    }
    let name = tokens.next()?.name().into_owned();
    (tokens.next()?.is("ON")).then_some(())?;
    Some((name, tokens.next()?.name().into_owned()))
}

impl Index {
    /// Returns the statement that creates the index with CONCURRENTLY.
    pub(super) fn concurrently(&self) -> String {
        let keyword = tokens(&self.text).into_iter().find(|word| word.is("INDEX")).map_or(0, |word| word.end());
        format!("{} CONCURRENTLY{}", &self.text[..keyword], &self.text[keyword..])
    }
}

/// Returns the text from the first token to the last.
fn source<'t>(text: &'t str, tokens: &[Token<'_>]) -> &'t str {
    match tokens {
        [] => "",
        [first, ..] => &text[first.start..tokens[tokens.len() - 1].end()],
    }
}
