//! The connections to the database.

use std::{fmt::Write, path::Path, str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus_client::{metrics::histogram::Histogram, registry::Registry};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgConnection, SqlSafeStr, SqlStr, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Result,
    metrics::PoolMetrics,
    pool::{Engine, Pool, PoolSettings, PoolUse},
    query::{Query, Target},
    sqlite_file::{CreateFileError, create_file, has_space, sqlite_options},
    transaction::{Transaction, Tx},
};

/// How long a call waits for the database before it fails with UNAVAILABLE.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a migration on SQLite waits for another process that migrates.
const MIGRATION_BUSY_TIMEOUT: Duration = Duration::from_hours(1);
/// The text of statements without parameters in traces. Their own text could contain values.
pub(crate) const SCRIPT: &str = "SCRIPT";
/// The server reports its own timeout before the client gives up.
const STATEMENT_MARGIN: Duration = Duration::from_secs(1);

/// A database. Clones share their connections.
///
/// A query on it reads. [`Db::begin`] begins a [`Tx`], which also writes, and [`Db::write`] is a write of one statement.
///
/// ```
/// use store::{Db, UrlError};
///
/// // The first query opens a connection.
/// let db = Db::new("sqlite:orders.db", None, 16)?;
/// assert!(db.is_sqlite());
/// assert!(matches!(Db::new("mysql://localhost/orders", None, 16), Err(UrlError::Scheme)));
/// # Ok::<(), UrlError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Db(Pools);

#[derive(Debug, Clone)]
enum Pools {
    Postgres {
        pool: Pool<PgConnection>,
        /// Writes may use three quarters of the connections. The rest is for reads, which go on while writes wait for locks.
        writers: Arc<Semaphore>,
        /// The options without the time limits, which migrations use.
        unlimited: Box<PgConnectOptions>,
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

/// The properties of the connections to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbOptions {
    /// The largest number of open connections. On SQLite, these read, and one more connection writes.
    pub connections: u32,
    /// The time limits on PostgreSQL.
    pub timeouts: Timeouts,
    /// True if a pooler in transaction mode, for example PgBouncer, is in front of PostgreSQL. The time limits are then set in each
    /// transaction, every query runs in one, and no prepared statement outlives it.
    pub is_transaction_pooled: bool,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self { connections: 16, timeouts: Timeouts::default(), is_transaction_pooled: false }
    }
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
    /// The file is written as a URI of its own.
    #[error("the database URL must name the file by its path, for example `sqlite:path/to/file.db`, without `file:`")]
    FileUri,
}

impl Db {
    /// Prepares up to `connections` connections to `url`: `sqlite:path/to/file.db` or `postgres://user@host/name`. It opens none.
    /// `password` is used for PostgreSQL and takes precedence over one in the URL. The default [`Timeouts`] apply.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL cannot be used. The first query finds out whether the database exists.
    pub fn new(url: &str, password: Option<&str>, connections: u32) -> Result<Self, UrlError> {
        Self::with_options(url, password, DbOptions { connections, ..DbOptions::default() })
    }

