//! The migrations of a service, the ones that are applied, and the operations that lead to a target.

use std::{convert::Infallible, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migration as MigrationFile, Migrator};
use store::Db;

use crate::{error::SchemaError, records::Record};

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

/// A line of `showmigrations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the migration, for example `0001_initial`.
    pub name: String,
    /// The time when it was applied, if it is applied.
    pub applied: Option<DateTime<Utc>>,
    /// The reason why the record of the migration is not that of a database which can be served.
    pub problem: Option<Problem>,
}

/// The reason why the record of a migration is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The service has no migration with this version.
    #[error("this version of the service does not have it")]
    Unknown,
    /// The file has changed since the migration was applied.
    #[error("its file was changed after it was applied")]
    Changed,
    /// A migration with a higher number is applied.
    #[error("not applied, but a later migration is")]
    Gap,
    /// The migration was applied only in part.
    #[error("applied only in part")]
    Partial,
}

/// A change to the records: the operation, the version, and the file of a record to be written.
pub(super) type RecordChange<'a> = (Change, i64, Option<&'a MigrationFile>);

/// The migrations of a service in their order, and the records of a database.
pub(super) struct History<'a> {
    migrations: Vec<Migration<'a>>,
    records: Vec<Record>,
    /// The name of the database, for messages.
    database: String,
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
        file_name(self.up.version, &self.up.description)
    }

    /// Returns the reason why the migration cannot be reverted, or None if it can be reverted.
    fn irreversible(&self) -> Option<String> {
        let Some(down) = self.down else { return Some("it has no .down.sql file".to_owned()) };
        let reason = down.sql.as_str().trim_start().strip_prefix(IRREVERSIBLE)?;
        Some(reason.lines().next().unwrap_or_default().trim().to_owned())
    }
}

impl<'a> History<'a> {
    /// Creates the history of a database with these records.
    pub(super) fn new(migrations: &'a Migrator, records: Vec<Record>) -> Result<Self, SchemaError> {
        let down = |version| migrations.iter().find(|other| other.version == version && other.migration_type.is_down_migration());
        let ups = migrations.iter().filter(|migration| !migration.migration_type.is_down_migration());
        let mut sorted: Vec<_> = ups.map(|up| Migration { up, down: down(up.version) }).collect();
        sorted.sort_by_key(|migration| migration.up.version);
        if let Some([first, second]) = sorted.array_windows().find(|[first, second]| first.up.version == second.up.version) {
            return Err(SchemaError::SameNumber { first: first.name(), second: second.name() });
        }
        Ok(Self { migrations: sorted, records, database: String::new() })
    }

    /// Returns the history with the name of its database.
    pub(super) fn of(self, database: &Db) -> Self {
        Self { database: database.name(), ..self }
    }

    fn record(&self, version: i64) -> Option<&Record> {
        self.records.iter().find(|record| record.version == version)
    }

    /// Returns the record of a migration if it is correct.
    fn correct_record(&self, migration: &Migration<'_>) -> Option<&Record> {
        self.record(migration.up.version).filter(|record| record.is_complete && *record.checksum == *migration.up.checksum)
    }

