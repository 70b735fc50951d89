//! Constraints, and their default names on PostgreSQL.

use std::collections::BTreeSet;

use super::normalize::normalize;
use crate::sql::{Token, parenthesized, tokens};

/// A constraint without its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Constraint {
    pub(super) kind: Kind,
    /// Attributes that only PostgreSQL reports: `DEFERRABLE`, `NOT VALID`.
    pub(super) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    ForeignKey {
        columns: Vec<String>,
        table: String,
        referenced: Vec<String>,
        on_update: String,
        on_delete: String,
    },
    /// The expression, as the engine reports it.
    Check(String),
}

impl Constraint {
    /// Parses a constraint of a table, or of `column`.
    pub(super) fn parse(tokens: &[Token<'_>], column: Option<&str>) -> Option<Self> {
        let own = || column.map(|column| vec![column.to_owned()]);
        let keyword = tokens.first()?;
        let (kind, rest) = if keyword.is("PRIMARY") || keyword.is("UNIQUE") {
            let rest = tokens.get(if keyword.is("PRIMARY") { 2 } else { 1 }..)?;
            let (columns, rest) = names(rest).or_else(|| Some((own()?, rest)))?;
            (if keyword.is("PRIMARY") { Kind::PrimaryKey(columns) } else { Kind::Unique(columns) }, rest)
        } else if keyword.is("CHECK") {
            let (inside, rest) = parenthesized(&tokens[1..])?;
            (Kind::Check(normalize(inside)), rest)
        } else if keyword.is("FOREIGN") {
            let (columns, rest) = names(tokens.get(2..)?)?;
            foreign(columns, rest)?
        } else if keyword.is("REFERENCES") {
            foreign(own()?, tokens)?
        } else {
            return None;
        };
        Some(Self { kind, state: normalize(rest) })
    }

    /// Returns the columns that the constraint uses. For a CHECK it returns every word that may be a column.
    pub(super) fn mentions(&self) -> Vec<String> {
        match &self.kind {
            Kind::PrimaryKey(columns) | Kind::Unique(columns) | Kind::ForeignKey { columns, .. } => columns.clone(),
            Kind::Check(expression) => tokens(expression).iter().map(|word| word.name().into_owned()).collect(),
        }
    }

    /// Returns a description that is the same on both engines.
    pub(super) fn summary(&self) -> String {
        let description = match &self.kind {
            Kind::PrimaryKey(columns) => format!("PRIMARY KEY ({})", columns.join(", ")),
            Kind::Unique(columns) => format!("UNIQUE ({})", columns.join(", ")),
            Kind::ForeignKey { columns, table, referenced, on_update, on_delete } => format!(
                "FOREIGN KEY ({}) REFERENCES {table} ({}) ON UPDATE {on_update} ON DELETE {on_delete}",
                columns.join(", "),
                referenced.join(", ")
            ),
            // The engines write the same expression in different ways.
            Kind::Check(_) => "CHECK".to_owned(),
        };
        format!("{description} {}", self.state).trim_end().to_owned()
    }

    /// Returns the name that PostgreSQL gives a constraint without one.
    pub(super) fn default_name(&self, table: &str, columns: &BTreeSet<String>) -> String {
        match &self.kind {
            Kind::PrimaryKey(_) => format!("{table}_pkey"),
            Kind::Unique(columns) => format!("{table}_{}_key", columns.join("_")),
            Kind::ForeignKey { columns, .. } => format!("{table}_{}_fkey", columns.join("_")),
            Kind::Check(_) => {
                let mentioned: BTreeSet<_> = self.mentions().into_iter().filter(|word| columns.contains(word)).collect();
                match mentioned.first().filter(|_| mentioned.len() == 1) {
                    Some(column) => format!("{table}_{column}_check"),
                    None => format!("{table}_check"),
                }
            }
        }
    }
}

impl Kind {
    /// Returns true if the text of this constraint creates the other one. A foreign key may omit the columns that it refers to.
    pub(super) fn means(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::ForeignKey { columns, table, referenced, on_update, on_delete },
                Self::ForeignKey { referenced: meant, .. },
            ) if referenced.is_empty() => {
                let (columns, table, referenced) = (columns.clone(), table.clone(), meant.clone());
                let (on_update, on_delete) = (on_update.clone(), on_delete.clone());
                *other == Self::ForeignKey { columns, table, referenced, on_update, on_delete }
            }
            _ => self == other,
        }
    }
}

fn foreign<'w, 'a>(columns: Vec<String>, tokens: &'w [Token<'a>]) -> Option<(Kind, &'w [Token<'a>])> {
    let table = tokens.get(1)?.name().into_owned();
    let mut rest = &tokens[2..];
    let mut referenced = Vec::new();
    if let Some((names, behind)) = names(rest) {
        (referenced, rest) = (names, behind);
    }
    let [mut on_update, mut on_delete] = ["NO ACTION"; 2].map(str::to_owned);
    while let [on, event, first, behind @ ..] = rest
        && on.is("ON")
    {
        // SET NULL, SET DEFAULT and NO ACTION have two words, CASCADE and RESTRICT have one.
        let takes_two = first.is("SET") || first.is("NO");
        let action = normalize(rest.get(2..if takes_two { 4 } else { 3 })?);
        rest = if takes_two { &behind[1..] } else { behind };
        *(if event.is("UPDATE") { &mut on_update } else { &mut on_delete }) = action;
    }
    Some((Kind::ForeignKey { columns, table, referenced, on_update, on_delete }, rest))
}

/// Returns the names in parentheses that the tokens begin with, and the tokens after them.
fn names<'w, 'a>(tokens: &'w [Token<'a>]) -> Option<(Vec<String>, &'w [Token<'a>])> {
    let (inside, rest) = parenthesized(tokens)?;
    Some((inside.iter().filter(|word| word.text != ",").map(|word| word.name().into_owned()).collect(), rest))
}
