//! A schema as an engine reports it, independent of how its statements are written.

use std::collections::BTreeMap;

use sqlx::{PgConnection, SqliteConnection};

use super::{
    constraint::{Constraint, Kind},
    normalize::normalize,
    text,
};
use crate::sql::tokens;

/// The table in which sqlx records the applied migrations.
const HISTORY: &str = "_sqlx_migrations";

/// The tables of a schema, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schema(pub(super) BTreeMap<String, Table>);

/// A table. Two tables are equal whatever the order of their columns and the names of their constraints.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) columns: BTreeMap<String, Column>,
    /// The constraints, with their names on PostgreSQL.
    pub(super) constraints: BTreeMap<Constraint, String>,
    /// The definitions of the indexes, by their names.
    pub(super) indexes: BTreeMap<String, String>,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns && self.indexes == other.indexes && self.constraints.keys().eq(other.constraints.keys())
    }
}

impl Eq for Table {}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) type_name: String,
    pub(super) is_required: bool,
    /// The default, or the expression of a generated column.
    pub(super) default: Option<String>,
}

/// Reads the schema of an SQLite database, and the statements that created it.
pub(super) async fn of_sqlite(connection: &mut SqliteConnection) -> sqlx::Result<(Schema, Vec<String>)> {
    let objects: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
         AND tbl_name <> $1 ORDER BY rowid",
    )
    .bind(HISTORY)
    .fetch_all(&mut *connection)
    .await?;
    let mut schema = Schema::default();
    for (_, name, _, sql) in objects.iter().filter(|(kind, ..)| kind == "table") {
        schema.0.insert(name.clone(), table_of_sqlite(connection, name, sql).await?);
    }
    for (_, name, table, sql) in objects.iter().filter(|(kind, ..)| kind == "index") {
        if let Some(table) = schema.0.get_mut(table) {
            let tokens: Vec<_> = tokens(sql).into_iter().filter(|word| !word.is("ASC")).collect();
            table.indexes.insert(name.clone(), normalize(&tokens));
        }
    }
    resolve(&mut schema);
    Ok((schema, objects.into_iter().map(|(.., sql)| sql).collect()))
}

async fn table_of_sqlite(connection: &mut SqliteConnection, name: &str, sql: &str) -> sqlx::Result<Table> {
    let mut table = Table::default();
    let mut primary = BTreeMap::new();
    let columns = sqlx::query_as("SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo($1)");
    let columns: Vec<(String, String, bool, Option<String>, i64, i64)> = columns.bind(name).fetch_all(&mut *connection).await?;
    for (column, type_name, is_required, default, position, hidden) in columns {
        if position > 0 {
            primary.insert(position, column.clone());
        }
        let default = if hidden > 1 { Some("GENERATED".to_owned()) } else { default };
        // Only SQLite accepts NULL in a primary key.
        let is_required = is_required || position > 0;
        table.columns.insert(column, Column { type_name: type_name.to_uppercase(), is_required, default });
    }
    let mut add = |kind| table.constraints.insert(Constraint { kind, state: String::new() }, String::new());
    if !primary.is_empty() {
        add(Kind::PrimaryKey(primary.into_values().collect()));
    }
    let unique = "SELECT list.seq, info.name FROM pragma_index_list($1) AS list, pragma_index_info(list.name) AS info
                  WHERE list.origin = 'u' ORDER BY list.seq, info.seqno";
    let unique: Vec<(i64, String)> = sqlx::query_as(unique).bind(name).fetch_all(&mut *connection).await?;
    for part in unique.chunk_by(|one, next| one.0 == next.0) {
        add(Kind::Unique(part.iter().map(|(_, column)| column.clone()).collect()));
    }
    let foreign =
        "SELECT id, \"table\", \"from\", \"to\", on_update, on_delete FROM pragma_foreign_key_list($1) ORDER BY id, seq";
    let foreign: Vec<(i64, String, String, Option<String>, String, String)> =
        sqlx::query_as(foreign).bind(name).fetch_all(&mut *connection).await?;
    for part in foreign.chunk_by(|one, next| one.0 == next.0) {
        let (_, referenced, _, _, on_update, on_delete) = &part[0];
        add(Kind::ForeignKey {
            columns: part.iter().map(|row| row.2.clone()).collect(),
            table: referenced.clone(),
            referenced: part.iter().filter_map(|row| row.3.clone()).collect(),
            on_update: on_update.clone(),
            on_delete: on_delete.clone(),
        });
    }
    // SQLite reports CHECK constraints only in the text of the statement.
    for constraint in text::Table::parse(sql).into_iter().flat_map(|table| table.constraints()) {
        if let Kind::Check(_) = constraint.is.kind {
            add(constraint.is.kind);
        }
    }
    Ok(table)
}

