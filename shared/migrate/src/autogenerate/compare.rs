//! The differences between two schemas.

use std::fmt;

use super::{
    constraint::{Constraint, Kind},
    schema::{Column, Schema},
};

/// A difference. Except for `CreateTable` and `DropTable`, the table is in both schemas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    CreateTable(String),
    DropTable(String),
    AddColumn(String, String),
    DropColumn(String, String),
    Retype(String, String),
    Default(String, String),
    /// The column becomes NOT NULL.
    Require(String, String),
    /// The column is no longer NOT NULL.
    Allow(String, String),
    AddConstraint(String, Constraint),
    DropConstraint(String, Constraint),
    /// The table, and the index.
    AddIndex(String, String),
    DropIndex(String, String),
}

impl Change {
    /// Returns the change that reverts it.
    pub(super) fn inverse(self) -> Self {
        match self {
            Self::CreateTable(table) => Self::DropTable(table),
            Self::DropTable(table) => Self::CreateTable(table),
            Self::AddColumn(table, column) => Self::DropColumn(table, column),
            Self::DropColumn(table, column) => Self::AddColumn(table, column),
            Self::Retype(table, column) => Self::Retype(table, column),
            Self::Default(table, column) => Self::Default(table, column),
            Self::Require(table, column) => Self::Allow(table, column),
            Self::Allow(table, column) => Self::Require(table, column),
            Self::AddConstraint(table, constraint) => Self::DropConstraint(table, constraint),
            Self::DropConstraint(table, constraint) => Self::AddConstraint(table, constraint),
            Self::AddIndex(table, index) => Self::DropIndex(table, index),
            Self::DropIndex(table, index) => Self::AddIndex(table, index),
        }
    }

    /// Returns the table that it changes.
    pub(super) fn table(&self) -> &str {
        match self {
            Self::CreateTable(table)
            | Self::DropTable(table)
            | Self::AddColumn(table, _)
            | Self::DropColumn(table, _)
            | Self::Retype(table, _)
            | Self::Default(table, _)
            | Self::Require(table, _)
            | Self::Allow(table, _)
            | Self::AddConstraint(table, _)
            | Self::DropConstraint(table, _)
            | Self::AddIndex(table, _)
            | Self::DropIndex(table, _) => table,
        }
    }

    /// Returns a name for a migration that begins with this change.
    pub(super) fn proposed_name(&self) -> String {
        match self {
            Self::CreateTable(table) => format!("create_{table}"),
            Self::DropTable(table) => format!("drop_{table}"),
            Self::AddColumn(table, column) => format!("add_{table}_{column}"),
            Self::DropColumn(table, column) => format!("drop_{table}_{column}"),
            Self::Retype(table, column)
            | Self::Default(table, column)
            | Self::Require(table, column)
            | Self::Allow(table, column) => format!("change_{table}_{column}"),
            Self::AddConstraint(table, _) | Self::DropConstraint(table, _) => format!("constrain_{table}"),
            Self::AddIndex(_, index) => format!("add_{index}"),
            Self::DropIndex(_, index) => format!("drop_{index}"),
        }
    }
}

/// Formats the change as a line of the output. The lines of both engines are the same for the same change.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateTable(table) => write!(f, "+ table {table}"),
            Self::DropTable(table) => write!(f, "- table {table}"),
            Self::AddColumn(table, column) => write!(f, "+ column {table}.{column}"),
            Self::DropColumn(table, column) => write!(f, "- column {table}.{column}"),
            Self::Retype(table, column) => write!(f, "~ type of {table}.{column}"),
            Self::Default(table, column) => write!(f, "~ default of {table}.{column}"),
            Self::Require(table, column) => write!(f, "+ NOT NULL on {table}.{column}"),
            Self::Allow(table, column) => write!(f, "- NOT NULL on {table}.{column}"),
            Self::AddConstraint(table, constraint) => write!(f, "+ {} on {table}", constraint.summary()),
            Self::DropConstraint(table, constraint) => write!(f, "- {} on {table}", constraint.summary()),
            Self::AddIndex(table, index) => write!(f, "+ index {index} on {table}"),
            Self::DropIndex(table, index) => write!(f, "- index {index} on {table}"),
        }
    }
}