    /// Returns the records of migrations that the service does not have.
    fn unknown(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| self.migrations.iter().all(|migration| migration.up.version != record.version))
    }

    /// Returns every migration and every record, in the order of their numbers.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let last = self.records.iter().map(|record| record.version).max().unwrap_or_default();
        let known = self.migrations.iter().map(|migration| {
            let record = self.record(migration.up.version);
            let problem = match record {
                None => (migration.up.version < last).then_some(Problem::Gap),
                Some(record) if !record.is_complete => Some(Problem::Partial),
                Some(record) => (*record.checksum != *migration.up.checksum).then_some(Problem::Changed),
            };
            (migration.up.version, Entry { name: migration.name(), applied: record.map(|record| record.time), problem })
        });
        let unknown = self.unknown().map(|record| {
            let name = file_name(record.version, &record.description);
            (record.version, Entry { name, applied: Some(record.time), problem: Some(Problem::Unknown) })
        });
        let mut entries: Vec<_> = known.chain(unknown).collect();
        entries.sort_by_key(|(version, _)| *version);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Returns the number of applied migrations. It returns an error if the records do not describe a schema of this service.
    fn applied(&self) -> Result<usize, SchemaError> {
        let is_other = |record: &Record| {
            let own = self.migrations.iter().find(|migration| migration.up.version == record.version);
            own.is_none_or(|own| own.up.description != record.description)
        };
        let has_correct = self.migrations.iter().any(|migration| self.correct_record(migration).is_some());
        if !has_correct && self.records.iter().any(is_other) {
            let names = self.records.iter().map(|record| file_name(record.version, &record.description)).collect();
            return Err(SchemaError::UnknownService { database: self.database.clone(), names });
        }
        if let Some(record) = self.records.iter().find(|record| !record.is_complete) {
            return Err(SchemaError::Partial(file_name(record.version, &record.description)));
        }
        if let Some(record) = self.unknown().next() {
            return Err(SchemaError::Ahead(file_name(record.version, &record.description)));
        }
        let is_recorded = |migration: &Migration<'_>| self.record(migration.up.version).is_some();
        if let Some(changed) =
            self.migrations.iter().find(|migration| is_recorded(migration) && self.correct_record(migration).is_none())
        {
            return Err(SchemaError::Changed(changed.name()));
        }
        let first_missing = self.migrations.iter().position(|migration| !is_recorded(migration)).unwrap_or(self.migrations.len());
        if let Some(later) = self.migrations[first_missing..].iter().find(|migration| is_recorded(migration)) {
            return Err(SchemaError::OutOfOrder { missing: self.migrations[first_missing].name(), applied: later.name() });
        }
        Ok(first_missing)
    }

    /// Returns all migrations in their order.
    pub(super) fn migrations(&self) -> impl Iterator<Item = &Migration<'a>> {
        self.migrations.iter()
    }

    /// Returns the number of migrations that are applied at the target.
    fn wanted(&self, target: &Target) -> Result<usize, SchemaError> {
        Ok(match target {
            Target::Latest => self.migrations.len(),
            Target::Zero => 0,
            Target::Named(name) => self.find(name)? + 1,
        })
    }

    /// Returns the operations that lead to the target. It returns an error if one of them would revert an irreversible migration,
    /// so that no operation runs if the target cannot be reached.
    pub(super) fn plan(&self, target: &Target) -> Result<Vec<(Change, Migration<'a>)>, SchemaError> {
        let (applied, wanted) = (self.applied()?, self.wanted(target)?);
        if wanted >= applied {
            let ahead = &self.migrations[applied..wanted];
            return Ok(ahead.iter().map(|migration| (Change::Apply(migration.name()), *migration)).collect());
        }
        let behind = self.migrations[wanted..applied].iter().rev();
        behind
            .map(|migration| match migration.irreversible() {
                None => Ok((Change::Unapply(migration.name()), *migration)),
                Some(why) => Err(SchemaError::Irreversible { name: migration.name(), why }),
            })
            .collect()
    }

    /// Returns the changes to the records after which exactly the migrations up to the target are recorded, each with its version and,
    /// for a record to be written, its file. It also repairs records that are wrong.
    pub(super) fn plan_records(&self, target: &Target) -> Result<Vec<RecordChange<'a>>, SchemaError> {
        let wanted = &self.migrations[..self.wanted(target)?];
        let is_wanted = |version| wanted.iter().any(|migration| migration.up.version == version);
        let removed = self.records.iter().rev().filter(|record| !is_wanted(record.version));
        let removed =
            removed.map(|record| (Change::Unapply(file_name(record.version, &record.description)), record.version, None));
        let added = wanted.iter().filter(|migration| self.correct_record(migration).is_none());
        let added = added.map(|migration| (Change::Apply(migration.name()), migration.up.version, Some(migration.up)));
        Ok(removed.chain(added).collect())
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

/// Returns the name of a migration's files, without their extension.
fn file_name(version: i64, description: &str) -> String {
    format!("{version:04}_{}", description.replace(' ', "_"))
}

/// Returns the SQL that applies a migration, or that reverts it if `backwards`.
pub(super) fn sql<'a>(migrations: &'a Migrator, name: &str, backwards: bool) -> Result<&'a str, SchemaError> {
    let history = History::new(migrations, Vec::new())?;
    let migration = history.migrations[history.find(name)?];
    match (backwards, migration.down) {
        (false, _) => Ok(migration.up.sql.as_str()),
        (true, Some(down)) => Ok(down.sql.as_str()),
        (true, None) => Err(SchemaError::Irreversible { name: migration.name(), why: "it has no .down.sql file".to_owned() }),
    }
}
