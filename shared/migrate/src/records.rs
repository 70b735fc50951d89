//! The table `_sqlx_migrations`, in which a database records its migrations. sqlx's own migrator uses the same table.

use chrono::{DateTime, Utc};
use sqlx::migrate::Migration as MigrationFile;
use store::{Executor, Result, Tx, has_table};

use crate::sql::Engine;

/// A migration that the database records.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) version: i64,
    pub(super) description: String,
    /// The time when it was applied.
    pub(super) time: DateTime<Utc>,
    /// False if the migration was applied only in part.
    pub(super) is_complete: bool,
    pub(super) checksum: Vec<u8>,
}

/// The columns of a record, in the order of its fields.
type Columns = (i64, String, DateTime<Utc>, bool, Vec<u8>);

/// Creates the table if it does not exist.
pub(super) async fn create_table(tx: &mut Tx, engine: Engine) -> Result<()> {
    if has_table(&mut *tx, "_sqlx_migrations").await? {
        return Ok(());
    }
    let (time, bytes) = match engine {
        Engine::Sqlite => ("TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP", "BLOB"),
        Engine::Postgres => ("TIMESTAMPTZ NOT NULL DEFAULT now()", "BYTEA"),
    };
    let table = format!(
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on {time}, \
         success BOOLEAN NOT NULL, checksum {bytes} NOT NULL, execution_time BIGINT NOT NULL)"
    );
    tx.execute_raw(table).await
}

/// Returns the records in the order of their versions. The table must exist.
pub(super) async fn read<'c>(executor: impl Executor<'c>) -> Result<Vec<Record>> {
    let query = "SELECT version, description, installed_on, success, checksum FROM _sqlx_migrations ORDER BY version";
    let rows: Vec<Columns> = executor.query(query).all().await?;
    let record =
        |(version, description, time, is_complete, checksum)| Record { version, description, time, is_complete, checksum };
    Ok(rows.into_iter().map(record).collect())
}

/// Records a migration as applied, in place of an earlier record with its version.
pub(super) async fn insert(tx: &mut Tx, file: &MigrationFile, nanoseconds: i64) -> Result<()> {
    delete(tx, file.version).await?;
    let query =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, $2, TRUE, $3, $4)";
    let query = tx.query(query).bind(file.version).bind(file.description.to_string()).bind(file.checksum.to_vec());
    query.bind(nanoseconds).execute().await.map(drop)
}

/// Removes the record of a migration.
pub(super) async fn delete(tx: &mut Tx, version: i64) -> Result<()> {
    tx.query("DELETE FROM _sqlx_migrations WHERE version = $1").bind(version).execute().await.map(drop)
}
