//! The database of a service: one SQL text on SQLite and on PostgreSQL.
//!
//! A query is written once, with the parameters `$1`, `$2`, …. It runs on a [`Db`] to read, or on a [`Tx`] to read and write. Only
//! this crate and `migrate` know the engines.
//!
//! ```
//! use store::{Db, Executor, Result};
//!
//! async fn rename(db: &Db, id: i64, name: &str) -> Result<bool> {
//!     let mut tx = db.begin().await?;
//!     let changed = tx.query("UPDATE things SET name = $1 WHERE id = $2").bind(name.to_owned()).bind(id).execute().await?;
//!     tx.commit().await?;
//!     Ok(changed > 0)
//! }
//! # drop(rename);
//! ```
//!
//! # Transactions
//!
//! A [`Tx`] that is dropped is rolled back. A connection is only used again if its last operation came to its end and left no transaction
//! open; otherwise it is closed. On SQLite a transaction takes the write lock of the database when it begins.
//! [`Query::for_update`] locks rows on PostgreSQL. [`Error::is_retryable`] tells whether a transaction that failed may succeed when it is
//! repeated; the guard of `access` repeats it.
//!
//! # Lists and updates
//!
//! [`page`] implements keyset pagination, [`OrderBy`] the order of a list, [`update`] update masks and etags, [`batch`] reads by many
//! ids, and [`search_key`] searches without regard to case:
//!
//! ```
//! use store::page::Page;
//!
//! // The list is part of the token, so that a token of another list is rejected.
//! let page: Page<i64> = Page::new(20, "", "things")?;
//! assert!(page.after().is_none());
//! assert!(Page::<i64>::new(20, "no token", "things").is_err());
//! # Ok::<(), access::Error>(())
//! ```
//!
//! # Engines
//!
//! [`Db::new`] takes `sqlite:FILE` or `postgres://…`. [`TimeoutArgs`] limits the time of statements and locks on PostgreSQL, and
//! [`DatabaseArgs`] has a switch for poolers in transaction mode.

mod attached;
pub mod batch;
mod database_args;
mod db;
mod derived_text;
mod error;
mod metrics;
mod order_by;
pub mod page;
mod pool;
mod query;
pub mod search_key;
mod sqlite_file;
mod statement_span;
mod table;
mod transaction;
pub mod update;

pub use self::{
    database_args::{DatabaseArgs, OpenError, TimeoutArgs},
    db::{Db, DbOptions, Executor, Timeouts, UrlError},
    error::{DriverError, Error, Result},
    order_by::OrderBy,
    query::{Parameter, Query, Row},
    sqlite_file::CreateFileError,
    table::has_table,
    transaction::Tx,
};
