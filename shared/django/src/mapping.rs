//! Where Django's tables and columns are: sections of a TOML file, with the usual names as defaults.

use serde::Deserialize;

use crate::{Join, Table};

/// Declares the section of a mapping for one table: its entries, with what they usually are.
#[macro_export]
macro_rules! django_section {
    ($(#[$meta:meta])* $Section:ident { $($entry:ident: $usual:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $Section {
            $(pub(crate) $entry: String,)+
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($entry: $usual.to_owned(),)+ }
            }
        }
    };
}

/// The section for a table that joins two others. What it leaves out is as Django would have it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinSection {
    /// The table.
    pub table: Option<String>,
    /// The column that names the owner.
    pub from: Option<String>,
    /// The column that names the other.
    pub to: Option<String>,
}

impl JoinSection {
    /// The join, whose field `field` belongs to the table `owner`, and whose columns are usually `from` and `to`.
    pub fn resolve(&self, owner: &str, field: &str, from: &str, to: &str) -> OwnedJoin {
        let or = |given: &Option<String>, usual: String| given.clone().unwrap_or(usual);
        OwnedJoin {
            name: or(&self.table, format!("{owner}_{field}")),
            owner: owner.to_owned(),
            from: or(&self.from, from.to_owned()),
            to: or(&self.to, to.to_owned()),
        }
    }
}

/// A [`Join`] with names of its own.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as `Join` has them")]
pub struct OwnedJoin {
    pub name: String,
    pub owner: String,
    pub from: String,
    pub to: String,
}

impl OwnedJoin {
    /// The join.
    pub fn join(&self) -> Join<'_> {
        Join { name: &self.name, owner: &self.owner, from: &self.from, to: &self.to }
    }
}

impl<'a> Table<'a> {
    /// A table by its name, its key and its other columns.
    pub fn new(name: &'a str, key: &'a str, columns: &'a [&'a str]) -> Self {
        Self { name, key, columns }
    }
}
