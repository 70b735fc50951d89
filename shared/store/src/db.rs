//! The connections to the database, and transactions.

use std::{path::Path, str::FromStr, time::Duration};

use access::Clock;
use chrono::{DateTime, Utc};
use sqlx::{
    ConnectOptions, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    Error, Result,
    query::{Query, Target},
};

/// How long a call waits for a connection before it fails with UNAVAILABLE.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write on SQLite waits for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a migration on SQLite waits for another process that migrates.
const MIGRATION_BUSY_TIMEOUT: Duration = Duration::from_hours(1);
/// A connection that has been idle for longer is tested before it is used.
const IDLE_TEST_AFTER: Duration = Duration::from_secs(1);

/// A database. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Db(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Postgres(PgPool),
    /// SQLite has one writer anyway, and a queue of one connection is fairer than its busy handler. Readers never wait for it.
    Sqlite {
        read: SqlitePool,
        write: SqlitePool,
    },
}

/// A transaction. It is rolled back if it is dropped without a commit.
#[derive(Debug)]
pub struct Tx(Transactions);

#[derive(Debug)]
enum Transactions {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

/// The reason why a database URL is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// The scheme is neither `sqlite` nor `postgres`.
    #[error("the database URL must begin with `sqlite:` or `postgres:`")]
    Scheme,
    /// The driver cannot parse the URL.
    #[error("the database URL can't be read: {0}")]
    Malformed(#[source] sqlx::Error),
    /// Each connection would have a database of its own.
    #[error("an in-memory SQLite database can't be served: it is gone with its connection")]
    InMemory,
}

impl Db {
    /// Prepares up to `connections` connections to `url`: `sqlite:path/to/file.db` or `postgres://user@host/name`. It opens none.
    /// `password` is used for PostgreSQL and takes precedence over one in the URL.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL cannot be used. The first query finds out whether the database exists.
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
                    if metadata.idle_for > IDLE_TEST_AFTER {
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

    /// Begins a transaction that writes. It is rolled back if it is dropped without a commit.
    pub async fn begin(&self) -> Result<Tx> {
        let db = self.clone();
        // If the future of a BEGIN were dropped, its connection would go back to the pool inside a transaction, and later writes on it
        // would be acknowledged and lost. A task of its own cannot be dropped.
        let begun = tokio::spawn(async move {
            Ok(Tx(match db.0 {
                Pools::Postgres(pool) => Transactions::Postgres(pool.begin().await?),
                // A plain BEGIN takes the lock at the first write, and fails if another transaction wrote since the first read.
                Pools::Sqlite { write, .. } => Transactions::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            }))
        });
        begun.await.map_err(|stopped| Error::Failed(sqlx::Error::Protocol(stopped.to_string())))?
    }

    /// Opens a connection outside the pool, for migrations. On SQLite it does not enforce foreign keys, and it waits for up to an hour
    /// while another process migrates.
    ///
    /// # Errors
    ///
    /// Returns `PoolTimedOut` if the database does not answer within 5 seconds.
    pub async fn dedicated(&self) -> sqlx::Result<DedicatedConnection> {
        let connected = async {
            Ok(match &self.0 {
                Pools::Postgres(pool) => DedicatedConnection::Postgres(pool.connect_options().connect().await?),
                Pools::Sqlite { write, .. } => {
                    let options = SqliteConnectOptions::clone(&write.connect_options());
                    DedicatedConnection::Sqlite(options.foreign_keys(false).busy_timeout(MIGRATION_BUSY_TIMEOUT).connect().await?)
                }
            })
        };
        tokio::time::timeout(BUSY_TIMEOUT, connected).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Returns true if the database answers within 3 seconds.
    pub async fn is_reachable(&self) -> bool {
        // A server behind a cut network never answers.
        let asked = tokio::time::timeout(ACQUIRE_TIMEOUT, self.query("SELECT 1").execute());
        matches!(asked.await, Ok(Ok(_)))
    }

    /// Closes every connection. Queries in flight have 3 seconds to finish.
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
        // A transaction that is cut off now was not acknowledged.
        let _ = tokio::time::timeout(ACQUIRE_TIMEOUT, closed).await;
    }
}

impl Tx {
    /// Returns the time that all replicas share: the time of PostgreSQL's server, or of `clock` on SQLite, which has one process.
    /// A clock other than the system clock is used on both.
    pub async fn now(&mut self, clock: &Clock) -> Result<DateTime<Utc>> {
        if let (Transactions::Postgres(_), true) = (&self.0, clock.is_system()) {
            // The time of the statement: `now()` is the time of the BEGIN, before the transaction waited for any lock.
            return Ok(self.query("SELECT clock_timestamp()").one::<(DateTime<Utc>,)>().await?.0);
        }
        Ok(clock.now())
    }

    /// Commits. The changes then survive a crash and a power cut.
    pub async fn commit(self) -> Result<()> {
        Ok(match self.0 {
            Transactions::Postgres(transaction) => transaction.commit().await,
            Transactions::Sqlite(transaction) => transaction.commit().await,
        }?)
    }
}

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

/// A connection outside the pool.
pub enum DedicatedConnection {
    /// A connection to PostgreSQL.
    Postgres(PgConnection),
    /// A connection to SQLite.
    Sqlite(SqliteConnection),
}

/// Returns options with which an acknowledged write survives a power cut (`synchronous=FULL`).
fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, UrlError> {
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
