//! The reasons why a schema cannot be used or migrated.

use std::path::PathBuf;

use store::CreateFileError;

/// The reason why a schema cannot be used or migrated.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are not applied yet.
    #[error("the database has {0} unapplied migration(s): run `migrate` first")]
    Behind(usize),
    /// A newer version of the service has migrated the database.
    #[error(
        "the database has migration {0}, which this version of the service does not have: run the version that applied it. If its \
         changes were reverted by hand, `migrate NAME --fake` removes the record; NAME is the last migration that is applied"
    )]
    Ahead(String),
    /// The file of an applied migration has changed.
    #[error(
        "migration {0} was changed after it was applied to this database: run the version of the service that applied it. If the \
         schema is nevertheless the right one, `migrate NAME --fake` corrects the record; NAME is the last migration that is applied"
    )]
    Changed(String),
    /// A migration is applied before another one with a lower number.
    #[error(
        "migration {missing} is not applied, but {applied}, which has a higher number, is: restore the database from a backup, or apply \
         the SQL of {missing} by hand (`sqlmigrate` prints it). Then `migrate {applied} --fake` corrects the record"
    )]
    OutOfOrder {
        /// The migration that is not applied.
        missing: String,
        /// The migration that is applied.
        applied: String,
    },
    /// A migration is recorded as incomplete.
    #[error(
        "migration {0} was applied only in part: restore the database from a backup, or complete it by hand (`sqlmigrate` prints its \
         SQL). Then `migrate {0} --fake` corrects the record"
    )]
    Partial(String),
    /// The database is the one of another service.
    #[error("the database {database} belongs to {service}, not to this service: check --database-url")]
    OtherService {
        /// The name of the database.
        database: String,
        /// The name of the other service.
        service: &'static str,
    },
    /// The records are those of a service that this one does not know.
    #[error("the database {database} belongs to another service, whose migrations are {}: check --database-url", .names.join(", "))]
    UnknownService {
        /// The name of the database.
        database: String,
        /// The migrations that the database records.
        names: Vec<String>,
    },
    /// Two migrations have the same number.
    #[error("the migrations {first} and {second} have the same number: `makemigrations --merge` renumbers one of them")]
    SameNumber {
        /// The first one.
        first: String,
        /// The second one.
        second: String,
    },
    /// The SQLite file does not exist.
    #[error("there is no database file {}: `migrate` creates it", .0.display())]
    NoFile(PathBuf),
    /// The SQLite file cannot be created.
    #[error(transparent)]
    CreateFile(#[from] CreateFileError),
    /// All migrations are applied, but a table or a column is missing.
    #[error("the schema is damaged, restore the database from a backup: {}", message(.0))]
    Damaged(sqlx::Error),
    /// The schema cannot be read.
    #[error("cannot read the schema: {}", message(.0))]
    Unreadable(sqlx::Error),
    /// A migration failed and was rolled back.
    #[error("migration {name} failed and was rolled back: {}", message(cause))]
    Failed {
        /// The name of the migration.
        name: String,
        /// The error of the database.
        cause: sqlx::Error,
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

impl From<store::Error> for SchemaError {
    fn from(error: store::Error) -> Self {
        Self::Unreadable(error.into_source())
    }
}

/// Returns the message of the database, or the text of the error and its causes. The driver's text for an error of PostgreSQL ends in a
/// line number of the server's source code.
fn message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| access::error::error_chain(error), |database| database.message().to_owned())
}
