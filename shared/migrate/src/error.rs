//! The reasons why a schema cannot be used or migrated.

use std::error::Error as StdError;

use sqlx::migrate::MigrateError;

/// The reason why a schema cannot be used or migrated.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are not applied yet.
    #[error("the database has {0} unapplied migration(s): run `migrate` first")]
    Behind(usize),
    /// A newer version of the service has migrated the database.
    #[error("the database has migration {0}, which this version of the service does not have: run the version that applied it")]
    Ahead(i64),
    /// The file of an applied migration has changed.
    #[error("migration {0} was changed after it was applied to this database: restore its file, and add a new migration")]
    Changed(String),
    /// A migration is applied before another one with a lower number.
    #[error("migration {applied} is applied before {missing}, which has a lower number: give {missing} a later number")]
    OutOfOrder {
        /// The migration that is not applied.
        missing: String,
        /// The migration that is applied.
        applied: String,
    },
    /// A migration is recorded as incomplete.
    #[error("migration {0} was applied only in part: restore the database from a backup, or repair it by hand")]
    Partial(i64),
    /// All migrations are applied, but a table or a column is missing.
    #[error("the schema is damaged, restore the database from a backup: {}", message(.0))]
    Damaged(sqlx::Error),
    /// The schema cannot be read.
    #[error("cannot read the schema: {}", message(.0))]
    Unreadable(MigrateError),
    /// A migration failed and was rolled back.
    #[error("migration {name} failed and was rolled back: {}", message(cause))]
    Failed {
        /// The name of the migration.
        name: String,
        /// The error of the database.
        cause: MigrateError,
    },
    /// A migration without a transaction failed between two statements. The next run starts again with its first statement.
    #[error(
        "migration {name} failed without a transaction, so its earlier statements are not rolled back; `migrate` runs all of them again: {}",
        message(cause)
    )]
    Interrupted {
        /// The name of the migration.
        name: String,
        /// The error of the database.
        cause: sqlx::Error,
    },
    /// A line of a migration looks like the first line of a section, but names no engine.
    #[error("migration {name} has the line `{line}`: expected `-- on sqlite:`, `-- on postgres:` or `-- on both:`")]
    Section {
        /// The name of the migration.
        name: String,
        /// The line.
        line: String,
    },
    /// A migration leaves rows that violate a foreign key.
    #[error("migration {name} failed and was rolled back: rows of {table} refer to rows that do not exist")]
    Dangling {
        /// The name of the migration.
        name: String,
        /// The table with the foreign key.
        table: String,
    },
    /// The migration has no SQL that reverts it.
    #[error("migration {name} is irreversible: {why}")]
    Irreversible {
        /// The name of the migration.
        name: String,
        /// The reason in its down file.
        why: String,
    },
    /// No migration has this name.
    #[error("no migration matches {0}: `showmigrations` lists all migrations")]
    Unknown(String),
    /// More than one migration has this prefix.
    #[error("more than one migration matches {target}: {}", .names.join(", "))]
    Ambiguous {
        /// The prefix.
        target: String,
        /// The migrations that match.
        names: Vec<String>,
    },
}

/// Returns the message of the database, or the text of the error and its causes. The driver's text for an error of PostgreSQL ends in a
/// line number of the server's source code.
fn message(error: &(dyn StdError + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |cause: &&(dyn StdError + 'static)| (*cause).source());
    let database = causes.find_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error());
    database.map_or_else(|| access::error::error_chain(error), |database| database.message().to_owned())
}
