//! Renames, which the comparison of schemas cannot tell from a drop and an addition.

use std::str::FromStr;

use super::text::quoted;

/// A value of `--rename`: `teams=groups` or `users.nick=nickname`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rename {
    /// The table of the renamed column, under its new name. None if the table itself is renamed.
    table: Option<String>,
    old: String,
    new: String,
}

/// The error for a value that is not a rename.
#[derive(Debug, thiserror::Error)]
#[error("expected table.old=new for a column, or old=new for a table")]
pub(super) struct RenameError;

impl FromStr for Rename {
    type Err = RenameError;

    fn from_str(text: &str) -> Result<Self, RenameError> {
        let (from, new) = text.split_once('=').ok_or(RenameError)?;
        let (table, old) = from.split_once('.').map_or((None, from), |(table, old)| (Some(table), old));
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if ![table.unwrap_or("t"), old, new].into_iter().all(is_name) {
            return Err(RenameError);
        }
        Ok(Self { table: table.map(str::to_owned), old: old.to_owned(), new: new.to_owned() })
    }
}

impl Rename {
    /// Returns the statement, which is the same on both engines.
    pub(super) fn statement(&self) -> String {
        let (old, new) = (quoted(&self.old), quoted(&self.new));
        match &self.table {
            None => format!("ALTER TABLE {old} RENAME TO {new}"),
            Some(table) => format!("ALTER TABLE {} RENAME COLUMN {old} TO {new}", quoted(table)),
        }
    }

    /// Returns the rename that reverts it.
    pub(super) fn inverse(&self) -> Self {
        Self { table: self.table.clone(), old: self.new.clone(), new: self.old.clone() }
    }

    /// Returns a name for a migration that begins with this rename.
    pub(super) fn proposed_name(&self) -> String {
        match &self.table {
            None => format!("rename_{}_{}", self.old, self.new),
            Some(table) => format!("rename_{table}_{}_{}", self.old, self.new),
        }
    }
}
