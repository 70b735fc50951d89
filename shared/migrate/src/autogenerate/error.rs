//! The reasons why no migration is written.

use std::{io, path::PathBuf};

use access::SecretFileError;
use store::UrlError;

use crate::{error::SchemaError, sql::Engine};

/// Why no migration is written, as a sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MakeError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Password(#[from] SecretFileError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("there is no schema.sql with migrations/ beside it in {}: `makemigrations` runs where the sources are, as in `cargo run -p auth-service -- makemigrations`, or `--source FOLDER` names the folder", .0.display())]
    NoSources(PathBuf),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the scratch database can't be used: {0}")]
    Unreachable(#[source] sqlx::Error),
    #[error("schema.sql does not run on {engine}: {cause}")]
    Declared { engine: Engine, cause: sqlx::Error },
    #[error("a schema has tables and indexes that both engines know, and nothing else: `{0}`")]
    Foreign(String),
    #[error("{statement}: {engine} refuses: {cause}")]
    Rename { statement: String, engine: Engine, cause: sqlx::Error },
    #[error(
        "the engines don't see the same change, so it can't be written for both. On SQLite alone: {}. On PostgreSQL alone: {}",
        list(sqlite),
        list(postgres)
    )]
    Disagree { sqlite: Vec<String>, postgres: Vec<String> },
    #[error("was it renamed? Say so with {}, or with `--no-rename` that nothing was", .0.join(" or "))]
    Ask(Vec<String>),
    #[error(
        "{0} has to have a value in every row, and the rows that are there have none: give it a DEFAULT, or declare it without NOT NULL, fill it, and add NOT NULL in another migration"
    )]
    NoValue(String),
    #[error(
        "the type of {column} can't be changed from {from} to {to} in the same way on both engines: add a column of the new type, fill it in a migration of your own (`--empty`), and drop the old one"
    )]
    Conversion { column: String, from: String, to: String },
    #[error("what would be written does not do it on {engine}: {why}. Write it yourself: `makemigrations NAME --empty`")]
    Unproven { engine: Engine, why: String },
    #[error("the migrations don't build what schema.sql declares: run `makemigrations`")]
    Behind,
    #[error(
        "{0} statement(s) are not safe to release: go the way that is named, or write `-- safe: ` and the reason above the statement"
    )]
    Unsafe(usize),
}

/// Returns the changes in one line.
pub(super) fn list(changes: &[String]) -> String {
    if changes.is_empty() { "nothing".to_owned() } else { changes.join("; ") }
}
