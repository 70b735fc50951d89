//! The migrations of a service, the ones that are applied, and the operations that lead to a target.

use std::{convert::Infallible, fmt, str::FromStr};

use sqlx::migrate::{AppliedMigration, Migration as MigrationFile, Migrator};

use crate::error::SchemaError;

/// The prefix of the first line of a down file that cannot revert its migration. The reason follows the prefix.
const IRREVERSIBLE: &str = "-- irreversible:";

/// The target of `migrate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All migrations are applied.
    Latest,
    /// No migration is applied.
    Zero,
    /// This migration is the last one applied. It is given by its number, its name, or a prefix of its name.
    Named(String),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "zero" { Self::Zero } else { Self::Named(text.to_owned()) })
    }
}

/// An operation on the migration with this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The migration is applied.
    Apply(String),
    /// The migration is reverted.
    Unapply(String),
}

impl Change {
    /// Returns the name of the migration, for example `0001_initial`.
    pub fn name(&self) -> &str {
        match self {
            Self::Apply(name) | Self::Unapply(name) => name,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply(name) => write!(f, "Apply {name}"),
            Self::Unapply(name) => write!(f, "Unapply {name}"),
        }
    }
}

/// The migrations of a service in their order, and how many of them are applied.
pub(super) struct History<'a> {
    migrations: Vec<Migration<'a>>,
    applied: usize,
}

/// The two files of a migration.
#[derive(Clone, Copy)]
pub(super) struct Migration<'a> {
    pub(super) up: &'a MigrationFile,
    pub(super) down: Option<&'a MigrationFile>,
}

impl Migration<'_> {
    /// Returns the name of its files, for example `0001_initial`.
    pub(super) fn name(&self) -> String {
        format!("{:04}_{}", self.up.version, self.up.description.replace(' ', "_"))
    }

    /// Returns the reason why the migration cannot be reverted, or None if it can be reverted.
    fn irreversible(&self) -> Option<String> {
        let Some(down) = self.down else { return Some("it has no .down.sql file".to_owned()) };
        let reason = down.sql.as_str().trim_start().strip_prefix(IRREVERSIBLE)?;
        Some(reason.lines().next().unwrap_or_default().trim().to_owned())
    }
}

impl<'a> History<'a> {
    /// Creates the history of a database with the applied migrations.
    pub(super) fn new(migrations: &'a Migrator, applied: &[AppliedMigration]) -> Result<Self, SchemaError> {
        let down = |version| migrations.iter().find(|other| other.version == version && other.migration_type.is_down_migration());
        let ups = migrations.iter().filter(|migration| !migration.migration_type.is_down_migration());
        let mut sorted: Vec<_> = ups.map(|up| Migration { up, down: down(up.version) }).collect();
        sorted.sort_by_key(|migration| migration.up.version);
        for applied in applied {
            match sorted.iter().find(|migration| migration.up.version == applied.version) {
                None => return Err(SchemaError::Ahead(applied.version)),
                Some(migration) if migration.up.checksum != applied.checksum => {
                    return Err(SchemaError::Changed(migration.name()));
                }
                Some(_) => {}
            }
        }
        let is_applied = |migration: &Migration<'_>| applied.iter().any(|applied| applied.version == migration.up.version);
        let first_missing = sorted.iter().position(|migration| !is_applied(migration)).unwrap_or(sorted.len());
        if let Some(later) = sorted[first_missing..].iter().find(|migration| is_applied(migration)) {
            return Err(SchemaError::OutOfOrder { missing: sorted[first_missing].name(), applied: later.name() });
        }
        Ok(Self { migrations: sorted, applied: first_missing })
    }

    /// Returns all migrations in their order.
    pub(super) fn migrations(&self) -> impl Iterator<Item = &Migration<'a>> {
        self.migrations.iter()
    }

    /// Returns the operations that lead to the target. It returns an error if one of them would revert an irreversible migration,
    /// so that no operation runs if the target cannot be reached.
    pub(super) fn plan(&self, target: &Target, is_fake: bool) -> Result<Vec<(Change, Migration<'a>)>, SchemaError> {
        let wanted = match target {
            Target::Latest => self.migrations.len(),
            Target::Zero => 0,
            Target::Named(name) => self.find(name)? + 1,
        };
        if wanted >= self.applied {
            let ahead = &self.migrations[self.applied..wanted];
            return Ok(ahead.iter().map(|migration| (Change::Apply(migration.name()), *migration)).collect());
        }
        let behind = self.migrations[wanted..self.applied].iter().rev();
        behind
            .map(|migration| match migration.irreversible().filter(|_| !is_fake) {
                None => Ok((Change::Unapply(migration.name()), *migration)),
                Some(why) => Err(SchemaError::Irreversible { name: migration.name(), why }),
            })
            .collect()
    }

    /// Returns the index of the migration that `target` names.
    fn find(&self, target: &str) -> Result<usize, SchemaError> {
        let is_number = |migration: &Migration<'_>| target.parse() == Ok(migration.up.version);
        if let Some(index) = self.migrations.iter().position(|migration| is_number(migration) || migration.name() == target) {
            return Ok(index);
        }
        let matching = |index: &usize| self.migrations[*index].name().starts_with(target);
        match (0..self.migrations.len()).filter(matching).collect::<Vec<_>>().as_slice() {
            [] => Err(SchemaError::Unknown(target.to_owned())),
            [index] => Ok(*index),
            several => Err(SchemaError::Ambiguous {
                target: target.to_owned(),
                names: several.iter().map(|index| self.migrations[*index].name()).collect(),
            }),
        }
    }
}

/// Returns the SQL that applies a migration, or that reverts it if `backwards`.
pub(super) fn sql<'a>(migrations: &'a Migrator, name: &str, backwards: bool) -> Result<&'a str, SchemaError> {
    let history = History::new(migrations, &[])?;
    let migration = history.migrations[history.find(name)?];
    match (backwards, migration.down) {
        (false, _) => Ok(migration.up.sql.as_str()),
        (true, Some(down)) => Ok(down.sql.as_str()),
        (true, None) => Err(SchemaError::Irreversible { name: migration.name(), why: "it has no .down.sql file".to_owned() }),
    }
}
