//! Queries: one SQL text, bound to the driver of the engine that it runs on.

use std::sync::Arc;

use access::Clock;
use chrono::{DateTime, Utc};
use sqlx::{
    Encode, FromRow, PgConnection, Postgres, Sqlite, SqliteConnection, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use tokio::sync::Semaphore;

use crate::{
    Result,
    attached::Attached,
    db::writer_permit,
    derived_text::DerivedText,
    pool::{Lease, Pool},
};

/// A value that both engines accept as a parameter.
pub trait Parameter<'q>: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite> {}
impl<'q, T: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>> Parameter<'q> for T {}

/// A row of either engine: a type with `#[derive(sqlx::FromRow)]`, or a tuple.
pub trait Row: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Row for T {}

/// A row, and the time at which PostgreSQL read it.
#[derive(FromRow)]
struct TimedRow<T> {
    #[sqlx(flatten)]
    row: T,
    read_time: DateTime<Utc>,
}

/// A query and its parameters.
#[must_use = "a query does nothing until it is run"]
pub struct Query<'c> {
    text: DerivedText,
    target: Target<'c>,
    arguments: Result<Arguments, BoxDynError>,
}

pub(crate) enum Target<'c> {
    /// For a write, with the limit of concurrent writes.
    PostgresPool(&'c Pool<PgConnection>, Option<&'c Arc<Semaphore>>),
    /// A transaction, with the INSERT that it sends with its next query.
    Postgres(&'c mut Lease<PgConnection>, &'c mut Option<Attached>),
    SqlitePool(&'c Pool<SqliteConnection>),
    /// As for PostgreSQL.
    Sqlite(&'c mut Lease<SqliteConnection>, &'c mut Option<Attached>),
}

/// The values of parameters.
#[derive(Clone)]
pub(crate) enum Arguments {
    Postgres(PgArguments),
    Sqlite(SqliteArguments),
}

impl Arguments {
    fn len(&self) -> usize {
        match self {
            Self::Postgres(arguments) => sqlx::Arguments::len(arguments),
            Self::Sqlite(arguments) => sqlx::Arguments::len(arguments),
        }
    }
}

/// Runs a query on its target. `$map` is applied to the result of either driver.
///
/// Behind a pooler in transaction mode, a query alone needs a transaction, because the driver parses it and runs it in two steps, which
/// would reach two servers.
macro_rules! run {
    ($query:expr, $make:ident, $fetch:ident, $map:expr) => {{
        let mut query = $query;
        let (sql, statement) = (query.text.get(), query.text.sql);
        let arguments = query.arguments.map_err(sqlx::Error::Encode)?;
        if let Target::Postgres(_, attached) | Target::Sqlite(_, attached) = &mut query.target {
            **attached = None;
        }
        Ok(match (arguments, query.target) {
            (Arguments::Postgres(arguments), Target::PostgresPool(pool, writers)) => {
                // It is dropped after the connection was given back.
                let _permit = match writers {
                    Some(writers) => Some(writer_permit(writers).await?),
                    None => None,
                };
                let mut lease = pool.acquire().await?;
                lease.begin_single().await?;
                let query = sqlx::$make(sql, arguments).persistent(!lease.is_transaction_pooled());
                let found = lease.run(statement, |connection| query.$fetch(connection)).await.map($map)?;
                lease.commit_single().await.map(|()| found)
            }
            (Arguments::Postgres(arguments), Target::Postgres(lease, _)) => {
                let query = sqlx::$make(sql, arguments).persistent(!lease.is_transaction_pooled());
                lease.run(statement, |connection| query.$fetch(connection)).await.map($map)
            }
            (Arguments::Sqlite(arguments), Target::SqlitePool(pool)) => {
                pool.acquire().await?.run(statement, |connection| sqlx::$make(sql, arguments).$fetch(connection)).await.map($map)
            }
            (Arguments::Sqlite(arguments), Target::Sqlite(lease, _)) => {
                lease.run(statement, |connection| sqlx::$make(sql, arguments).$fetch(connection)).await.map($map)
            }
            _ => unreachable!("a query is created with the arguments of its target"),
        }?)
    }};
}

