//! Migrates a database to a target, one migration after the other.
//!
//! Each migration runs in a transaction of its own, together with the row that records it, so a process that is killed leaves no half
//! migration. If several processes migrate, one of them runs and the others wait for the lock that the transaction takes before it
//! reads the history: an advisory lock on PostgreSQL, the write lock on SQLite. The lock ends with the transaction, so it also holds behind
//! a pooler in transaction mode.
//!
//! The exception is a file whose first line is `-- no-transaction`. PostgreSQL runs the statements of this file one by one on a second
//! connection, while the transaction holds the lock. If the process is killed between two statements, the next run starts again with the
//! first one, so each statement must be repeatable.

use std::time::Duration;

use sqlx::migrate::{Migration as MigrationFile, Migrator};
use store::{Db, Executor, Tx, has_table};
use tokio::time::Instant;

use crate::{
    declared::declared_tables,
    error::SchemaError,
    history::{Change, Entry, History, Migration, Target},
    records,
    sql::{Engine, select_section, statements},
};

/// The advisory lock that a process holds while it migrates a PostgreSQL database.
const LOCK: i64 = 0x6d69_6772_6174_6573;
/// The time between two attempts to take the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The mode of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The migration runs.
    Run,
    /// The migration runs, except that the first one is only recorded if no migration is applied and all its tables exist.
    FakeInitial,
    /// Only the records are changed: afterwards exactly the migrations up to the target are recorded.
    Fake,
}

/// The progress of `migrate_to`.
#[derive(Debug)]
pub enum MigrationEvent<'a> {
    /// A migration starts.
    Started(&'a Change),
    /// The migration has finished.
    Finished {
        /// The operation.
        change: &'a Change,
        /// True if the migration was only recorded.
        is_fake: bool,
    },
}

/// Migrates to the target, and returns how many migrations were applied or reverted. An SQLite file is created if it does not exist.
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
    let db = db.for_migrations()?;
    let mut done = 0;
    let outcome = loop {
        let step = if mode == Mode::Fake {
            record_one(&db, migrations, target, &mut report).await
        } else {
            migrate_one(&db, migrations, target, mode, &mut report).await
        };
        match step {
            Ok(true) => done += 1,
            Ok(false) => break Ok(done),
            Err(error) => break Err(error),
        }
    };
    db.close().await;
    outcome
}

/// Returns the operations that lead to the target, without running them.
pub async fn plan(db: &Db, migrations: &Migrator, target: &Target, mode: Mode) -> Result<Vec<Change>, SchemaError> {
    let history = read(db, migrations).await?;
    Ok(match mode {
        Mode::Fake => history.plan_records(target)?.into_iter().map(|(change, ..)| change).collect(),
        Mode::Run | Mode::FakeInitial => history.plan(target)?.into_iter().map(|(change, _)| change).collect(),
    })
}

/// Returns all migrations of the service and of the database in their order, also if the records are wrong.
pub async fn history(db: &Db, migrations: &Migrator) -> Result<Vec<Entry>, SchemaError> {
    Ok(read(db, migrations).await?.entries())
}

async fn read<'a>(db: &Db, migrations: &'a Migrator) -> Result<History<'a>, SchemaError> {
    if let Some(path) = db.missing_file() {
        return Err(SchemaError::NoFile(path.to_owned()));
    }
    let is_recorded = has_table(db, "_sqlx_migrations").await?;
    Ok(History::new(migrations, if is_recorded { records::read(db).await? } else { Vec::new() })?.of(db))
}

/// Performs the first operation that leads to the target. Returns false if there is none.
async fn migrate_one(
    db: &Db,
    migrations: &Migrator,
    target: &Target,
    mode: Mode,
    report: &mut impl FnMut(MigrationEvent<'_>),
) -> Result<bool, SchemaError> {
    let engine = engine(db);
    let (mut tx, history) = lock(db, migrations).await?;
    let Some((change, migration)) = history.plan(target)?.into_iter().next() else {
        tx.commit().await?;
        return Ok(false);
    };
    report(MigrationEvent::Started(&change));
    let is_fake = mode == Mode::FakeInitial && is_initial_and_present(&mut tx, engine, &history, &change, migration).await?;
    let started = Instant::now();
    if !is_fake {
        perform(db, &mut tx, engine, &change, migration).await?;
    }
    let nanoseconds = if is_fake { -1 } else { i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX) };
    let recorded = match &change {
        Change::Apply(_) => records::insert(&mut tx, migration.up, nanoseconds).await,
        Change::Unapply(_) => records::delete(&mut tx, migration.up.version).await,
    };
    recorded.map_err(|error| failed(&change, error))?;
    tx.commit().await.map_err(|error| failed(&change, error))?;
    report(MigrationEvent::Finished { change: &change, is_fake });
    Ok(true)
}

