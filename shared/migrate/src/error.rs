//! The reasons why a schema cannot be used or migrated.

use sqlx::migrate::MigrateError;

/// Why a schema can't be used as it is, or can't be brought to where it should be.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations that are still to be applied.
    #[error("the database is {0} migration(s) behind this version of the service: run `migrate` first")]
    Behind(usize),
    /// A newer version has migrated it.
    #[error("the database has migration {0}, which this version of the service does not know: a newer version has migrated it")]
    Ahead(i64),
    /// The text of a migration is not the one that was applied.
    #[error("migration {0} has been changed since it was applied to this database")]
    Changed(String),
    /// A migration that should have been applied before another that is.
    #[error("migration {missing} is not applied, but {applied} is, which comes after it: give it a later number")]
    OutOfOrder {
        /// What is not applied.
        missing: String,
        /// What is.
        applied: String,
    },
    /// Half of a migration.
    #[error("migration {0} was applied only in part: restore the database from a backup, or mend it by hand")]
    Partial(i64),
    /// The migrations are applied, and yet something is missing.
    #[error("the schema is damaged, and the database has to be restored from a backup: {0}")]
    Damaged(#[source] sqlx::Error),
    /// No schema can be read.
    #[error("the schema can't be read: {0}")]
    Unreadable(#[source] MigrateError),
    /// A migration does not apply, or can't be undone. It changed nothing.
    #[error("migration {name} failed, and changed nothing: {cause}")]
    Failed {
        /// Which.
        name: String,
        /// What the database says of it.
        #[source]
        cause: MigrateError,
    },
    /// A migration that runs in no transaction stopped on its way. Mended, it runs from its beginning.
    #[error("migration {name} failed, and what it did before stays; it runs from its beginning the next time: {cause}")]
    Interrupted {
        /// Which.
        name: String,
        /// What the database says of it.
        #[source]
        cause: sqlx::Error,
    },
    /// A line of a migration reads like one that says what is for which engine.
    #[error("migration {name} has the line `{line}`: it has to be `-- on sqlite:`, `-- on postgres:` or `-- on both:`")]
    Section {
        /// Which.
        name: String,
        /// The line.
        line: String,
    },
    /// A migration leaves rows that refer to rows that are not there.
    #[error("migration {name} failed, and changed nothing: rows of {table} refer to rows that are not there")]
    Dangling {
        /// Which.
        name: String,
        /// The table that refers.
        table: String,
    },
    /// There is no way back.
    #[error("migration {name} can't be undone: {why}")]
    Irreversible {
        /// Which.
        name: String,
        /// What its down file says.
        why: String,
    },
    /// No migration has this name.
    #[error("there is no migration {0}: `showmigrations` lists those that there are")]
    Unknown(String),
    /// More than one migration begins like this.
    #[error("{target} may be {}", .names.join(" or "))]
    Ambiguous {
        /// What was said.
        target: String,
        /// What it may mean.
        names: Vec<String>,
    },
}
