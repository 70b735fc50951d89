//! The source of an import: a database that Django created, or a dump.

use std::path::PathBuf;

use sqlx::{PgConnection, SqliteConnection};
use tokio_stream::Stream;

use crate::{database, dump, row::Row};

/// A table of Django's: where its rows are, what tells them apart, and which columns are read.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The table. In a dump: the model's label with an underscore for the dot.
    pub name: &'a str,
    /// The column of the primary key.
    pub key: &'a str,
    /// The other columns. One with an empty name is not read.
    pub columns: &'a [&'a str],
}

/// A table that joins two others, as Django makes for a many-to-many field.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// The table. In a dump: the owner's table, an underscore, and the name of the field.
    pub name: &'a str,
    /// The table of the model that the field belongs to.
    pub owner: &'a str,
    /// The column that names the owner.
    pub from: &'a str,
    /// The column that names the other.
    pub to: &'a str,
}

/// Where Django's rows are read from. What it reads does not change while it reads.
pub enum Source {
    /// A PostgreSQL database.
    Postgres(Box<PgConnection>),
    /// An SQLite database.
    Sqlite(Box<SqliteConnection>),
    /// What `dumpdata` wrote, in memory.
    Dump(dump::Dump),
}

/// Why Django's rows can't be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SourceError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Dump { path: PathBuf, reason: String },
    #[error("Django's database can't be read: {0}")]
    Database(#[from] sqlx::Error),
    #[error("Django's database can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("there is no table `{0}`: a mapping says where its rows are")]
    NoTable(String),
    #[error("the table `{0}` has no column `{1}`: a mapping says which it is, and an empty name that there is none")]
    NoColumn(String, String),
    #[error("`{0}` names rows by their natural keys: make the dump again without `--natural-foreign` and `--natural-primary`")]
    NaturalKeys(String),
}

/// The rows of a table, in the order of their keys.
pub type Rows<'a> = std::pin::Pin<Box<dyn Stream<Item = Result<Row, SourceError>> + Send + 'a>>;

impl Source {
    /// Opens `postgres://…`, `sqlite:…`, or the file that `dumpdata` wrote.
    ///
    /// # Errors
    ///
    /// A database or a file that can't be read.
    pub async fn open(from: &str, password: Option<&str>) -> Result<Self, SourceError> {
        match from.split_once(':') {
            Some(("postgres" | "postgresql", _)) => database::open_postgres(from, password).await,
            Some(("sqlite", _)) => database::open_sqlite(from).await,
            _ => Ok(Self::Dump(dump::Dump::read(&PathBuf::from(from))?)),
        }
    }

    /// True where there is such a table. A dump has no table without rows.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn has(&mut self, table: &str) -> Result<bool, SourceError> {
        match self {
            Self::Dump(dump) => Ok(dump.has(table)),
            database => Ok(!database.columns(table).await?.is_empty()),
        }
    }

    /// How many rows a table has.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count(&mut self, table: &str) -> Result<u64, SourceError> {
        match self {
            Self::Dump(dump) => Ok(dump.count(table)),
            database => database.count_rows(table).await,
        }
    }

    /// The rows of a table, in the order of their keys.
    ///
    /// # Errors
    ///
    /// A table or a column that is not there.
    pub async fn rows(&mut self, table: Table<'_>) -> Result<Rows<'_>, SourceError> {
        match self {
            Self::Dump(dump) => Ok(Box::pin(tokio_stream::iter(dump.rows(table)?.into_iter().map(Ok)))),
            database => database.stream(table).await,
        }
    }

    /// The pairs of keys that a table joins; none where there is no such table.
    ///
    /// # Errors
    ///
    /// A table or a column that is not there.
    pub async fn pairs(&mut self, join: Join<'_>) -> Result<Vec<(String, String)>, SourceError> {
        use tokio_stream::StreamExt;

        if let Self::Dump(dump) = self
            && !dump.has(join.name)
        {
            return dump.inlined(join);
        }
        if !self.has(join.name).await? {
            return Ok(Vec::new());
        }
        let mut rows = self.rows(Table { name: join.name, key: join.from, columns: &[join.to] }).await?;
        let mut pairs = Vec::new();
        while let Some(row) = rows.next().await {
            let row = row?;
            if let (Ok(Some(from)), Ok(Some(to))) = (row.key(join.from), row.key(join.to)) {
                pairs.push((from, to));
            }
        }
        Ok(pairs)
    }
}
