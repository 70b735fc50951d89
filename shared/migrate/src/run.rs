//! Migrates a database to a target, one migration after the other.
//!
//! Each migration runs in a transaction of its own, together with the row that records it, so a process that is killed leaves no half
//! migration. If several processes migrate, one of them runs and the others wait: on PostgreSQL for an advisory lock that ends with its
//! connection, on SQLite for the transaction, which begins before the history is read.
//!
//! The exception is a file whose first line is `-- no-transaction`. PostgreSQL runs the statements of this file one by one. If the
//! process is killed between two statements, the next run starts again with the first one, so each statement must be repeatable.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, SqlSafeStr, SqliteConnection,
    migrate::{Migrate, MigrateError, Migration as MigrationFile, MigrationType, Migrator},
};

use crate::{
    error::SchemaError,
    history::{Change, History, Migration, Target},
    sql::{Engine, select_section, statements},
};
use store::{Db, DedicatedConnection, Executor};

/// The advisory lock that a process holds while it migrates a PostgreSQL database.
const LOCK: i64 = 0x6d69_6772_6174_6573;
/// The time between two attempts to take the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The mode of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The migration runs.
    Run,
    /// Only the record of the migration is written or removed.
    Fake,
}

/// The progress of `migrate_to`.
#[derive(Debug)]
pub enum MigrationEvent<'a> {
    /// A migration starts.
    Started(&'a Change),
    /// The migration has finished.
    Finished,
}

/// A line of `showmigrations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the migration, for example `0001_initial`.
    pub name: String,
    /// The time when it was applied, if it is applied.
    pub applied: Option<DateTime<Utc>>,
}

/// Migrates to the target, and returns how many migrations were applied or reverted.
///
/// # Errors
///
/// Returns an error if the history is not that of `migrations`, if the target is unknown, or if a migration on the way is irreversible.
pub async fn migrate_to(
    db: &Db,
    migrations: &Migrator,
    target: &Target,
    mode: Mode,
    mut report: impl FnMut(MigrationEvent<'_>),
) -> Result<usize, SchemaError> {
    let mut done = 0;
    match connect(db).await? {
        // PostgreSQL releases the lock when the connection closes.
        DedicatedConnection::Postgres(mut connection) => {
            lock(&mut connection).await.map_err(|error| SchemaError::Unreadable(error.into()))?;
            loop {
                let history = read(&mut connection, migrations).await?;
                let Some((change, migration)) = history.plan(target, mode == Mode::Fake)?.into_iter().next() else { break };
                report(MigrationEvent::Started(&change));
                perform_on_postgres(&mut connection, migrations, &change, migration, mode).await?;
                report(MigrationEvent::Finished);
                done += 1;
            }
            let _ = connection.close().await;
        }
        DedicatedConnection::Sqlite(mut connection) => {
            loop {
                let begun = connection.begin_with("BEGIN IMMEDIATE").await;
                let mut transaction = begun.map_err(|error| SchemaError::Unreadable(error.into()))?;
                let history = read(&mut *transaction, migrations).await?;
                let Some((change, migration)) = history.plan(target, mode == Mode::Fake)?.into_iter().next() else { break };
                report(MigrationEvent::Started(&change));
                perform_on_sqlite(&mut transaction, migrations, &change, migration, mode).await?;
                check_references(&mut transaction, &change).await?;
                transaction.commit().await.map_err(|error| failed(&change, error.into()))?;
                report(MigrationEvent::Finished);
                done += 1;
            }
            let _ = connection.close().await;
        }
    }
    Ok(done)
}

/// Returns the operations that lead to the target, without running them.
pub async fn plan(db: &Db, migrations: &Migrator, target: &Target) -> Result<Vec<Change>, SchemaError> {
    let history = connect_and_read(db, migrations).await?;
    Ok(history.plan(target, false)?.into_iter().map(|(change, _)| change).collect())
}

/// Returns all migrations in their order.
pub async fn history(db: &Db, migrations: &Migrator) -> Result<Vec<Entry>, SchemaError> {
    let history = connect_and_read(db, migrations).await?;
    let query = db.query("SELECT version, installed_on FROM _sqlx_migrations");
    let times: Vec<(i64, DateTime<Utc>)> =
        query.all().await.map_err(|error| SchemaError::Unreadable(error.into_source().into()))?;
    let applied = |version| times.iter().find(|(applied, _)| *applied == version).map(|(_, time)| *time);
    Ok(history.migrations().map(|migration| Entry { name: migration.name(), applied: applied(migration.up.version) }).collect())
}

async fn connect_and_read<'a>(db: &Db, migrations: &'a Migrator) -> Result<History<'a>, SchemaError> {
    match connect(db).await? {
        DedicatedConnection::Postgres(mut connection) => read(&mut connection, migrations).await,
        DedicatedConnection::Sqlite(mut connection) => read(&mut connection, migrations).await,
    }
}