impl<'c> Query<'c> {
    /// Creates a query. The parameters of an INSERT that the transaction sends with it come first.
    pub(crate) fn new(sql: &'static str, target: Target<'c>) -> Self {
        let (none, attached) = match &target {
            Target::PostgresPool(..) => (Arguments::Postgres(PgArguments::default()), None),
            Target::Postgres(_, attached) => (Arguments::Postgres(PgArguments::default()), attached.as_ref()),
            Target::SqlitePool(_) => (Arguments::Sqlite(SqliteArguments::default()), None),
            Target::Sqlite(_, attached) => (Arguments::Sqlite(SqliteArguments::default()), attached.as_ref()),
        };
        let mut text = DerivedText::new(sql, matches!(none, Arguments::Sqlite(_)));
        // The INSERT stays attached until the query runs.
        text.attached = attached.map(|attached| (attached.insert, attached.arguments.len()));
        let arguments = Ok(attached.map_or(none, |attached| attached.arguments.clone()));
        Self { text, target, arguments }
    }

    /// Replaces the values of the parameters.
    pub(crate) fn with_arguments(self, arguments: Arguments) -> Self {
        Self { arguments: Ok(arguments), ..self }
    }

    /// Returns the values of the parameters.
    pub(crate) fn into_arguments(self) -> Result<Arguments> {
        Ok(self.arguments.map_err(sqlx::Error::Encode)?)
    }

    /// Locks the rows that the query finds until the transaction ends. On SQLite the transaction itself is the lock. It has no
    /// effect on a query of a [`Db`](crate::Db), which is in no transaction.
    pub fn for_update(mut self) -> Self {
        self.text.is_for_update = matches!(self.target, Target::Postgres(..));
        self
    }

    /// Binds the value of the next parameter. A value that cannot be encoded makes the query fail when it runs.
    pub fn bind<'q, T: Parameter<'q>>(mut self, value: T) -> Self {
        if let Ok(arguments) = &mut self.arguments {
            let added = match arguments {
                Arguments::Postgres(arguments) => sqlx::Arguments::add(arguments, value),
                Arguments::Sqlite(arguments) => sqlx::Arguments::add(arguments, value),
            };
            if let Err(error) = added {
                self.arguments = Err(error);
            }
        }
        self
    }

    /// Returns the one row that the query finds.
    ///
    /// # Errors
    ///
    /// Returns `Failed` if there is no row.
    pub async fn one<T: Row>(self) -> Result<T> {
        run!(self, query_as_with, fetch_one, |found| found)
    }

    /// Returns the row, if there is one.
    pub async fn optional<T: Row>(self) -> Result<Option<T>> {
        run!(self, query_as_with, fetch_optional, |found| found)
    }

    /// Returns the row, if there is one, and the time of the read as [`Tx::now`](crate::Tx::now) would return it, without a second
    /// statement.
    pub async fn optional_with_time<T: Row>(mut self, clock: &Clock) -> Result<Option<(T, DateTime<Utc>)>> {
        self.text.is_timed = matches!(self.arguments, Ok(Arguments::Postgres(_))) && clock.is_system();
        if self.text.is_timed {
            return Ok(self.optional::<TimedRow<T>>().await?.map(|timed| (timed.row, timed.read_time)));
        }
        Ok(self.optional().await?.map(|row| (row, clock.now())))
    }

    /// Returns every row.
    pub async fn all<T: Row>(self) -> Result<Vec<T>> {
        run!(self, query_as_with, fetch_all, |found| found)
    }

    /// Runs the query and returns the number of rows that it changed.
    pub async fn execute(self) -> Result<u64> {
        // SQLite counts the row of the INSERT too.
        let inserted = match &self.target {
            Target::Sqlite(_, attached) => u64::from(attached.is_some()),
            _ => 0,
        };
        run!(self, query_with, execute, |done| done.rows_affected()).map(|rows: u64| rows.saturating_sub(inserted))
    }
}
