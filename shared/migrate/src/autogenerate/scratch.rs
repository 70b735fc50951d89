//! Scratch databases, which are deleted when their connection closes.

use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, SqliteConnection,
    migrate::{Migrate, Migrator},
    sqlite::SqliteConnectOptions,
};

use super::{
    MakeError,
    schema::{self, Schema},
};
use crate::{
    error::SchemaError,
    history::Change,
    history::{History, Migration},
    run::Mode,
    run::{perform_on_postgres, perform_on_sqlite},
    sql::Engine,
};
use store::{Db, DedicatedConnection};

/// An empty database: SQLite in memory, or the temporary tables of a PostgreSQL connection. Temporary tables need no right to create
/// tables, and hide the tables of the database.
pub(super) enum Scratch {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Scratch {
    /// Creates a scratch database, on SQLite or on the server of a database.
    pub(super) async fn new(server: Option<&Db>) -> Result<Self, MakeError> {
        let unreachable = |error: sqlx::Error| MakeError::Unreachable(error);
        let Some(server) = server else {
            let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(false);
            return Ok(Self::Sqlite(options.connect().await.map_err(unreachable)?));
        };
        match server.dedicated().await.map_err(unreachable)? {
            DedicatedConnection::Sqlite(connection) => Ok(Self::Sqlite(connection)),
            DedicatedConnection::Postgres(mut connection) => {
                sqlx::raw_sql("SET search_path = pg_temp").execute(&mut connection).await.map_err(unreachable)?;
                Ok(Self::Postgres(connection))
            }
        }
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
        let table = &migrations.table_name;
        let created = match self {
            Self::Sqlite(connection) => connection.ensure_migrations_table(table).await,
            Self::Postgres(connection) => connection.ensure_migrations_table(table).await,
        };
        created.map_err(SchemaError::Unreadable)?;
        for migration in History::new(migrations, &[])?.migrations() {
            self.perform(migrations, &Change::Apply(migration.name()), *migration).await?;
        }
        Ok(())
    }

    /// Applies or reverts a migration.
    pub(super) async fn perform(
        &mut self,
        migrations: &Migrator,
        change: &Change,
        migration: Migration<'_>,
    ) -> Result<(), SchemaError> {
        match self {
            Self::Sqlite(connection) => perform_on_sqlite(connection, migrations, change, migration, Mode::Run).await,
            Self::Postgres(connection) => perform_on_postgres(connection, migrations, change, migration, Mode::Run).await,
        }
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
