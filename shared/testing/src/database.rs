//! Test databases on both engines.

use std::fs;

use sqlx::{AssertSqlSafe, Connection, Executor as _, SqliteConnection};
use store::Db;

use crate::postgres;

/// The engine that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite: a file in a temporary folder.
    Sqlite,
    /// PostgreSQL: a database in an ephemeral cluster, or in the one that `TEST_POSTGRES_URL` names.
    Postgres,
}

/// A database of one test, which is deleted when the value is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Folder(#[expect(dead_code, reason = "held until it is dropped")] tempfile::TempDir),
    Cluster(postgres::Database),
}

impl TestDatabase {
    /// Creates an empty database.
    ///
    /// # Panics
    ///
    /// Panics if PostgreSQL cannot be started, with the command that installs it.
    pub async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let path = folder.path().join("test.db");
                fs::File::create(&path).expect("a file");
                Self { url: format!("sqlite:{}", path.display()), storage: Storage::Folder(folder) }
            }
            Engine::Postgres => {
                let database = postgres::Database::create().await;
                Self { url: database.url.clone(), storage: Storage::Cluster(database) }
            }
        }
    }

    /// Makes a backup and restores it into another folder or another cluster.
    ///
    /// # Panics
    ///
    /// Panics if the database cannot be copied.
    pub async fn copy(&self) -> Self {
        match &self.storage {
            Storage::Folder(_) => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let path = folder.path().join("test.db");
                let mut connection = SqliteConnection::connect(&self.url).await.expect("a database");
                let statement = format!("VACUUM INTO '{}'", path.display());
                connection.execute(AssertSqlSafe(statement)).await.expect("a copy");
                connection.close().await.expect("a connection that closes");
                let copy = Self { url: format!("sqlite:{}", path.display()), storage: Storage::Folder(folder) };
                // The first write switches the copy to a write-ahead log, which a read-only connection cannot do.
                copy.open().begin().await.expect("a database that can be written to").commit().await.expect("a commit");
                copy
            }
            Storage::Cluster(database) => {
                let copy = database.copy().await;
                Self { url: copy.url.clone(), storage: Storage::Cluster(copy) }
            }
        }
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the database.
    ///
    /// # Panics
    ///
    /// Never, because the harness made the URL.
    pub fn open(&self) -> Db {
        Db::new(&self.url, None, 8).expect("a URL that the harness made")
    }

    /// Returns the schema as the engine reports it, one line for each column, constraint and index. It does not depend on the order of
    /// columns or on the names of constraints.
    ///
    /// # Panics
    ///
    /// Panics if the schema cannot be read.
    pub async fn schema(&self) -> Vec<String> {
        let sql = match self.storage {
            Storage::Folder(_) => SQLITE_SCHEMA,
            Storage::Cluster(_) => POSTGRES_SCHEMA,
        };
        let db = self.open();
        let lines: Vec<(String,)> = store::Executor::query(&db, sql).all().await.expect("a schema");
        db.close().await;
        let mut lines: Vec<_> = lines.into_iter().map(|(line,)| line).collect();
        lines.sort();
        lines
    }
}

const SQLITE_SCHEMA: &str = "
    WITH tables AS (SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> '_sqlx_migrations')
    SELECT t.name || '.' || c.name || ' ' || upper(c.type) || (CASE WHEN c.\"notnull\" OR c.pk THEN ' NOT NULL' ELSE '' END)
        || coalesce(' DEFAULT ' || c.dflt_value, '') || (CASE WHEN c.pk THEN ' KEY ' || c.pk ELSE '' END)
        FROM tables AS t, pragma_table_xinfo(t.name) AS c
    UNION ALL
    SELECT t.name || ' INDEX ' || (CASE l.origin WHEN 'c' THEN l.name ELSE l.origin END) || ' ' || l.\"unique\" || l.partial || ' '
        || (SELECT group_concat(coalesce(i.name, '?') || i.\"desc\") FROM pragma_index_xinfo(l.name) AS i WHERE i.key)
        FROM tables AS t, pragma_index_list(t.name) AS l
    UNION ALL
    SELECT t.name || ' FOREIGN KEY ' || f.seq || ' ' || f.\"from\" || ' ' || f.\"table\" || ' ' || coalesce(f.\"to\", '') || ' ' || f.on_update || ' ' || f.on_delete
        FROM tables AS t, pragma_foreign_key_list(t.name) AS f
    UNION ALL
    SELECT t.name || ' CHECK ' || (length(t.sql) - length(replace(upper(t.sql), 'CHECK', ''))) FROM tables AS t";

const POSTGRES_SCHEMA: &str = "
    WITH tables AS (SELECT oid, relname::TEXT AS name FROM pg_class
        WHERE relnamespace = 'public'::REGNAMESPACE AND relkind = 'r' AND relname <> '_sqlx_migrations')
    SELECT t.name || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || (CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END)
        || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
        FROM tables AS t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT t.name || ' ' || pg_get_constraintdef(c.oid) FROM tables AS t JOIN pg_constraint AS c ON c.conrelid = t.oid WHERE c.contype <> 'n'
    UNION ALL
    SELECT t.name || ' INDEX ' || pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM tables AS t JOIN pg_index AS i ON i.indrelid = t.oid
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u'))";
