//! The connections to the database, and transactions.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use access::Clock;
use chrono::{DateTime, Utc};
use sqlx::{
    ConnectOptions, PgConnection, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Result,
    pool::{Lease, Pool},
    query::{Query, Target},
};

/// How long a call waits for the database before it fails with UNAVAILABLE.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a write on SQLite waits for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a migration on SQLite waits for another process that migrates.
const MIGRATION_BUSY_TIMEOUT: Duration = Duration::from_hours(1);
/// The server reports its own timeout before the client gives up.
const STATEMENT_MARGIN: Duration = Duration::from_secs(1);

/// A database. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Db(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Postgres {
        pool: Pool<PgConnection>,
        /// Transactions may use three quarters of the connections. The rest is for reads, which go on while writes wait for locks.
        writers: Arc<Semaphore>,
        /// The options of a connection without time limits.
        dedicated: Box<PgConnectOptions>,
    },
    /// SQLite has one writer anyway, and a queue of one connection is fairer than its busy handler. Readers never wait for it.
    Sqlite { read: Pool<SqliteConnection>, write: Pool<SqliteConnection> },
}

/// The time limits of a service's work on PostgreSQL. Zero is no limit. SQLite has no use for them: it has one process and one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest time of one statement.
    pub statement: Duration,
    /// The longest time that a statement waits for a lock.
    pub lock: Duration,
    /// The longest time that a transaction may be idle. The server ends it then, so that a frozen process holds no lock for ever.
    pub idle_transaction: Duration,
}

impl Timeouts {
    /// No limits, for migrations and imports.
    pub const NONE: Self = Self { statement: Duration::ZERO, lock: Duration::ZERO, idle_transaction: Duration::ZERO };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { statement: Duration::from_secs(5), lock: Duration::from_secs(1), idle_transaction: Duration::from_secs(3) }
    }
}

/// A transaction. It is rolled back if it is dropped without a commit.
#[derive(Debug)]
pub struct Tx(Transaction);

#[derive(Debug)]
enum Transaction {
    Postgres(Lease<PgConnection>, OwnedSemaphorePermit),
    Sqlite(Lease<SqliteConnection>),
}

/// The reason why a database URL is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// The scheme is neither `sqlite` nor `postgres`.
    #[error("the database URL must begin with `sqlite:` or `postgres:`")]
    Scheme,
    /// The driver cannot parse the URL.
    #[error("the database URL is not valid: {0}")]
    Malformed(#[source] sqlx::Error),
    /// Each connection would have a database of its own.
    #[error("an in-memory SQLite database cannot be served, because every connection would have its own")]
    InMemory,
}

impl Db {
    /// Prepares up to `connections` connections to `url`: `sqlite:path/to/file.db` or `postgres://user@host/name`. It opens none.
    /// `password` is used for PostgreSQL and takes precedence over one in the URL. The default [`Timeouts`] apply.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL cannot be used. The first query finds out whether the database exists.
    pub fn new(url: &str, password: Option<&str>, connections: u32) -> Result<Self, UrlError> {
        Self::with_timeouts(url, password, connections, Timeouts::default())
    }

    /// As [`Db::new`], with other time limits.
    ///
    /// # Errors
    ///
    /// As [`Db::new`].
    pub fn with_timeouts(url: &str, password: Option<&str>, connections: u32, timeouts: Timeouts) -> Result<Self, UrlError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Self::postgres(url, password, connections, timeouts),
            Some(("sqlite", _)) => Self::sqlite(url, connections),
            _ => Err(UrlError::Scheme),
        }
    }

    fn postgres(url: &str, password: Option<&str>, connections: u32, timeouts: Timeouts) -> Result<Self, UrlError> {
        let mut options = PgConnectOptions::from_str(url).map_err(UrlError::Malformed)?;
        if let Some(password) = password {
            options = options.password(password);
        }
        // The server reports as a notice that a table of `CREATE TABLE IF NOT EXISTS` exists, and the driver would log it.
        let options = options.options([("client_min_messages", "warning")]);
        let dedicated = Box::new(options.clone());
        let limits = [
            ("statement_timeout", timeouts.statement),
            ("lock_timeout", timeouts.lock),
            ("idle_in_transaction_session_timeout", timeouts.idle_transaction),
        ];
        let options = options.options(limits.map(|(name, limit)| (name, limit.as_millis())));
        let limit = (!timeouts.statement.is_zero()).then(|| timeouts.statement + STATEMENT_MARGIN);
        let size = usize::try_from(connections).unwrap_or(usize::MAX).clamp(1, 1000);
        let writers = Arc::new(Semaphore::new((size - size / 4).max(1)));
        Ok(Self(Pools::Postgres { pool: Pool::new(options, size, limit), writers, dedicated }))
    }

    fn sqlite(url: &str, connections: u32) -> Result<Self, UrlError> {
        let options = sqlite_options(url)?;
        let write = Pool::new(options.clone(), 1, None);
        let read = Pool::new(options.read_only(true), usize::try_from(connections).unwrap_or(1), None);
        Ok(Self(Pools::Sqlite { read, write }))
    }

    /// Begins a transaction that writes. It is rolled back if it is dropped without a commit.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx(match &self.0 {
            Pools::Postgres { pool, writers, .. } => {
                let permit = tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(writers).acquire_owned()).await;
                let permit = permit.ok().and_then(std::result::Result::ok).ok_or(sqlx::Error::PoolTimedOut)?;
                let mut lease = pool.acquire().await?;
                lease.begin().await?;
                Transaction::Postgres(lease, permit)
            }
            Pools::Sqlite { write, .. } => {
                let mut lease = write.acquire().await?;
                lease.begin().await?;
                Transaction::Sqlite(lease)
            }
        }))
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
                Pools::Postgres { dedicated, .. } => DedicatedConnection::Postgres(dedicated.connect().await?),
                Pools::Sqlite { write, .. } => {
                    let options = SqliteConnectOptions::clone(write.options());
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
                Pools::Postgres { pool, .. } => pool.close().await,
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
        if let (Transaction::Postgres(..), true) = (&self.0, clock.is_system()) {
            // The time of the statement: `now()` is the time of the BEGIN, before the transaction waited for any lock.
            return Ok(self.query("SELECT clock_timestamp()").one::<(DateTime<Utc>,)>().await?.0);
        }
        Ok(clock.now())
    }

    /// Commits. The changes then survive a crash and a power cut.
    pub async fn commit(self) -> Result<()> {
        Ok(match self.0 {
            Transaction::Postgres(lease, _permit) => lease.commit().await,
            Transaction::Sqlite(lease) => lease.commit().await,
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
            Pools::Postgres { pool, .. } => Query::postgres(sql, Target::PostgresPool(pool)),
            Pools::Sqlite { read, .. } => Query::sqlite(sql, Target::SqlitePool(read)),
        }
    }
}

impl<'c> Executor<'c> for &'c mut Tx {
    fn query(self, sql: &'static str) -> Query<'c> {
        match &mut self.0 {
            Transaction::Postgres(lease, _) => Query::postgres(sql, Target::Postgres(lease)),
            Transaction::Sqlite(lease) => Query::sqlite(sql, Target::Sqlite(lease)),
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
