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

pub mod batch;
mod database_args;
mod db;
mod error;
mod metrics;
mod order_by;
pub mod page;
mod pool;
mod query;
pub mod search_key;
pub mod update;

pub use self::{
    database_args::{DatabaseArgs, OpenError, TimeoutArgs},
    db::{CreateFileError, Db, DbOptions, Executor, Timeouts, Tx, UrlError},
    error::{DriverError, Error, Result},
    order_by::OrderBy,
    query::{Parameter, Query, Row},
};
