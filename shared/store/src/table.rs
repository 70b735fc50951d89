//! The tables that a database has.

use crate::{Executor, Result};

/// Returns true if the database has a table with this name.
pub async fn has_table<'c>(on: impl Executor<'c>, name: &str) -> Result<bool> {
    let query = if on.is_sqlite() {
        "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = $1"
    } else {
        "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass(quote_ident($1))"
    };
    let (count,): (i64,) = on.query(query).bind(name.to_owned()).one().await?;
    Ok(count > 0)
}
