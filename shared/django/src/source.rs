//! The source of an import: a database that Django created, or a dump.

use std::path::PathBuf;

use sqlx::{PgConnection, SqliteConnection};
use tokio_stream::Stream;

use crate::{database, dump, row::Row};

/// A table of Django: its name, its key and the columns to read.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The name of the table. In a dump, the label of the model with an underscore for the dot.
    pub name: &'a str,
    /// The column of the primary key.
    pub key: &'a str,
    /// The other columns. A column with an empty name is not read.
    pub columns: &'a [&'a str],
}

/// A table that joins two others, as Django creates for a many-to-many field.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// The name of the table. In a dump, the owner's table, an underscore, and the name of the field.
    pub name: &'a str,
    /// The table of the model that the field belongs to.
    pub owner: &'a str,
    /// The column with the owner's key.
    pub from: &'a str,
    /// The column with the key of the other row.
    pub to: &'a str,
}

/// The source of Django's rows. It reads one snapshot, however long the import takes.
pub enum Source {
    /// A PostgreSQL database.
    Postgres(Box<PgConnection>),
    /// An SQLite database.
    Sqlite(Box<SqliteConnection>),
    /// A file that `dumpdata` wrote, in memory.
    Dump(dump::Dump),
}

/// The reason why Django's rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SourceError {
    /// The file of the dump, or of the SQLite database, cannot be read.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The file is not a dump that `dumpdata` wrote.
    #[error("{}: {reason}", path.display())]
    Dump { path: PathBuf, reason: String },
    /// The database of Django cannot be opened or read.
    #[error("cannot read Django's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database has returned a row that is not valid JSON.
    #[error("cannot read Django's database: {0}")]
    Json(#[from] serde_json::Error),
    /// The source has no table of this name.
    #[error("table `{0}` does not exist: name it with --map or --mapping")]
    NoTable(String),
    /// The table has no column of this name.
    #[error("table `{0}` has no column `{1}`: name it with --map or --mapping, or give it an empty name to leave it out")]
    NoColumn(String, String),
    /// The URL names a database that is neither PostgreSQL nor SQLite.
    #[error(
        "cannot read a database of the kind `{0}`: write its rows to a file with `manage.py dumpdata --output dump.json`, and pass the file to --from"
    )]
    Scheme(String),
    /// The dump has natural keys, from which no ids can be computed.
    #[error("table `{0}` of the dump has natural keys: run dumpdata again without --natural-foreign and --natural-primary")]
    NaturalKeys(String),
}

/// A stream of the rows of a table, in the order of their keys.
pub type Rows<'a> = std::pin::Pin<Box<dyn Stream<Item = Result<Row, SourceError>> + Send + 'a>>;

impl Source {
    /// Opens `postgres://…`, `sqlite:…`, or a file that `dumpdata` wrote.
    pub async fn open(from: &str, password: Option<&str>) -> Result<Self, SourceError> {
        match from.split_once(':') {
            Some(("postgres" | "postgresql", _)) => database::open_postgres(from, password).await,
            Some(("sqlite", _)) => database::open_sqlite(from).await,
            Some((scheme, rest)) if rest.starts_with("//") => Err(SourceError::Scheme(scheme.to_owned())),
            _ => Ok(Self::Dump(dump::Dump::read(&PathBuf::from(from))?)),
        }
    }

    /// Returns true if the table exists. A dump has no table without rows.
    pub async fn has(&mut self, table: &str) -> Result<bool, SourceError> {
        match self {
            Self::Dump(dump) => Ok(dump.has(table)),
            database => Ok(!database.columns(table).await?.is_empty()),
        }
    }

    /// Returns the tables whose name differs from `table` only in the label of the app, as Django's names begin with one.
    pub async fn similar_tables(&mut self, table: &str) -> Result<Vec<String>, SourceError> {
        let Some((_, model)) = table.rsplit_once('_') else { return Ok(Vec::new()) };
        let tables = match self {
            Self::Dump(dump) => dump.tables(),
            database => database.tables().await?,
        };
        // Django's own apps have models of the same names.
        let is_own = |name: &str| ["auth_", "django_", "token_blacklist_"].iter().any(|prefix| name.starts_with(prefix));
        let is_similar = |name: &String| name.rsplit_once('_').is_some_and(|(_, other)| other == model) && !is_own(name);
        let mut similar: Vec<_> = tables.into_iter().filter(is_similar).collect();
        similar.sort();
        Ok(similar)
    }

    /// Returns the number of rows of a table.
    pub async fn count(&mut self, table: &str) -> Result<u64, SourceError> {
        match self {
            Self::Dump(dump) => Ok(dump.count(table)),
            database => database.count_rows(table).await,
        }
    }

    /// Returns the rows of a table, in the order of their keys.
    ///
    /// # Errors
    ///
    /// Returns [`SourceError::NoTable`] or [`SourceError::NoColumn`] if the mapping does not fit the source.
    pub async fn rows(&mut self, table: Table<'_>) -> Result<Rows<'_>, SourceError> {
        match self {
            Self::Dump(dump) => Ok(Box::pin(tokio_stream::iter(dump.rows(table)?.into_iter().map(Ok)))),
            database => database.stream(table).await,
        }
    }

    /// Returns the pairs of keys that a table joins. It returns none if there is no such table.
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
