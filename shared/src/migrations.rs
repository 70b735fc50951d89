//! The schema of a service: applied by `migrate`, and checked before anything is served.

pub use sqlx::migrate::Migrator;
use sqlx::{
    Acquire, Connection,
    migrate::{AppliedMigration, Migrate, MigrateError},
};

use crate::db::{Db, Dedicated, Executor};

/// Why a schema can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations that are still to be applied.
    #[error("the database is {0} migration(s) behind this version of the service: run `migrate` first")]
    Behind(usize),
    /// A newer version has migrated it.
    #[error("the database has migration {0}, which this version of the service does not know: a newer version has migrated it")]
    Ahead(i64),
    /// The text of a migration is not the one that was applied.
    #[error("migration {0} has been changed since it was applied to this database")]
    Changed(i64),
    /// Half of a migration.
    #[error("migration {0} was applied only in part: restore the database from a backup, or mend it by hand")]
    Partial(i64),
    /// The migrations are applied, and yet something is missing.
    #[error("the schema is damaged, and the database has to be restored from a backup: {0}")]
    Damaged(#[source] sqlx::Error),
    /// No schema can be read.
    #[error("the schema can't be read: {0}")]
    Unreadable(#[source] MigrateError),
    /// A migration does not apply.
    #[error("the database could not be migrated: {0}")]
    Failed(#[source] MigrateError),
}

/// Applies what is not applied yet, and answers how many migrations that were. On PostgreSQL several may do it at once: one
/// does it, the others wait and find nothing to do. SQLite knows no such lock: of two at once, one may fail, and changes nothing.
///
/// # Errors
///
/// A schema that is not this service's, and those of the database.
pub async fn migrate(db: &Db, migrations: &Migrator) -> Result<usize, SchemaError> {
    // A lock that a migration leaves behind when it fails goes with the connection.
    match db.dedicated().await.map_err(|error| SchemaError::Unreadable(error.into()))? {
        Dedicated::Postgres(connection) => migrate_on(connection, migrations).await,
        Dedicated::Sqlite(connection) => migrate_on(connection, migrations).await,
    }
}

/// Checks that the schema is exactly the one that this version of the service was made for. `probes` are queries that find
/// nothing, and that every table of the service answers.
///
/// # Errors
///
/// What is wrong with it, as a sentence.
pub async fn check(db: &Db, migrations: &Migrator, probes: &[&'static str]) -> Result<(), SchemaError> {
    let pending = match db.dedicated().await.map_err(|error| SchemaError::Unreadable(error.into()))? {
        Dedicated::Postgres(mut connection) => pending(&mut connection, migrations).await,
        Dedicated::Sqlite(mut connection) => pending(&mut connection, migrations).await,
    };
    match pending? {
        0 => {}
        behind => return Err(SchemaError::Behind(behind)),
    }
    for probe in probes {
        db.query(probe).execute().await.map_err(SchemaError::Damaged)?;
    }
    Ok(())
}

async fn migrate_on<C>(mut connection: C, migrations: &Migrator) -> Result<usize, SchemaError>
where
    C: Migrate + Connection,
    for<'a> &'a mut C: Acquire<'a, Connection = &'a mut C>,
{
    connection.lock().await.map_err(SchemaError::Failed)?;
    let behind = pending(&mut connection, migrations).await?;
    migrations.run_direct(None, &mut connection, false).await.map_err(SchemaError::Failed)?;
    Ok(behind)
}

/// How many migrations are still to be applied.
async fn pending<C: Migrate>(connection: &mut C, migrations: &Migrator) -> Result<usize, SchemaError> {
    let table = &migrations.table_name;
    connection.ensure_migrations_table(table).await.map_err(SchemaError::Unreadable)?;
    if let Some(version) = connection.dirty_version(table).await.map_err(SchemaError::Unreadable)? {
        return Err(SchemaError::Partial(version));
    }
    let applied = connection.list_applied_migrations(table).await.map_err(SchemaError::Unreadable)?;
    let known: Vec<_> = migrations.iter().filter(|migration| migration.migration_type.is_up_migration()).collect();
    for AppliedMigration { version, checksum, .. } in &applied {
        match known.iter().find(|migration| migration.version == *version) {
            None => return Err(SchemaError::Ahead(*version)),
            Some(migration) if migration.checksum != *checksum => return Err(SchemaError::Changed(*version)),
            Some(_) => {}
        }
    }
    Ok(known.len() - applied.len())
}
