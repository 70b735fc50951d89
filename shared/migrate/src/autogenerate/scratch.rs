//! Scratch databases, which are deleted when their connection closes.

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, SqliteConnection, migrate::Migrator, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

use super::{
    MakeError,
    schema::{self, Schema},
};
use crate::{
    error::SchemaError,
    history::{Change, History, Migration},
    run::section,
    sql::{Engine, statements},
};

/// An empty database: SQLite in memory, or the temporary tables of a PostgreSQL connection. Temporary tables need no right to create
/// tables, and hide the tables of the database.
pub(super) enum Scratch {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Scratch {
    /// Creates a scratch database, on SQLite or on a PostgreSQL server.
    pub(super) async fn new(server: Option<&PgConnectOptions>) -> Result<Self, MakeError> {
        let Some(server) = server else {
            let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(false);
            return Ok(Self::Sqlite(options.connect().await.map_err(MakeError::Unreachable)?));
        };
        let mut connection = server.connect().await.map_err(MakeError::Unreachable)?;
        let setup = sqlx::raw_sql("SET search_path = pg_temp; SET client_min_messages = warning");
        setup.execute(&mut connection).await.map_err(MakeError::Unreachable)?;
        Ok(Self::Postgres(connection))
    }

    pub(super) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// Runs statements.
    pub(super) async fn execute(&mut self, sql: &str) -> sqlx::Result<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => sql.execute(connection).await.map(drop),
            Self::Postgres(connection) => sql.execute(connection).await.map(drop),
        }
    }

    /// Applies every migration.
    pub(super) async fn build(&mut self, migrations: &Migrator) -> Result<(), SchemaError> {
        for migration in History::new(migrations, Vec::new())?.migrations() {
            self.perform(&Change::Apply(migration.name()), *migration).await?;
        }
        Ok(())
    }

    /// Applies or reverts a migration.
    pub(super) async fn perform(&mut self, change: &Change, migration: Migration<'_>) -> Result<(), SchemaError> {
        let Some(file) = (if let Change::Apply(_) = change { Some(migration.up) } else { migration.down }) else { return Ok(()) };
        let text = section(change, file, self.engine())?;
        let failed = |cause| SchemaError::Failed { name: change.name().to_owned(), cause };
        if file.no_tx && self.engine() == Engine::Postgres {
            for statement in statements(&text) {
                self.execute(statement.text).await.map_err(failed)?;
            }
            return Ok(());
        }
        self.execute(&text).await.map_err(failed)
    }

    /// Reads the schema.
    pub(super) async fn schema(&mut self) -> Result<Schema, MakeError> {
        let read = match self {
            Self::Sqlite(connection) => schema::of_sqlite(connection).await.map(|(schema, _)| schema),
            Self::Postgres(connection) => schema::of_postgres(connection).await,
        };
        read.map_err(MakeError::Unreachable)
    }

    /// Reads the statements of the schema. Only SQLite keeps them.
    pub(super) async fn texts(&mut self) -> Result<String, MakeError> {
        match self {
            Self::Sqlite(connection) => {
                let (_, texts) = schema::of_sqlite(connection).await.map_err(MakeError::Unreachable)?;
                Ok(texts.join("\n;\n"))
            }
            Self::Postgres(_) => Ok(String::new()),
        }
    }
}
