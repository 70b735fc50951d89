//! The database: one SQL text on SQLite and on PostgreSQL. The only file that names an engine.
//!
//! A query is written once, with `$1` parameters, and runs on a [`Db`] to read or on a [`Tx`] to read and write:
//! `tx.query("SELECT …").bind(id).optional::<Note>().await?`.

use std::{path::Path, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Encode, FromRow, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    SqlitePool, Transaction, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use crate::{Clock, error::Result};

/// How long a call waits for a connection before it is UNAVAILABLE.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write on SQLite waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a migration on SQLite waits for another process that migrates.
const MIGRATION_PATIENCE: Duration = Duration::from_hours(1);
/// A connection that has idled for longer is tried before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// A database. Its clones share their connections.
#[derive(Debug, Clone)]
pub struct Db(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Postgres(PgPool),
    /// One writer, since SQLite has one anyway and a queue is fairer than its busy handler; readers that never wait for it.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
    },
}

/// A transaction. Dropped without a commit, it never happened.
#[derive(Debug)]
pub struct Tx(Transactions);

#[derive(Debug)]
enum Transactions {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

/// A URL that names no database.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Neither of the two engines.
    #[error("the database URL must begin with `sqlite:` or `postgres:`")]
    Scheme,
    /// What the engine's driver says of it.
    #[error("the database URL can't be read: {0}")]
    Malformed(#[source] sqlx::Error),
    /// A database that each connection would have for itself.
    #[error("an in-memory SQLite database can't be served: it is gone with its connection")]
    InMemory,
}

impl Db {
    /// Prepares connections to `url`: `sqlite:path/to/file.db` or `postgres://user@host/name`. None is opened yet. The
    /// password is PostgreSQL's, and stands before one in the URL.
    ///
    /// # Errors
    ///
    /// A URL that is of no use. Whether a database is there turns out with the first query.
    pub fn new(url: &str, password: Option<&str>, connections: u32) -> Result<Self, UrlError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Self::postgres(url, password, connections),
            Some(("sqlite", _)) => Self::sqlite(url, connections),
            _ => Err(UrlError::Scheme),
        }
    }

    fn postgres(url: &str, password: Option<&str>, connections: u32) -> Result<Self, UrlError> {
        let mut options = PgConnectOptions::from_str(url).map_err(UrlError::Malformed)?;
        if let Some(password) = password {
            options = options.password(password);
        }
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for > FRESH {
                        sqlx::Connection::ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self(Pools::Postgres(pool)))
    }

    fn sqlite(url: &str, connections: u32) -> Result<Self, UrlError> {
        let options = sqlite_options(url)?;
        let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false);
        let write = pool().max_connections(1).connect_lazy_with(options.clone());
        let read = pool().max_connections(connections.max(1)).connect_lazy_with(options.read_only(true));
        Ok(Self(Pools::Sqlite { read, write }))
    }

    /// Begins a transaction that writes. Dropped without a commit, it never happened.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn begin(&self) -> Result<Tx> {
        let db = self.clone();
        // A BEGIN that is dropped half-way would leave its connection inside a transaction that nobody ends, and later
        // writes on that connection would be acknowledged and lost. In a task of its own it always comes to its end.
        let begun = tokio::spawn(async move {
            Ok(Tx(match db.0 {
                Pools::Postgres(pool) => Transactions::Postgres(pool.begin().await?),
                // A plain BEGIN takes the lock at the first write, and fails when somebody wrote since the first read.
                Pools::Sqlite { write, .. } => Transactions::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            }))
        });
        begun.await.map_err(crate::Error::internal)?
    }

    /// A connection of its own, to migrate with: on SQLite one that enforces no foreign keys, and that waits for as long as
    /// another process migrates.
    pub(crate) async fn dedicated(&self) -> sqlx::Result<Dedicated> {
        let connected = async {
            Ok(match &self.0 {
                Pools::Postgres(pool) => Dedicated::Postgres(pool.connect_options().connect().await?),
                Pools::Sqlite { write, .. } => {
                    let options = SqliteConnectOptions::clone(&write.connect_options());
                    Dedicated::Sqlite(options.foreign_keys(false).busy_timeout(MIGRATION_PATIENCE).connect().await?)
                }
            })
        };
        tokio::time::timeout(BUSY_TIMEOUT, connected).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// True where the database answers.
    pub async fn is_reachable(&self) -> bool {
        // A server that is cut off silently never answers.
        let asked = tokio::time::timeout(ACQUIRE_TIMEOUT, self.query("SELECT 1").execute());
        matches!(asked.await, Ok(Ok(_)))
    }

    /// Closes every connection. What is in flight has a few seconds to finish first.
    pub async fn close(&self) {
        let closed = async {
            match &self.0 {
                Pools::Postgres(pool) => pool.close().await,
                Pools::Sqlite { read, write } => {
                    read.close().await;
                    write.close().await;
                }
            }
        };
        // What is cut off then was not acknowledged.
        let _ = tokio::time::timeout(ACQUIRE_TIMEOUT, closed).await;
    }
}