/// Performs the first change to the records that leads to the target. Returns false if there is none.
async fn record_one(
    db: &Db,
    migrations: &Migrator,
    target: &Target,
    report: &mut impl FnMut(MigrationEvent<'_>),
) -> Result<bool, SchemaError> {
    let (mut tx, history) = lock(db, migrations).await?;
    let first = history.plan_records(target)?.into_iter().next();
    if let Some((change, version, file)) = &first {
        report(MigrationEvent::Started(change));
        match file {
            Some(file) => records::insert(&mut tx, file, -1).await?,
            None => records::delete(&mut tx, *version).await?,
        }
    }
    tx.commit().await?;
    if let Some((change, ..)) = &first {
        report(MigrationEvent::Finished { change, is_fake: true });
    }
    Ok(first.is_some())
}

/// Begins a transaction that holds the lock, and reads the history.
async fn lock<'a>(db: &Db, migrations: &'a Migrator) -> Result<(Tx, History<'a>), SchemaError> {
    let engine = engine(db);
    let mut tx = loop {
        let mut tx = db.begin().await?;
        if engine == Engine::Sqlite {
            break tx;
        }
        // A statement that waits for the lock would hold a snapshot, and CREATE INDEX CONCURRENTLY waits for every snapshot.
        if let (true,) = tx.query("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK).one().await? {
            break tx;
        }
        tx.commit().await?;
        tokio::time::sleep(LOCK_INTERVAL).await;
    };
    records::create_table(&mut tx, engine).await?;
    let history = History::new(migrations, records::read(&mut tx).await?)?.of(db);
    Ok((tx, history))
}

/// Runs the SQL of an operation.
async fn perform(db: &Db, tx: &mut Tx, engine: Engine, change: &Change, migration: Migration<'_>) -> Result<(), SchemaError> {
    let Some(file) = (if let Change::Apply(_) = change { Some(migration.up) } else { migration.down }) else { return Ok(()) };
    let text = section(change, file, engine)?;
    if engine == Engine::Postgres && file.no_tx {
        // PostgreSQL runs statements that are sent together in one transaction.
        for statement in statements(&text) {
            let outcome = db.execute_raw(statement.text.to_owned()).await;
            outcome.map_err(|cause| SchemaError::Interrupted { name: change.name().to_owned(), cause: cause.into_source() })?;
        }
        return Ok(());
    }
    tx.execute_raw(text).await.map_err(|error| failed(change, error))?;
    if engine == Engine::Sqlite { check_references(tx, change).await } else { Ok(()) }
}

/// Returns true if the operation applies the first migration, and the database has all its tables.
async fn is_initial_and_present(
    tx: &mut Tx,
    engine: Engine,
    history: &History<'_>,
    change: &Change,
    migration: Migration<'_>,
) -> Result<bool, SchemaError> {
    let is_initial = history.migrations().next().is_some_and(|first| first.up.version == migration.up.version);
    if !is_initial || !matches!(change, Change::Apply(_)) {
        return Ok(false);
    }
    let tables = declared_tables(&section(change, migration.up, engine)?);
    for table in &tables {
        if !has_table(&mut *tx, &table.name).await? {
            return Ok(false);
        }
    }
    Ok(!tables.is_empty())
}

fn engine(db: &Db) -> Engine {
    if db.is_sqlite() { Engine::Sqlite } else { Engine::Postgres }
}

/// Returns the text of a file for an engine.
pub(super) fn section(change: &Change, file: &MigrationFile, engine: Engine) -> Result<String, SchemaError> {
    let chosen = select_section(file.sql.as_str(), engine).map(std::borrow::Cow::into_owned);
    chosen.map_err(|line| SchemaError::Section { name: change.name().to_owned(), line: line.to_owned() })
}

/// Checks the foreign keys at the end of a migration. SQLite does not enforce them while it runs, because a table that others refer to
/// could not be rebuilt.
async fn check_references(tx: &mut Tx, change: &Change) -> Result<(), SchemaError> {
    let query = tx.query("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1");
    let violation: Option<(String,)> = query.optional().await.map_err(|error| failed(change, error))?;
    match violation {
        None => Ok(()),
        Some((table,)) => Err(SchemaError::Dangling { name: change.name().to_owned(), table }),
    }
}

fn failed(change: &Change, cause: store::Error) -> SchemaError {
    SchemaError::Failed { name: change.name().to_owned(), cause: cause.into_source() }
}
