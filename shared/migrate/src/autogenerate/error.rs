//! The reasons why no migration is written.

use std::{io, path::PathBuf};

use access::SecretFileError;
use store::UrlError;

use crate::{error::SchemaError, sql::Engine};

/// The reason why no migration is written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MakeError {
    /// The migrations are not valid, or fail on the scratch database.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The file of the password cannot be read.
    #[error(transparent)]
    Password(#[from] SecretFileError),
    /// The URL of the scratch database cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The folder has no `schema.sql` and no `migrations/`.
    #[error("{} has no schema.sql and migrations/: run `makemigrations` in the source tree, for example with `cargo run -p auth-service -- makemigrations`, or name the folder with --source", .0.display())]
    NoSources(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The scratch database cannot be used.
    #[error("cannot use the scratch database: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// The statements of `schema.sql` fail on this engine.
    #[error("schema.sql does not run on {engine}: {cause}")]
    Declared { engine: Engine, cause: sqlx::Error },
    /// A statement of `schema.sql` is not one that both engines accept.
    #[error("schema.sql may contain only CREATE TABLE and CREATE INDEX statements that both engines accept, but it has `{0}`")]
    Foreign(String),
    /// A table or a column cannot be renamed.
    #[error("cannot rename on {engine} with `{statement}`: {cause}")]
    Rename { statement: String, engine: Engine, cause: sqlx::Error },
    /// The engines report different changes.
    #[error(
        "the engines report different changes, so no migration can be written for both. Only on SQLite: {}. Only on PostgreSQL: {}",
        list(sqlite),
        list(postgres)
    )]
    Disagree { sqlite: Vec<String>, postgres: Vec<String> },
    /// A table or a column may have been renamed. Each text is a flag that says so.
    #[error("possible rename: pass {} if it is one, or --no-rename to drop the old one and add the new one", .0.join(" or "))]
    Ask(Vec<String>),
    /// A new column is NOT NULL, and existing rows have no value for it.
    #[error(
        "{0} is NOT NULL without a default, and existing rows have no value: give it a DEFAULT, or add it without NOT NULL, fill it, and add NOT NULL in another migration"
    )]
    NoValue(String),
    /// The engines convert the values of a column in different ways.
    #[error(
        "the engines convert {column} from {from} to {to} in different ways: add a column of the new type, fill it in a migration of your own (--empty), and drop the old column"
    )]
    Conversion { column: String, from: String, to: String },
    /// The generated migration does not lead to the schema, forward or backward, on this engine.
    #[error("the generated migration fails on {engine}: {why}. Write it by hand with `makemigrations NAME --empty`")]
    Unproven { engine: Engine, why: String },
    /// `--merge` names a migration whose number no other one has.
    #[error("no migration `{0}` has the same number as another one")]
    NothingToMerge(String),
    /// `--check` has found changes that are in no migration.
    #[error("schema.sql has changes that are not in a migration: run `makemigrations`")]
    Behind,
    /// This many statements are not safe to release.
    #[error(
        "{0} statement(s) are not safe to release: change them as described, or write `-- safe: ` and the reason above the statement"
    )]
    Unsafe(usize),
}

/// Returns the changes as one line of text.
pub(super) fn list(changes: &[String]) -> String {
    if changes.is_empty() { "nothing".to_owned() } else { changes.join("; ") }
}