/// Returns the changes from one schema to the other, in no particular order.
pub(super) fn changes(before: &Schema, after: &Schema) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in before.0.keys().filter(|name| !after.0.contains_key(*name)) {
        changes.push(Change::DropTable(name.clone()));
    }
    for (name, new) in &after.0 {
        let Some(old) = before.0.get(name) else {
            changes.push(Change::CreateTable(name.clone()));
            continue;
        };
        for (column, new) in &new.columns {
            match old.columns.get(column) {
                None => changes.push(Change::AddColumn(name.clone(), column.clone())),
                Some(old) => changes.extend(changes_of_column(name, column, old, new)),
            }
        }
        let gone = old.columns.keys().filter(|column| !new.columns.contains_key(*column));
        changes.extend(gone.map(|column| Change::DropColumn(name.clone(), column.clone())));
        let added = new.constraints.keys().filter(|constraint| !old.constraints.contains_key(constraint));
        changes.extend(added.map(|constraint| Change::AddConstraint(name.clone(), constraint.clone())));
        let gone = old.constraints.keys().filter(|constraint| !new.constraints.contains_key(constraint));
        changes.extend(gone.map(|constraint| Change::DropConstraint(name.clone(), constraint.clone())));
        for (index, text) in &old.indexes {
            if new.indexes.get(index) != Some(text) {
                changes.push(Change::DropIndex(name.clone(), index.clone()));
            }
        }
        for (index, text) in &new.indexes {
            if old.indexes.get(index) != Some(text) {
                changes.push(Change::AddIndex(name.clone(), index.clone()));
            }
        }
    }
    changes
}

fn changes_of_column(table: &str, name: &str, old: &Column, new: &Column) -> Vec<Change> {
    let names = || (table.to_owned(), name.to_owned());
    let mut changes = Vec::new();
    let mut differ = |is_different: bool, change: fn(String, String) -> Change| {
        if is_different {
            let (table, column) = names();
            changes.push(change(table, column));
        }
    };
    differ(old.type_name != new.type_name, Change::Retype);
    differ(old.default != new.default, Change::Default);
    differ(!old.is_required && new.is_required, Change::Require);
    differ(old.is_required && !new.is_required, Change::Allow);
    changes
}

/// Returns the possible renames as values of `--rename`: pairs of a dropped and an added table or column of the same definition.
pub(super) fn possible_renames(changes: &[Change], before: &Schema, after: &Schema) -> Vec<String> {
    let mut renames = Vec::new();
    for change in changes {
        for other in changes {
            match (change, other) {
                (Change::DropTable(old), Change::CreateTable(new)) if before.0[old].columns == after.0[new].columns => {
                    renames.push(format!("{old}={new}"));
                }
                (Change::DropColumn(table, old), Change::AddColumn(same, new))
                    if table == same && before.0[table].columns[old] == after.0[table].columns[new] =>
                {
                    renames.push(format!("{table}.{old}={new}"));
                }
                _ => {}
            }
        }
    }
    renames
}

/// Returns the changes that only one of the engines reports.
pub(super) fn disagreement(one: &[Change], other: &[Change]) -> (Vec<String>, Vec<String>) {
    let lines = |changes: &[Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (mut one, mut other) = (lines(one), lines(other));
    one.retain(|line| match other.iter().position(|same| same == line) {
        Some(index) => {
            other.swap_remove(index);
            false
        }
        None => true,
    });
    (one, other)
}

/// Returns true if the constraint is a foreign key.
pub(super) fn is_foreign(constraint: &Constraint) -> bool {
    matches!(constraint.kind, Kind::ForeignKey { .. })
}
