//! Reads a database that Django created. Each row is selected as one JSON object, so that both engines are read in the same way.

use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tokio_stream::StreamExt;

use crate::{Row, Rows, Source, SourceError, Table};

/// Opens a PostgreSQL database. Every query of the import reads the same snapshot.
pub(super) async fn open_postgres(url: &str, password: Option<&str>) -> Result<Source, SourceError> {
    let mut options = PgConnectOptions::from_str(url)?;
    if let Some(password) = password {
        options = options.password(password);
    }
    let mut connection = PgConnection::connect_with(&options).await?;
    connection.execute("SET TIME ZONE 'UTC'").await?;
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    Ok(Source::Postgres(Box::new(connection)))
}

/// Opens an SQLite database. Every query of the import reads the same snapshot.
pub(super) async fn open_sqlite(url: &str) -> Result<Source, SourceError> {
    let options = SqliteConnectOptions::from_str(url)?.read_only(true);
    let path = options.get_filename();
    if !path.exists() {
        return Err(SourceError::File { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() });
    }
    let mut connection: SqliteConnection = options.connect().await?;
    connection.execute("BEGIN").await?;
    Ok(Source::Sqlite(Box::new(connection)))
}

impl Source {
    pub(super) async fn columns(&mut self, table: &str) -> Result<Vec<String>, SourceError> {
        Ok(match self {
            Self::Postgres(connection) => {
                sqlx::query_scalar(
                    "SELECT column_name::text FROM information_schema.columns
                     WHERE table_schema = ANY (current_schemas(FALSE)) AND table_name = $1",
                )
                .bind(table)
                .fetch_all(&mut **connection)
                .await?
            }
            Self::Sqlite(connection) => {
                sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table).fetch_all(&mut **connection).await?
            }
            Self::Dump(_) => Vec::new(),
        })
    }

    pub(super) async fn tables(&mut self) -> Result<Vec<String>, SourceError> {
        Ok(match self {
            Self::Postgres(connection) => {
                let query =
                    "SELECT table_name::text FROM information_schema.tables WHERE table_schema = ANY (current_schemas(FALSE))";
                sqlx::query_scalar(query).fetch_all(&mut **connection).await?
            }
            Self::Sqlite(connection) => {
                let query = "SELECT name FROM sqlite_schema WHERE type = 'table'";
                sqlx::query_scalar(query).fetch_all(&mut **connection).await?
            }
            Self::Dump(_) => Vec::new(),
        })
    }

    pub(super) async fn count_rows(&mut self, table: &str) -> Result<u64, SourceError> {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {}", quoted(table)));
        let count: i64 = match self {
            Self::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(&mut **connection).await?,
            Self::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(&mut **connection).await?,
            Self::Dump(_) => 0,
        };
        Ok(u64::try_from(count).unwrap_or_default())
    }

    pub(super) async fn stream(&mut self, table: Table<'_>) -> Result<Rows<'_>, SourceError> {
        let existing = self.columns(table.name).await?;
        if existing.is_empty() {
            return Err(SourceError::NoTable(table.name.to_owned()));
        }
        let wanted: Vec<_> = [table.key].iter().chain(table.columns).copied().filter(|column| !column.is_empty()).collect();
        if let Some(missing) = wanted.iter().find(|column| !existing.iter().any(|existing| existing == *column)) {
            return Err(SourceError::NoColumn(table.name.to_owned(), (*missing).to_owned()));
        }
        let (from, key) = (quoted(table.name), quoted(table.key));
        let parse = |json: Result<String, sqlx::Error>| Ok(Row(serde_json::from_str(&json?)?));
        Ok(match self {
            Self::Postgres(connection) => {
                let columns = wanted.iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
                let sql = format!("SELECT to_jsonb(r)::text FROM (SELECT {columns} FROM {from}) r ORDER BY r.{key}");
                Box::pin(sqlx::query_scalar(AssertSqlSafe(sql)).fetch(&mut **connection).map(parse))
            }
            Self::Sqlite(connection) => {
                // JSON has no type for a BLOB. No column of the mapping is a BLOB.
                let pair = |column: &&str| {
                    let (text, column) = (column.replace('\'', "''"), quoted(column));
                    format!("'{text}', CASE typeof({column}) WHEN 'blob' THEN NULL ELSE {column} END")
                };
                let pairs = wanted.iter().map(pair).collect::<Vec<_>>().join(", ");
                let sql = format!("SELECT json_object({pairs}) FROM {from} ORDER BY {key}");
                Box::pin(sqlx::query_scalar(AssertSqlSafe(sql)).fetch(&mut **connection).map(parse))
            }
            Self::Dump(_) => Box::pin(tokio_stream::empty()),
        })
    }
}

/// Quotes the name of a table or a column.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