    /// Prepares the connections to `url` as [`Db::new`] does, with these options.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL cannot be used.
    pub fn with_options(url: &str, password: Option<&str>, options: DbOptions) -> Result<Self, UrlError> {
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => {
                let mut connect_options = PgConnectOptions::from_str(url).map_err(UrlError::Malformed)?;
                if let Some(password) = password {
                    connect_options = connect_options.password(password);
                }
                Ok(Self::postgres(connect_options, options))
            }
            Some(("sqlite", _)) => Ok(Self::sqlite(&sqlite_options(url)?, options.connections)),
            _ => Err(UrlError::Scheme),
        }
    }

    fn postgres(unlimited: PgConnectOptions, options: DbOptions) -> Self {
        let DbOptions { connections, timeouts, is_transaction_pooled } = options;
        let limits = [
            ("statement_timeout", timeouts.statement),
            ("lock_timeout", timeouts.lock),
            ("idle_in_transaction_session_timeout", timeouts.idle_transaction),
        ];
        let limits = limits.map(|(name, limit)| (name, limit.as_millis().to_string()));
        // The server reports as a notice that a table of `CREATE TABLE IF NOT EXISTS` exists, and the driver would log it.
        let settings = limits.into_iter().chain([("client_min_messages", "warning".to_owned())]);
        let (connect_options, begin) = if is_transaction_pooled {
            // A pooler refuses parameters at the start of a connection that it does not know.
            let mut begin = "BEGIN".to_owned();
            for (name, value) in settings {
                let _ = write!(begin, "; SET LOCAL {name} = {value}");
            }
            (unlimited.clone().extra_float_digits(None), AssertSqlSafe(begin).into_sql_str())
        } else {
            (unlimited.clone().options(settings), SqlStr::from_static("BEGIN"))
        };
        let limit = (!timeouts.statement.is_zero()).then(|| timeouts.statement + STATEMENT_MARGIN);
        let size = usize::try_from(connections).unwrap_or(usize::MAX).clamp(1, 1000);
        let writers = Arc::new(Semaphore::new((size - size / 4).max(1)));
        let settings = PoolSettings { size, limit, begin, is_transaction_pooled };
        Self(Pools::Postgres { pool: Pool::new(connect_options, settings), writers, unlimited: Box::new(unlimited) })
    }

    fn sqlite(options: &SqliteConnectOptions, connections: u32) -> Self {
        let settings = |size| PoolSettings {
            size,
            limit: None,
            // A plain BEGIN takes the lock at the first write, and fails if another transaction wrote since the first read.
            begin: SqlStr::from_static("BEGIN IMMEDIATE"),
            is_transaction_pooled: false,
        };
        let write = Pool::new(options.clone().journal_mode(SqliteJournalMode::Wal), settings(1));
        // A connection that only reads cannot change the journal mode of a file that was restored from a backup.
        let read = Pool::new(options.clone().read_only(true), settings(usize::try_from(connections).unwrap_or(1)));
        Self(Pools::Sqlite { read, write })
    }

    /// Returns the same database for migrations, which have no time limits. An SQLite file is created, for its owner only, if it does not
    /// exist. SQLite then does not enforce foreign keys, and waits for up to an hour while another process migrates. Slow statements are
    /// not logged, because they are usual here, and a log line would interrupt the line of the migration that runs.
    ///
    /// # Errors
    ///
    /// Returns an error if the SQLite file cannot be created.
    pub fn for_migrations(&self) -> Result<Self, CreateFileError> {
        match &self.0 {
            Pools::Postgres { pool, unlimited, .. } => {
                let is_transaction_pooled = pool.is_transaction_pooled();
                // One connection for the lock, and one for statements that cannot run in a transaction.
                let options = DbOptions { connections: 2, timeouts: Timeouts::NONE, is_transaction_pooled };
                Ok(Self::postgres(PgConnectOptions::clone(unlimited).disable_statement_logging(), options))
            }
            Pools::Sqlite { write, .. } => {
                create_file(write.options().get_filename())?;
                let options = SqliteConnectOptions::clone(write.options()).disable_statement_logging();
                Ok(Self::sqlite(&options.foreign_keys(false).busy_timeout(MIGRATION_BUSY_TIMEOUT), 1))
            }
        }
    }

    /// Returns true if the database is an SQLite file.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.0, Pools::Sqlite { .. })
    }

    /// Returns the path of the SQLite file, if it does not exist.
    pub fn missing_file(&self) -> Option<&Path> {
        match &self.0 {
            Pools::Sqlite { write, .. } => Some(write.options().get_filename()).filter(|path| !path.exists()),
            Pools::Postgres { .. } => None,
        }
    }

    /// Returns the name of the database for messages: the path of the file, or the name and the host. It does not contain a password.
    pub fn name(&self) -> String {
        match &self.0 {
            Pools::Sqlite { write, .. } => write.options().get_filename().display().to_string(),
            Pools::Postgres { unlimited, .. } => {
                format!("{} on {}", unlimited.get_database().unwrap_or(unlimited.get_username()), unlimited.get_host())
            }
        }
    }

    /// Begins a transaction that writes. It is rolled back if it is dropped without a commit.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`](crate::Error::Unavailable) if the database cannot be reached, or if no connection becomes
    /// free within 3 seconds.
    pub async fn begin(&self) -> Result<Tx> {
        let transaction = match &self.0 {
            Pools::Postgres { pool, writers, .. } => {
                let permit = writer_permit(writers).await?;
                let mut lease = pool.acquire().await?;
                lease.begin().await?;
                Transaction::Postgres(lease, permit)
            }
            Pools::Sqlite { write, .. } => {
                let mut lease = write.acquire().await?;
                lease.begin().await?;
                Transaction::Sqlite(lease)
            }
        };
        Ok(Tx::new(transaction))
    }

    /// Creates a query that changes data, with the parameters `$1`, `$2`, …. It is a transaction of its own, with one round trip instead of
    /// three: when it has run, its changes survive a crash and a power cut.
    pub fn write(&self, sql: &'static str) -> Query<'_> {
        match &self.0 {
            Pools::Postgres { pool, writers, .. } => Query::new(sql, Target::PostgresPool(pool, Some(writers))),
            Pools::Sqlite { write, .. } => Query::new(sql, Target::SqlitePool(write)),
        }
    }

    /// Runs a statement without parameters outside of a transaction, on a connection that may write.
    pub async fn execute_raw(&self, sql: String) -> Result<()> {
        let sql = AssertSqlSafe(sql).into_sql_str();
        match &self.0 {
            Pools::Postgres { pool, .. } => pool.acquire().await?.run(SCRIPT, |connection| connection.execute_raw(sql)).await?,
            Pools::Sqlite { write, .. } => write.acquire().await?.run(SCRIPT, |connection| connection.execute_raw(sql)).await?,
        }
        Ok(())
    }

    /// Returns true if the database answers within 3 seconds.
    pub async fn is_reachable(&self) -> bool {
        // A server behind a cut network never answers.
        let asked = tokio::time::timeout(ACQUIRE_TIMEOUT, self.query("SELECT 1").execute());
        matches!(asked.await, Ok(Ok(_)))
    }

    /// Returns the reason why a service cannot work with the database, if there is one.
    pub async fn problem(&self) -> Option<String> {
        if let Some(file) = self.missing_file() {
            return Some(format!("there is no database file {}: `migrate` creates it", file.display()));
        }
        if !self.is_reachable().await {
            return Some(format!("{} does not answer", self.name()));
        }
        (!self.accepts_writes().await).then(|| format!("{} is read-only, or its disk is full", self.name()))
    }

    /// Returns the time of the PostgreSQL server. SQLite has no clock of its own.
    pub async fn server_time(&self) -> Result<Option<DateTime<Utc>>> {
        match &self.0 {
            Pools::Postgres { .. } => Ok(Some(self.query("SELECT clock_timestamp()").one::<(DateTime<Utc>,)>().await?.0)),
            Pools::Sqlite { .. } => Ok(None),
        }
    }

    /// Returns true if the database accepts writes: false for a read-only PostgreSQL server, and for SQLite after the disk was full or
    /// read-only, until a write succeeds again.
    pub async fn accepts_writes(&self) -> bool {
        let asked = async {
            match &self.0 {
                Pools::Postgres { .. } => {
                    let sql = "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'";
                    self.query(sql).one::<(bool,)>().await.is_ok_and(|(accepts,)| accepts)
                }
                Pools::Sqlite { write, .. } if write.has_refused_write() => {
                    // A failed transaction leaves room in the write-ahead log, in which the page below fits on a full disk too.
                    let rewritten = has_space(write.options().get_filename()) && self.rewrite_user_version().await.is_ok();
                    if rewritten {
                        write.note_write();
                    }
                    rewritten
                }
                Pools::Sqlite { .. } => true,
            }
        };
        tokio::time::timeout(ACQUIRE_TIMEOUT, asked).await.unwrap_or(false)
    }

    /// Writes a page of an SQLite file without changing its content.
    async fn rewrite_user_version(&self) -> Result<()> {
        let (version,) = self.query("PRAGMA user_version").one::<(i64,)>().await?;
        self.execute_raw(format!("PRAGMA user_version = {version}")).await
    }

    /// Adds the metrics of the connections to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(PoolMetrics(self.clone())));
    }

    /// Returns the name, the use and the waiting times of each pool.
    pub(crate) fn pools(&self) -> Vec<(&'static str, PoolUse, &Histogram)> {
        match &self.0 {
            Pools::Postgres { pool, .. } => vec![("shared", pool.usage(), pool.wait())],
            Pools::Sqlite { read, write } => vec![("read", read.usage(), read.wait()), ("write", write.usage(), write.wait())],
        }
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

/// Waits until a write may use a connection.
pub(crate) async fn writer_permit(writers: &Arc<Semaphore>) -> sqlx::Result<OwnedSemaphorePermit> {
    let permit = tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(writers).acquire_owned()).await;
    permit.ok().and_then(std::result::Result::ok).ok_or(sqlx::Error::PoolTimedOut)
}

/// The target of a query: `&Db` to read, or `&mut Tx` to read and write.
pub trait Executor<'c> {
    /// Returns true if the database is an SQLite file.
    fn is_sqlite(&self) -> bool;

    /// Creates a query with the parameters `$1`, `$2`, ….
    fn query(self, sql: &'static str) -> Query<'c>;
}

impl<'c> Executor<'c> for &'c Db {
    fn is_sqlite(&self) -> bool {
        Db::is_sqlite(self)
    }

    fn query(self, sql: &'static str) -> Query<'c> {
        match &self.0 {
            Pools::Postgres { pool, .. } => Query::new(sql, Target::PostgresPool(pool, None)),
            Pools::Sqlite { read, .. } => Query::new(sql, Target::SqlitePool(read)),
        }
    }
}