/// Adds the columns of the primary key to foreign keys that name no columns.
fn resolve(schema: &mut Schema) {
    let primary: BTreeMap<_, _> = schema
        .0
        .iter()
        .filter_map(|(name, table)| {
            let key = table.constraints.keys().find_map(|constraint| match &constraint.kind {
                Kind::PrimaryKey(columns) => Some(columns.clone()),
                _ => None,
            });
            Some((name.clone(), key?))
        })
        .collect();
    for table in schema.0.values_mut() {
        table.constraints = std::mem::take(&mut table.constraints)
            .into_iter()
            .map(|(mut constraint, name)| {
                if let Kind::ForeignKey { table, referenced, .. } = &mut constraint.kind
                    && referenced.is_empty()
                {
                    referenced.clone_from(primary.get(table).unwrap_or(&Vec::new()));
                }
                (constraint, name)
            })
            .collect();
    }
}

/// Reads the schema of the temporary tables of a PostgreSQL connection.
pub(super) async fn of_postgres(connection: &mut PgConnection) -> sqlx::Result<Schema> {
    let mut schema = Schema::default();
    let tables: Vec<(i64, String)> = sqlx::query_as(
        "SELECT oid::BIGINT, relname::TEXT FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'p')
         AND relname <> $1",
    )
    .bind(HISTORY)
    .fetch_all(&mut *connection)
    .await?;
    for (oid, name) in tables {
        let columns: Vec<(String, String, bool, Option<String>)> = sqlx::query_as(
            "SELECT a.attname::TEXT, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                    CASE WHEN a.attgenerated <> '' THEN 'GENERATED ' ELSE '' END || pg_get_expr(d.adbin, d.adrelid)
             FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = $1::OID AND a.attnum > 0 AND NOT a.attisdropped",
        )
        .bind(oid)
        .fetch_all(&mut *connection)
        .await?;
        let constraints: Vec<(String, String)> = sqlx::query_as(
            "SELECT conname::TEXT, pg_get_constraintdef(oid) FROM pg_constraint
             WHERE conrelid = $1::OID AND contype IN ('p', 'u', 'f', 'c') ORDER BY oid",
        )
        .bind(oid)
        .fetch_all(&mut *connection)
        .await?;
        // The pretty form omits the name of the schema.
        let indexes: Vec<(String, String)> = sqlx::query_as(
            "SELECT c.relname::TEXT, pg_get_indexdef(i.indexrelid, 0, TRUE) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             WHERE i.indrelid = $1::OID
               AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u'))",
        )
        .bind(oid)
        .fetch_all(&mut *connection)
        .await?;
        let column = |(name, type_name, is_required, default)| (name, Column { type_name, is_required, default });
        let constraint = |(name, text): (String, String)| Some((Constraint::parse(&tokens(&text), None)?, name));
        let table = Table {
            columns: columns.into_iter().map(column).collect(),
            constraints: constraints.into_iter().filter_map(constraint).collect(),
            indexes: indexes.into_iter().collect(),
        };
        schema.0.insert(name, table);
    }
    Ok(schema)
}
