//! The checks before a service serves, and the migration that the quickstart runs by itself.

use sqlx::migrate::Migrator;
use store::{Db, has_table};

use crate::{
    declared::declared_tables,
    error::SchemaError,
    history::Target,
    run::{Mode, migrate_to, plan},
};

/// Another service, whose database an operator can mistake for that of this service.
#[derive(Debug, Clone, Copy)]
pub struct OtherService {
    /// Its name.
    pub name: &'static str,
    /// A table that its database has, and that of this service does not have.
    pub table: &'static str,
}

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
/// Returns an error that says how the schema differs. It names the service whose database it is, if that is one of `others`.
pub async fn check(db: &Db, migrations: &Migrator, schema: &str, others: &[OtherService]) -> Result<(), SchemaError> {
    match plan(db, migrations, &Target::Latest, Mode::Run).await {
        Ok(changes) if changes.is_empty() => {}
        Ok(changes) => return Err(SchemaError::Behind(changes.len())),
        Err(error) => return Err(name_service(db, others, error).await),
    }
    for table in declared_tables(schema) {
        let columns: Vec<_> = table.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let query = format!("SELECT {} FROM \"{}\" WHERE 1 = 0", columns.join(", "), table.name);
        db.execute_raw(query).await.map_err(|error| SchemaError::Damaged(error.into_source()))?;
    }
    Ok(())
}

/// Replaces an error about the records of a database by one that names the service that the database belongs to, if it has a table of
/// one of `others`.
pub(crate) async fn name_service(db: &Db, others: &[OtherService], error: SchemaError) -> SchemaError {
    if !matches!(error, SchemaError::UnknownService { .. } | SchemaError::Changed(_)) {
        return error;
    }
    for other in others {
        if has_table(db, other.table).await.unwrap_or(false) {
            return SchemaError::OtherService { database: db.name(), service: other.name };
        }
    }
    error
}
