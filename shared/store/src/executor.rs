//! The two targets of a query: the database, to read, and a transaction, to read and write.

use crate::{
    Db, Tx,
    db::{Pools, Transactions},
    query::{Query, Target},
};

/// The target of a query: `&Db` to read, or `&mut Tx` to read and write.
pub trait Executor<'c> {
    /// Creates a query with the parameters `$1`, `$2`, ….
    fn query(self, sql: &'static str) -> Query<'c>;
}

impl<'c> Executor<'c> for &'c Db {
    fn query(self, sql: &'static str) -> Query<'c> {
        match &self.0 {
            Pools::Postgres(pool) => Query::postgres(sql, Target::PostgresPool(pool)),
            Pools::Sqlite { read, .. } => Query::sqlite(sql, Target::SqlitePool(read)),
        }
    }
}

impl<'c> Executor<'c> for &'c mut Tx {
    fn query(self, sql: &'static str) -> Query<'c> {
        match &mut self.0 {
            Transactions::Postgres(transaction) => Query::postgres(sql, Target::Postgres(transaction)),
            Transactions::Sqlite(transaction) => Query::sqlite(sql, Target::Sqlite(transaction)),
        }
    }
}