impl Tx {
    /// The time that every replica agrees on: PostgreSQL's own, and the clock's on SQLite, which has one process. A clock
    /// that was set is the time on both.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn now(&mut self, clock: &Clock) -> Result<DateTime<Utc>> {
        if let (Transactions::Postgres(_), true) = (&self.0, clock.is_system()) {
            // The time of the statement: `now()` is that of the BEGIN, before any lock was waited for.
            return Ok(self.query("SELECT clock_timestamp()").one::<(DateTime<Utc>,)>().await?.0);
        }
        Ok(clock.now())
    }

    /// Makes what was written durable: it is there after a crash and after a power cut.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn commit(self) -> Result<()> {
        Ok(match self.0 {
            Transactions::Postgres(transaction) => transaction.commit().await,
            Transactions::Sqlite(transaction) => transaction.commit().await,
        }?)
    }
}

/// A connection outside the pool.
pub(crate) enum Dedicated {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// What a query runs on: `&Db`, or `&mut Tx`.
pub trait Executor<'c> {
    /// A query of `$1`, `$2`, … parameters.
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

/// A value that both engines take.
pub trait Parameter<'q>: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite> {}
impl<'q, T: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>> Parameter<'q> for T {}

/// A row of either engine: what `#[derive(sqlx::FromRow)]` gives, or a tuple.
pub trait Row: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}
impl<T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin> Row for T {}

/// A query and its parameters.
#[must_use = "a query does nothing until it is run"]
pub struct Query<'c> {
    sql: &'static str,
    /// What PostgreSQL is to lock.
    lock: Option<&'static str>,
    target: Target<'c>,
    arguments: Result<Arguments, BoxDynError>,
}

