//! The checks before a service serves, and the migration that the quickstart runs by itself.

use sqlx::{AssertSqlSafe, migrate::Migrator};
use store::{Db, DedicatedConnection};

use crate::{
    declared::declared_tables,
    error::SchemaError,
    history::Target,
    run::{Mode, connect, migrate_to, plan},
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
    match plan(db, migrations, &Target::Latest).await?.len() {
        0 => {}
        behind => return Err(SchemaError::Behind(behind)),
    }
    let queries = declared_tables(schema).into_iter().map(|table| {
        let columns: Vec<_> = table.columns.iter().map(|column| format!("\"{column}\"")).collect();
        format!("SELECT {} FROM \"{}\" WHERE 1 = 0", columns.join(", "), table.name)
    });
    let mut connection = connect(db).await?;
    for query in queries {
        let query = sqlx::raw_sql(AssertSqlSafe(query));
        let outcome = match &mut connection {
            DedicatedConnection::Postgres(connection) => query.execute(connection).await.map(drop),
            DedicatedConnection::Sqlite(connection) => query.execute(connection).await.map(drop),
        };
        outcome.map_err(SchemaError::Damaged)?;
    }
    Ok(())
}
