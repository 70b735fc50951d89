//! The checks before a service serves, and the migration that the quickstart runs by itself.

use sqlx::migrate::Migrator;
use store::Db;

use crate::{
    declared::declared_tables,
    error::SchemaError,
    history::Target,
    run::{Mode, migrate_to, plan},
};

/// Applies the migrations that are not applied yet, and returns how many that were. Several processes may do it at once: one
/// migrates, the others wait and find nothing to do.
///
/// # Errors
///
/// Returns an error if the schema is not that of this service, or if a migration fails.
pub async fn migrate(db: &Db, migrations: &Migrator) -> Result<usize, SchemaError> {
    migrate_to(db, migrations, &Target::Latest, Mode::Run, |_| {}).await
}

/// Checks that the database has the schema of this version of the service: every migration is applied, and every table and column
/// that `schema` (the text of `schema.sql`) declares can be read.
///
/// # Errors
///
/// Returns an error that says how the schema differs.
pub async fn check(db: &Db, migrations: &Migrator, schema: &str) -> Result<(), SchemaError> {
    match plan(db, migrations, &Target::Latest, Mode::Run).await?.len() {
        0 => {}
        behind => return Err(SchemaError::Behind(behind)),
    }
    for table in declared_tables(schema) {
        let columns: Vec<_> = table.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let query = format!("SELECT {} FROM \"{}\" WHERE 1 = 0", columns.join(", "), table.name);
        db.execute_raw(query).await.map_err(|error| SchemaError::Damaged(error.into_source()))?;
    }
    Ok(())
}
