//! The names of Django's tables and columns: sections of a TOML file, with Django's own names as defaults.

use serde::Deserialize;

use crate::{Join, Table};

/// The section of a table that joins two others. A missing entry has the name that Django uses by default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinSection {
    /// The name of the table.
    pub table: Option<String>,
    /// The column with the owner's key.
    pub from: Option<String>,
    /// The column with the key of the other row.
    pub to: Option<String>,
}

impl JoinSection {
    /// Returns the join of the field `field` of the table `owner`. Its columns are `from` and `to`, unless the section names
    /// others.
    pub fn resolve(&self, owner: &str, field: &str, from: &str, to: &str) -> OwnedJoin {
        OwnedJoin {
            name: self.table.clone().unwrap_or_else(|| format!("{owner}_{field}")),
            owner: owner.to_owned(),
            from: self.from.clone().unwrap_or_else(|| from.to_owned()),
            to: self.to.clone().unwrap_or_else(|| to.to_owned()),
        }
    }
}

/// A [`Join`] that owns its names.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Join`")]
pub struct OwnedJoin {
    pub name: String,
    pub owner: String,
    pub from: String,
    pub to: String,
}

impl OwnedJoin {
    /// Returns the join.
    pub fn join(&self) -> Join<'_> {
        Join { name: &self.name, owner: &self.owner, from: &self.from, to: &self.to }
    }
}

impl<'a> Table<'a> {
    /// Creates a table from its name, its key column and its other columns.
    pub fn new(name: &'a str, key: &'a str, columns: &'a [&'a str]) -> Self {
        Self { name, key, columns }
    }
}
