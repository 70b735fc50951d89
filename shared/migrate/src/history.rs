//! What is applied of what there is, and the way from there to a target.

use std::{convert::Infallible, fmt, str::FromStr};

use sqlx::migrate::{AppliedMigration, Migration as MigrationFile, Migrator};

use crate::error::SchemaError;

/// What a down file that undoes nothing begins with, before the reason.
const IRREVERSIBLE: &str = "-- irreversible:";

/// Where to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everything is applied.
    Latest,
    /// Nothing is applied.
    Zero,
    /// This migration is the last that is applied: its number, its name, or the beginning of it.
    Named(String),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "zero" { Self::Zero } else { Self::Named(text.to_owned()) })
    }
}

/// What is done to one migration, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is applied.
    Apply(String),
    /// It is undone.
    Unapply(String),
}

impl Change {
    /// The name of the migration, as in `0001_initial`.
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

/// The migrations of a service, the first first, and how many of them are applied.
pub(super) struct History<'a> {
    steps: Vec<Migration<'a>>,
    applied: usize,
}

/// A migration: its two files.
#[derive(Clone, Copy)]
pub(super) struct Migration<'a> {
    pub(super) up: &'a MigrationFile,
    pub(super) down: Option<&'a MigrationFile>,
}

impl Migration<'_> {
    /// As its files are named: `0001_initial`.
    pub(super) fn name(&self) -> String {
        format!("{:04}_{}", self.up.version, self.up.description.replace(' ', "_"))
    }

    /// Why it can't be undone, where it can't.
    fn irreversible(&self) -> Option<String> {
        let Some(down) = self.down else { return Some("it has no down file".to_owned()) };
        let reason = down.sql.as_str().trim_start().strip_prefix(IRREVERSIBLE)?;
        Some(reason.lines().next().unwrap_or_default().trim().to_owned())
    }
}

impl<'a> History<'a> {
    /// The history of a database that has these migrations.
    pub(super) fn of(migrations: &'a Migrator, applied: &[AppliedMigration]) -> Result<Self, SchemaError> {
        let down = |version| migrations.iter().find(|other| other.version == version && other.migration_type.is_down_migration());
        let ups = migrations.iter().filter(|migration| !migration.migration_type.is_down_migration());
        let mut steps: Vec<_> = ups.map(|up| Migration { up, down: down(up.version) }).collect();
        steps.sort_by_key(|step| step.up.version);
        for applied in applied {
            match steps.iter().find(|step| step.up.version == applied.version) {
                None => return Err(SchemaError::Ahead(applied.version)),
                Some(step) if step.up.checksum != applied.checksum => return Err(SchemaError::Changed(step.name())),
                Some(_) => {}
            }
        }
        let is_applied = |step: &Migration<'_>| applied.iter().any(|applied| applied.version == step.up.version);
        let first_missing = steps.iter().position(|step| !is_applied(step)).unwrap_or(steps.len());
        if let Some(later) = steps[first_missing..].iter().find(|step| is_applied(step)) {
            return Err(SchemaError::OutOfOrder { missing: steps[first_missing].name(), applied: later.name() });
        }
        Ok(Self { steps, applied: first_missing })
    }

    /// Every migration, the first first.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Migration<'a>> {
        self.steps.iter()
    }

    /// The steps to the target. Nothing is begun that can't be finished: going back over what can't be undone is refused.
    pub(super) fn plan(&self, target: &Target, is_fake: bool) -> Result<Vec<(Change, Migration<'a>)>, SchemaError> {
        let wanted = match target {
            Target::Latest => self.steps.len(),
            Target::Zero => 0,
            Target::Named(name) => self.find(name)? + 1,
        };
        if wanted >= self.applied {
            let ahead = &self.steps[self.applied..wanted];
            return Ok(ahead.iter().map(|step| (Change::Apply(step.name()), *step)).collect());
        }
        let behind = self.steps[wanted..self.applied].iter().rev();
        behind
            .map(|step| match step.irreversible().filter(|_| !is_fake) {
                None => Ok((Change::Unapply(step.name()), *step)),
                Some(why) => Err(SchemaError::Irreversible { name: step.name(), why }),
            })
            .collect()
    }

    /// The migration that a person means.
    fn find(&self, target: &str) -> Result<usize, SchemaError> {
        let is_number = |step: &Migration<'_>| target.parse() == Ok(step.up.version);
        if let Some(index) = self.steps.iter().position(|step| is_number(step) || step.name() == target) {
            return Ok(index);
        }
        let matching = |index: &usize| self.steps[*index].name().starts_with(target);
        match (0..self.steps.len()).filter(matching).collect::<Vec<_>>().as_slice() {
            [] => Err(SchemaError::Unknown(target.to_owned())),
            [index] => Ok(*index),
            several => Err(SchemaError::Ambiguous {
                target: target.to_owned(),
                names: several.iter().map(|index| self.steps[*index].name()).collect(),
            }),
        }
    }
}

/// The text of one migration, forwards or backwards.
pub(super) fn sql<'a>(migrations: &'a Migrator, name: &str, backwards: bool) -> Result<&'a str, SchemaError> {
    let history = History::of(migrations, &[])?;
    let step = history.steps[history.find(name)?];
    match (backwards, step.down) {
        (false, _) => Ok(step.up.sql.as_str()),
        (true, Some(down)) => Ok(down.sql.as_str()),
        (true, None) => Err(SchemaError::Irreversible { name: step.name(), why: "it has no down file".to_owned() }),
    }
}
