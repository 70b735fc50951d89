//! Brings a database to a target, one migration after the other.
//!
//! Each migration runs in a transaction of its own, together with the row that records it: a process that is killed leaves the
//! database before it or after it. Of several processes one runs, and the others wait: on PostgreSQL for an advisory lock that ends with
//! its connection, on SQLite for the transaction itself, which has begun before the history is read.
//!
//! What PostgreSQL does in no transaction (`-- no-transaction` is the first line of the file) is the exception: its statements run one by
//! one, and a migration that was killed between two of them runs from its beginning the next time. So each of them can be repeated.

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

/// The advisory lock of whoever migrates a database of PostgreSQL.
const LOCK: i64 = 0x6d69_6772_6174_6573;
/// How often it is asked for.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a migration runs, or is recorded as if it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It runs.
    Run,
    /// It is recorded, or its record is removed, and nothing else happens.
    Fake,
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum MigrationEvent<'a> {
    /// A migration starts.
    Started(&'a Change),
    /// It is finished.
    Finished,
}

/// A migration, and when it was applied, where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As in `0001_initial`.
    pub name: String,
    /// None where it is not applied.
    pub applied: Option<DateTime<Utc>>,
}

/// Migrates to the target, and returns how many migrations were applied or undone.
///
/// # Errors
///
/// Returns an error if the history is not that of `migrations`, if the target is unknown, or if a migration on the way cannot be undone.
pub async fn migrate_to(
    db: &Db,
    migrations: &Migrator,
    target: &Target,
    mode: Mode,
    mut report: impl FnMut(MigrationEvent<'_>),
) -> Result<usize, SchemaError> {
    let mut done = 0;
    match connect(db).await? {
        // A lock that is not given back goes with the connection.
        DedicatedConnection::Postgres(mut connection) => {
            lock(&mut connection).await.map_err(|error| SchemaError::Unreadable(error.into()))?;
            loop {
                let history = read(&mut connection, migrations).await?;
                let Some((change, step)) = history.plan(target, mode == Mode::Fake)?.into_iter().next() else { break };
                report(MigrationEvent::Started(&change));
                perform_on_postgres(&mut connection, migrations, &change, step, mode).await?;
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
                let Some((change, step)) = history.plan(target, mode == Mode::Fake)?.into_iter().next() else { break };
                report(MigrationEvent::Started(&change));
                perform_on_sqlite(&mut transaction, migrations, &change, step, mode).await?;
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

/// The steps to the target, none of which is taken.
///
/// # Errors
///
/// See [`migrate_to`].
pub async fn plan(db: &Db, migrations: &Migrator, target: &Target) -> Result<Vec<Change>, SchemaError> {
    let history = look(db, migrations).await?;
    Ok(history.plan(target, false)?.into_iter().map(|(change, _)| change).collect())
}

/// Every migration, the first first.
///
/// # Errors
///
/// A schema that is not this service's, and those of the database.
pub async fn history(db: &Db, migrations: &Migrator) -> Result<Vec<Entry>, SchemaError> {
    let history = look(db, migrations).await?;
    let query = db.query("SELECT version, installed_on FROM _sqlx_migrations");
    let times: Vec<(i64, DateTime<Utc>)> =
        query.all().await.map_err(|error| SchemaError::Unreadable(error.into_source().into()))?;
    let applied = |version| times.iter().find(|(applied, _)| *applied == version).map(|(_, time)| *time);
    Ok(history.steps().map(|step| Entry { name: step.name(), applied: applied(step.up.version) }).collect())
}

async fn look<'a>(db: &Db, migrations: &'a Migrator) -> Result<History<'a>, SchemaError> {
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
    History::of(migrations, &applied)
}

/// Whoever waited for the lock inside a statement would have a snapshot, and CREATE INDEX CONCURRENTLY waits for all that have one.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        let attempt = sqlx::query_as("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection);
        if let (true,) = attempt.await? {
            return Ok(());
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

pub(super) async fn perform_on_sqlite(
    connection: &mut SqliteConnection,
    migrations: &Migrator,
    change: &Change,
    step: Migration<'_>,
    mode: Mode,
) -> Result<(), SchemaError> {
    perform(connection, migrations, change, step, mode, Engine::Sqlite).await
}

pub(super) async fn perform_on_postgres(
    connection: &mut PgConnection,
    migrations: &Migrator,
    change: &Change,
    step: Migration<'_>,
    mode: Mode,
) -> Result<(), SchemaError> {
    let file = if let Change::Apply(_) = change { Some(step.up) } else { step.down };
    let Some(file) = file.filter(|file| file.no_tx && mode == Mode::Run) else {
        return perform(connection, migrations, change, step, mode, Engine::Postgres).await;
    };
    // PostgreSQL makes one transaction of statements that are sent together.
    for statement in statements(&section(change, file, Engine::Postgres)?) {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.text.to_owned())).execute(&mut *connection).await;
        done.map_err(|cause| SchemaError::Interrupted { name: change.name().to_owned(), cause })?;
    }
    perform(connection, migrations, change, step, Mode::Fake, Engine::Postgres).await
}

async fn perform<C: Migrate>(
    connection: &mut C,
    migrations: &Migrator,
    change: &Change,
    step: Migration<'_>,
    mode: Mode,
    engine: Engine,
) -> Result<(), SchemaError> {
    let table = &migrations.table_name;
    // The checksum stays that of the whole file.
    let section_of = |file: &MigrationFile| {
        let text = section(change, file, engine)?;
        Ok(MigrationFile { sql: AssertSqlSafe(text).into_sql_str(), ..file.clone() })
    };
    let outcome = match (change, mode) {
        (Change::Apply(_), Mode::Run) => connection.apply(table, &section_of(step.up)?).await.map(drop),
        (Change::Apply(_), Mode::Fake) => connection.skip(table, step.up).await,
        (Change::Unapply(_), Mode::Run) => match step.down {
            Some(down) => connection.revert(table, &section_of(down)?).await.map(drop),
            None => Err(MigrateError::VersionNotPresent(step.up.version)),
        },
        (Change::Unapply(_), Mode::Fake) => {
            // What undoes nothing leaves the record to be removed.
            let (version, description) = (step.up.version, step.up.description.clone());
            let nothing =
                MigrationFile::new(version, description, MigrationType::ReversibleDown, "SELECT 1".into_sql_str(), false);
            connection.revert(table, &nothing).await.map(drop)
        }
    };
    outcome.map_err(|cause| failed(change, cause))
}

fn section(change: &Change, file: &MigrationFile, engine: Engine) -> Result<String, SchemaError> {
    let chosen = select_section(file.sql.as_str(), engine).map(std::borrow::Cow::into_owned);
    chosen.map_err(|line| SchemaError::Section { name: change.name().to_owned(), line: line.to_owned() })
}

/// Foreign keys are not enforced while a migration runs on SQLite, or a table could not be made anew under those that refer to
/// it. So they are checked at its end.
async fn check_references(connection: &mut SqliteConnection, change: &Change) -> Result<(), SchemaError> {
    let query = sqlx::query_as("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1");
    let dangling: Option<(String,)> = query.fetch_optional(connection).await.map_err(|error| failed(change, error.into()))?;
    match dangling {
        None => Ok(()),
        Some((table,)) => Err(SchemaError::Dangling { name: change.name().to_owned(), table }),
    }
}

fn failed(change: &Change, cause: MigrateError) -> SchemaError {
    SchemaError::Failed { name: change.name().to_owned(), cause }
}