pub(crate) async fn connect(db: &Db) -> Result<DedicatedConnection, SchemaError> {
    db.dedicated().await.map_err(|error| SchemaError::Unreadable(error.into()))
}

async fn read<'a, C: Migrate>(connection: &mut C, migrations: &'a Migrator) -> Result<History<'a>, SchemaError> {
    let table = &migrations.table_name;
    connection.ensure_migrations_table(table).await.map_err(SchemaError::Unreadable)?;
    if let Some(version) = connection.dirty_version(table).await.map_err(SchemaError::Unreadable)? {
        return Err(SchemaError::Partial(version));
    }
    let applied = connection.list_applied_migrations(table).await.map_err(SchemaError::Unreadable)?;
    History::new(migrations, &applied)
}

/// Takes the advisory lock. It polls, because a statement that waits for the lock holds a snapshot, and CREATE INDEX CONCURRENTLY waits
/// for every snapshot.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        let acquired = sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection);
        if let (true,) = acquired.await? {
            return Ok(());
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

pub(super) async fn perform_on_sqlite(
    connection: &mut SqliteConnection,
    migrations: &Migrator,
    change: &Change,
    migration: Migration<'_>,
    mode: Mode,
) -> Result<(), SchemaError> {
    perform(connection, migrations, change, migration, mode, Engine::Sqlite).await
}

pub(super) async fn perform_on_postgres(
    connection: &mut PgConnection,
    migrations: &Migrator,
    change: &Change,
    migration: Migration<'_>,
    mode: Mode,
) -> Result<(), SchemaError> {
    let file = if let Change::Apply(_) = change { Some(migration.up) } else { migration.down };
    let Some(file) = file.filter(|file| file.no_tx && mode == Mode::Run) else {
        return perform(connection, migrations, change, migration, mode, Engine::Postgres).await;
    };
    // PostgreSQL runs statements that are sent together in one transaction.
    for statement in statements(&section(change, file, Engine::Postgres)?) {
        let result = sqlx::raw_sql(AssertSqlSafe(statement.text.to_owned())).execute(&mut *connection).await;
        result.map_err(|cause| SchemaError::Interrupted { name: change.name().to_owned(), cause })?;
    }
    perform(connection, migrations, change, migration, Mode::Fake, Engine::Postgres).await
}

async fn perform<C: Migrate>(
    connection: &mut C,
    migrations: &Migrator,
    change: &Change,
    migration: Migration<'_>,
    mode: Mode,
    engine: Engine,
) -> Result<(), SchemaError> {
    let table = &migrations.table_name;
    // The stored checksum is the checksum of the whole file, but only the section of the engine runs.
    let section_of = |file: &MigrationFile| {
        let text = section(change, file, engine)?;
        Ok(MigrationFile { sql: AssertSqlSafe(text).into_sql_str(), ..file.clone() })
    };
    let outcome = match (change, mode) {
        (Change::Apply(_), Mode::Run) => connection.apply(table, &section_of(migration.up)?).await.map(drop),
        (Change::Apply(_), Mode::Fake) => connection.skip(table, migration.up).await,
        (Change::Unapply(_), Mode::Run) => match migration.down {
            Some(down) => connection.revert(table, &section_of(down)?).await.map(drop),
            None => Err(MigrateError::VersionNotPresent(migration.up.version)),
        },
        (Change::Unapply(_), Mode::Fake) => {
            // The statement has no effect, so that the migrator only removes the record.
            let (version, description) = (migration.up.version, migration.up.description.clone());
            let no_op = MigrationFile::new(version, description, MigrationType::ReversibleDown, "SELECT 1".into_sql_str(), false);
            connection.revert(table, &no_op).await.map(drop)
        }
    };
    outcome.map_err(|cause| failed(change, cause))
}

fn section(change: &Change, file: &MigrationFile, engine: Engine) -> Result<String, SchemaError> {
    let chosen = select_section(file.sql.as_str(), engine).map(std::borrow::Cow::into_owned);
    chosen.map_err(|line| SchemaError::Section { name: change.name().to_owned(), line: line.to_owned() })
}

/// Checks the foreign keys at the end of a migration. SQLite does not enforce them while it runs, because a table that others refer to
/// could not be rebuilt.
async fn check_references(connection: &mut SqliteConnection, change: &Change) -> Result<(), SchemaError> {
    let query = sqlx::query_as("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1");
    let violation: Option<(String,)> = query.fetch_optional(connection).await.map_err(|error| failed(change, error.into()))?;
    match violation {
        None => Ok(()),
        Some((table,)) => Err(SchemaError::Dangling { name: change.name().to_owned(), table }),
    }
}

fn failed(change: &Change, cause: MigrateError) -> SchemaError {
    SchemaError::Failed { name: change.name().to_owned(), cause }
}