enum Target<'c> {
    PostgresPool(&'c PgPool),
    Postgres(&'c mut PgConnection),
    SqlitePool(&'c SqlitePool),
    Sqlite(&'c mut SqliteConnection),
}

enum Arguments {
    Postgres(PgArguments),
    Sqlite(SqliteArguments),
}

macro_rules! run {
    ($query:expr, $make:ident, $fetch:ident) => {{
        let sql = $query.text();
        match ($query.arguments.map_err(sqlx::Error::Encode)?, $query.target) {
            (Arguments::Postgres(arguments), Target::PostgresPool(pool)) => sqlx::$make(sql, arguments).$fetch(pool).await,
            (Arguments::Postgres(arguments), Target::Postgres(connection)) => {
                sqlx::$make(sql, arguments).$fetch(connection).await
            }
            (Arguments::Sqlite(arguments), Target::SqlitePool(pool)) => sqlx::$make(sql, arguments).$fetch(pool).await,
            (Arguments::Sqlite(arguments), Target::Sqlite(connection)) => sqlx::$make(sql, arguments).$fetch(connection).await,
            _ => unreachable!("a query is made with its target's arguments"),
        }
    }};
}

impl<'c> Query<'c> {
    fn postgres(sql: &'static str, target: Target<'c>) -> Self {
        Self { sql, lock: None, target, arguments: Ok(Arguments::Postgres(PgArguments::default())) }
    }

    fn sqlite(sql: &'static str, target: Target<'c>) -> Self {
        Self { sql, lock: None, target, arguments: Ok(Arguments::Sqlite(SqliteArguments::default())) }
    }

    /// Locks the rows that it finds until the transaction ends. (On SQLite the transaction itself is the lock.)
    pub fn for_update(self) -> Self {
        self.locking("FOR UPDATE")
    }

    /// Keeps the rows that it finds from being deleted, and from being locked by [`for_update`](Self::for_update), until the
    /// transaction ends. Others may do the same at once.
    pub fn for_key_share(self) -> Self {
        self.locking("FOR KEY SHARE")
    }

    fn locking(mut self, lock: &'static str) -> Self {
        self.lock = matches!(self.target, Target::Postgres(_)).then_some(lock);
        self
    }

    fn text(&self) -> SqlStr {
        match self.lock {
            Some(lock) => AssertSqlSafe(format!("{} {lock}", self.sql)).into_sql_str(),
            None => self.sql.into_sql_str(),
        }
    }

    /// Gives the next parameter its value.
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

    /// The one row that there must be.
    ///
    /// # Errors
    ///
    /// Those of the database, and `RowNotFound`.
    pub async fn one<T: Row>(self) -> sqlx::Result<T> {
        run!(self, query_as_with, fetch_one)
    }

    /// The row, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn optional<T: Row>(self) -> sqlx::Result<Option<T>> {
        run!(self, query_as_with, fetch_optional)
    }

    /// Every row.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn all<T: Row>(self) -> sqlx::Result<Vec<T>> {
        run!(self, query_as_with, fetch_all)
    }

    /// How many rows it changed.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn execute(self) -> sqlx::Result<u64> {
        let sql = self.text();
        Ok(match (self.arguments.map_err(sqlx::Error::Encode)?, self.target) {
            (Arguments::Postgres(arguments), Target::PostgresPool(pool)) => {
                sqlx::query_with(sql, arguments).execute(pool).await?.rows_affected()
            }
            (Arguments::Postgres(arguments), Target::Postgres(on)) => {
                sqlx::query_with(sql, arguments).execute(on).await?.rows_affected()
            }
            (Arguments::Sqlite(arguments), Target::SqlitePool(pool)) => {
                sqlx::query_with(sql, arguments).execute(pool).await?.rows_affected()
            }
            (Arguments::Sqlite(arguments), Target::Sqlite(on)) => {
                sqlx::query_with(sql, arguments).execute(on).await?.rows_affected()
            }
            _ => unreachable!("a query is made with its target's arguments"),
        })
    }
}

/// True where the query broke a unique constraint. Which one, only PostgreSQL tells, so the query has to leave no doubt.
pub fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// True where the query named a row of another table that is not there.
pub fn is_dangling(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_foreign_key_violation)
}

/// True for what passes by itself: a database that can't be reached, or that is too busy.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection exceptions, insufficient resources, operator intervention (a shutdown), SQLITE_BUSY, CANTOPEN, FULL, IOERR.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
                Some(_) => matches!(code.parse::<i32>().unwrap_or_default() & 0xff, 5 | 6 | 10 | 13 | 14),
                None => matches!(&code[..2.min(code.len())], "08" | "53" | "57"),
            }) || gave_up_code(error.as_ref())
        }
        _ => false,
    }
}

/// True where the engine ended a transaction that may well succeed when it is tried again.
pub(crate) fn gave_up(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(gave_up_code)
}

fn gave_up_code(error: &dyn sqlx::error::DatabaseError) -> bool {
    // serialization_failure, deadlock_detected, lock_not_available; SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT. Not SQLITE_BUSY:
    // whoever gets that has waited for long already.
    error.code().is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01" | "55P03" | "261" | "517"))
}

/// Options that keep an acknowledged write through a power cut (`synchronous=FULL`).
pub(crate) fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, UrlError> {
    let options = SqliteConnectOptions::from_str(url).map_err(UrlError::Malformed)?;
    if url.contains(":memory:") || url.contains("mode=memory") || options.get_filename() == Path::new("") {
        return Err(UrlError::InMemory);
    }
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT))
}
