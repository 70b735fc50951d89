//! The reasons why no migration is written.

use std::{io, path::PathBuf};

use access::SecretFileError;
use store::UrlError;

use crate::{error::SchemaError, sql::Engine};

/// The reason why no migration is written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MakeError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Password(#[from] SecretFileError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{} has no schema.sql and migrations/: run `makemigrations` in the source tree, for example with `cargo run -p auth-service -- makemigrations`, or name the folder with --source", .0.display())]
    NoSources(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot use the scratch database: {0}")]
    Unreachable(#[source] sqlx::Error),
    #[error("schema.sql does not run on {engine}: {cause}")]
    Declared { engine: Engine, cause: sqlx::Error },
    #[error("schema.sql may contain only CREATE TABLE and CREATE INDEX statements that both engines accept, but it has `{0}`")]
    Foreign(String),
    #[error("cannot rename on {engine} with `{statement}`: {cause}")]
    Rename { statement: String, engine: Engine, cause: sqlx::Error },
    #[error(
        "the engines report different changes, so no migration can be written for both. Only on SQLite: {}. Only on PostgreSQL: {}",
        list(sqlite),
        list(postgres)
    )]
    Disagree { sqlite: Vec<String>, postgres: Vec<String> },
    #[error("possible rename: pass {} if it is one, or --no-rename to drop the old one and add the new one", .0.join(" or "))]
    Ask(Vec<String>),
    #[error(
        "{0} is NOT NULL without a default, and existing rows have no value: give it a DEFAULT, or add it without NOT NULL, fill it, and add NOT NULL in another migration"
    )]
    NoValue(String),
    #[error(
        "the engines convert {column} from {from} to {to} in different ways: add a column of the new type, fill it in a migration of your own (--empty), and drop the old column"
    )]
    Conversion { column: String, from: String, to: String },
    #[error("the generated migration fails on {engine}: {why}. Write it by hand with `makemigrations NAME --empty`")]
    Unproven { engine: Engine, why: String },
    #[error("no migration `{0}` has the same number as another one")]
    NothingToMerge(String),
    #[error("schema.sql has changes that are not in a migration: run `makemigrations`")]
    Behind,
    #[error(
        "{0} statement(s) are not safe to release: change them as described, or write `-- safe: ` and the reason above the statement"
    )]
    Unsafe(usize),
}

/// Returns the changes as one line of text.
pub(super) fn list(changes: &[String]) -> String {
    if changes.is_empty() { "nothing".to_owned() } else { changes.join("; ") }
}
