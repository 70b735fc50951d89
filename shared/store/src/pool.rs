//! A pool whose connections are only reused while they are known to be clean.
//!
//! A connection on which an operation was cancelled, timed out or failed in the transport is closed instead of being returned. So
//! neither a cut network nor a full disk can leave a connection in the pool that never works again.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Manager, Metrics, Object, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts},
};
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, SqlStr, SqliteConnection};
use tokio::{runtime::Handle, time::Instant};

use crate::{error::sqlite_code, statement_span};

/// The longest time that a call waits for a connection, or for a new one to be established.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time that it may take to establish a connection, to test an idle one, or to roll back a transaction.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time between two attempts to open an SQLite file that another process has locked.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// The upper bounds of the buckets of waiting times, in seconds.
const WAIT_BUCKETS: [f64; 9] = [0.0001, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5];
const TEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that has been idle for longer is tested before it is used.
const IDLE_TEST_AFTER: Duration = Duration::from_secs(1);

/// A pool of connections of one engine.
pub(crate) struct Pool<C: Engine>(managed::Pool<Opener<C>>);

/// The properties of a pool.
#[derive(Debug, Clone)]
pub(crate) struct PoolSettings {
    /// The largest number of connections.
    pub(crate) size: usize,
    /// The longest time that one operation may take.
    pub(crate) limit: Option<Duration>,
    /// The statements that begin a transaction.
    pub(crate) begin: SqlStr,
    /// True behind a pooler in transaction mode, where a connection keeps its server only until the transaction ends. Then every query
    /// runs in a transaction, and no prepared statement outlives it.
    pub(crate) is_transaction_pooled: bool,
}

/// Opens and tests connections.
pub(crate) struct Opener<C: Engine> {
    options: C::Options,
    settings: PoolSettings,
    /// Connections that were last used before this time are not trusted: the network or the server failed.
    distrusted_before: Mutex<Option<Instant>>,
    is_closed: AtomicBool,
    /// True since a write failed because the disk is full or read-only.
    has_refused_write: AtomicBool,
    /// The time that callers waited for a connection.
    wait: Histogram,
}

/// The connections of a pool at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolUse {
    /// The open connections.
    pub(crate) open: usize,
    /// The connections that a caller uses.
    pub(crate) in_use: usize,
    /// The largest number of open connections.
    pub(crate) limit: usize,
    /// The callers that wait for a connection.
    pub(crate) waiting: usize,
}

/// A connection in the pool.
pub(crate) struct Pooled<C> {
    connection: C,
    used: Instant,
}

/// A connection that one caller uses.
pub(crate) struct Lease<C: Engine> {
    /// None once the connection was given back or closed.
    object: Option<Object<Opener<C>>>,
    pool: Pool<C>,
    /// True while an operation runs, and after an operation that has left the connection in an unknown state.
    is_unclean: bool,
    /// True between BEGIN and the end of the transaction.
    in_transaction: bool,
    /// True once a statement of the transaction has failed.
    has_failed: bool,
}

impl<C: Engine> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Engine> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.0.status()).finish()
    }
}

impl<C: Engine> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("in_transaction", &self.in_transaction).finish_non_exhaustive()
    }
}

impl<C: Engine> Manager for Opener<C> {
    type Type = Pooled<C>;
    type Error = sqlx::Error;

    async fn create(&self) -> sqlx::Result<Pooled<C>> {
        let began = Instant::now();
        loop {
            match Box::pin(self.options.connect()).await {
                // The last error is returned before the pool gives up.
                Err(error) if is_busy(&error) && began.elapsed() < CONNECT_TIMEOUT / 2 => tokio::time::sleep(BUSY_INTERVAL).await,
                connected => return Ok(Pooled { connection: connected?, used: Instant::now() }),
            }
        }
    }

    async fn recycle(&self, pooled: &mut Pooled<C>, _: &Metrics) -> RecycleResult<sqlx::Error> {
        let distrusted = |before: Option<Instant>| before.is_some_and(|before| pooled.used <= before);
        if distrusted(*self.distrusted_before.lock()) {
            return Err(RecycleError::message("the connection is older than the last failure"));
        }
        if C::IS_REMOTE && pooled.used.elapsed() > IDLE_TEST_AFTER {
            let tested = tokio::time::timeout(TEST_TIMEOUT, Box::pin(pooled.connection.ping())).await;
            if !matches!(tested, Ok(Ok(()))) {
                self.distrust();
                return Err(RecycleError::message("the idle connection does not answer"));
            }
        }
        Ok(())
    }
}

impl<C: Engine> Opener<C> {
    /// Makes every connection that is idle now unusable.
    fn distrust(&self) {
        *self.distrusted_before.lock() = Some(Instant::now());
    }
}

impl<C: Engine> Pool<C> {
    /// Prepares the connections. It opens none.
    pub(crate) fn new(options: C::Options, settings: PoolSettings) -> Self {
        let size = settings.size.max(1);
        let opener = Opener {
            options,
            settings,
            distrusted_before: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            has_refused_write: AtomicBool::new(false),
            wait: Histogram::new(WAIT_BUCKETS),
        };
        let timeouts = Timeouts { wait: Some(ACQUIRE_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: None };
        // The most recently used connection is the least likely to be lost.
        let config = PoolConfig { max_size: size, timeouts, queue_mode: QueueMode::Lifo };
        let pool = managed::Pool::builder(opener).config(config).runtime(Runtime::Tokio1).build();
        Self(pool.expect("a runtime is set for the timeouts"))
    }

    /// Returns the options with which the pool opens connections.
    pub(crate) fn options(&self) -> &C::Options {
        &self.0.manager().options
    }

    /// Returns true behind a pooler in transaction mode.
    pub(crate) fn is_transaction_pooled(&self) -> bool {
        self.0.manager().settings.is_transaction_pooled
    }

    /// Waits up to 3 seconds for a connection.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Lease<C>> {
        if self.0.manager().is_closed.load(Ordering::Relaxed) {
            return Err(sqlx::Error::PoolClosed);
        }
        let began = Instant::now();
        let object = self.0.get().await;
        self.0.manager().wait.observe(began.elapsed().as_secs_f64());
        let object = object.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => sqlx::Error::PoolClosed,
            PoolError::Timeout(_) | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => sqlx::Error::PoolTimedOut,
        })?;
        let (object, pool) = (Some(object), self.clone());
        Ok(Lease { object, pool, is_unclean: false, in_transaction: false, has_failed: false })
    }

    /// Returns the connections at this moment.
    pub(crate) fn usage(&self) -> PoolUse {
        let status = self.0.status();
        let in_use = status.size.saturating_sub(status.available);
        PoolUse { open: status.size, in_use, limit: status.max_size, waiting: status.waiting }
    }

    /// Returns the times that callers waited for a connection, also those that got none.
    pub(crate) fn wait(&self) -> &Histogram {
        &self.0.manager().wait
    }

    /// Returns true if a write has failed because the disk is full or read-only.
    pub(crate) fn has_refused_write(&self) -> bool {
        self.0.manager().has_refused_write.load(Ordering::Relaxed)
    }

    /// Notes that a write has succeeded.
    pub(crate) fn note_write(&self) {
        self.0.manager().has_refused_write.store(false, Ordering::Relaxed);
    }

    /// Closes every connection, after the operations in flight have finished.
    pub(crate) async fn close(&self) {
        self.0.manager().is_closed.store(true, Ordering::Relaxed);
        while self.0.status().size > 0 {
            for pooled in self.0.retain(|_, _| false).removed {
                let _ = pooled.connection.close().await;
            }
            if self.0.status().size > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.0.close();
    }
}

impl<C: Engine> Lease<C> {
    /// Runs one operation within the time limit. If the returned future is dropped, the connection is closed. Traces contain `statement`,
    /// the text of the operation without values.
    pub(crate) async fn run<'a, T, F>(
        &'a mut self,
        statement: &'static str,
        operation: impl FnOnce(&'a mut C) -> F,
    ) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>> + 'a,
    {
        let Self { object, pool, is_unclean, has_failed, .. } = self;
        let opener = pool.0.manager();
        let pooled = object.as_mut().expect("a lease has its connection until it is dropped");
        *is_unclean = true;
        pooled.used = Instant::now();
        let mut span = statement_span::start(C::NAME, statement);
        let operation = operation(&mut pooled.connection);
        let outcome = match opener.settings.limit {
            Some(limit) => tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| {
                let message = format!("the database did not answer within {} s", limit.as_secs());
                Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message)))
            }),
            None => operation.await,
        };
        if let (Some(span), Err(error)) = (&mut span, &outcome) {
            statement_span::fail(span, error);
        }
        match &outcome {
            Ok(_) => *is_unclean = false,
            Err(error) if loses_connection(error) => {
                *has_failed = true;
                if is_refused_write(error) {
                    opener.has_refused_write.store(true, Ordering::Relaxed);
                }
                opener.distrust();
            }
            Err(_) => {
                *has_failed = true;
                *is_unclean = false;
            }
        }
        outcome
    }

    /// Begins a transaction. It is rolled back if the lease is dropped before [`commit`](Self::commit).
    pub(crate) async fn begin(&mut self) -> sqlx::Result<()> {
        let begin = self.pool.0.manager().settings.begin.clone();
        // Where it is several statements, a failure can leave the transaction open.
        self.in_transaction = self.pool.is_transaction_pooled();
        self.run("BEGIN", |connection| connection.execute_raw(begin)).await?;
        self.in_transaction = true;
        Ok(())
    }

    /// Begins a transaction for a single query, if the pool requires one.
    pub(crate) async fn begin_single(&mut self) -> sqlx::Result<()> {
        if self.pool.is_transaction_pooled() { self.begin().await } else { Ok(()) }
    }

    /// Commits the transaction of [`begin_single`](Self::begin_single).
    pub(crate) async fn commit_single(self) -> sqlx::Result<()> {
        if self.in_transaction { self.commit().await } else { Ok(()) }
    }

    /// Returns true behind a pooler in transaction mode.
    pub(crate) fn is_transaction_pooled(&self) -> bool {
        self.pool.is_transaction_pooled()
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        if self.has_failed && C::STATEMENT_FAILS_TRANSACTION {
            return Err(sqlx::Error::AnyDriverError("a statement of the transaction failed before its COMMIT".into()));
        }
        self.run("COMMIT", |connection| connection.execute_raw(SqlStr::from_static("COMMIT"))).await?;
        self.in_transaction = false;
        Ok(())
    }
}

/// The parts of a driver that differ between the engines.
pub(crate) trait Engine: Connection + Send + 'static {
    /// The name of the engine in traces, by the semantic conventions of OpenTelemetry.
    const NAME: &'static str;

    /// True if a connection can be lost while it is idle.
    const IS_REMOTE: bool;

    /// True if a failed statement makes the whole transaction fail. COMMIT then rolls back and still reports success.
    const STATEMENT_FAILS_TRANSACTION: bool;

    /// Runs statements without parameters.
    fn execute_raw(&mut self, sql: SqlStr) -> impl Future<Output = sqlx::Result<()>> + Send;
}

impl Engine for PgConnection {
    const NAME: &'static str = "postgresql";
    const IS_REMOTE: bool = true;
    const STATEMENT_FAILS_TRANSACTION: bool = true;

    async fn execute_raw(&mut self, sql: SqlStr) -> sqlx::Result<()> {
        self.execute(sql).await.map(drop)
    }
}

impl Engine for SqliteConnection {
    const NAME: &'static str = "sqlite";
    const IS_REMOTE: bool = false;
    const STATEMENT_FAILS_TRANSACTION: bool = false;

    async fn execute_raw(&mut self, sql: SqlStr) -> sqlx::Result<()> {
        self.execute(sql).await.map(drop)
    }
}

impl<C: Engine> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        if self.is_unclean {
            // Dropping the connection closes it without waiting for the server.
            drop(Object::take(object));
        } else if self.in_transaction {
            let Ok(runtime) = Handle::try_current() else { return drop(Object::take(object)) };
            runtime.spawn(async move {
                let rolled_back =
                    tokio::time::timeout(TEST_TIMEOUT, object.connection.execute_raw(SqlStr::from_static("ROLLBACK"))).await;
                // SQLite ends a transaction by itself when the disk is full. Then ROLLBACK fails, and a new connection is opened.
                if !matches!(rolled_back, Ok(Ok(()))) {
                    drop(Object::take(object));
                }
            });
        }
    }
}

/// Returns true if another process has locked an SQLite file: BUSY. SQLite waits for such a lock itself, except when two connections
/// switch a new file to the write-ahead log at the same time: then one of them fails at once.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlite_code) == Some(5)
}

/// Returns true if SQLite could not write: FULL, IOERR or READONLY.
fn is_refused_write(error: &sqlx::Error) -> bool {
    matches!(error.as_database_error().and_then(sqlite_code), Some(8 | 10 | 13))
}

/// Returns true if the connection cannot be used after this error: the transport failed, the server closes the connection, or the
/// server is read-only after a failover (25006).
fn loses_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() => {
            error.code().is_some_and(|code| {
                code.starts_with("08") || matches!(code.as_ref(), "25006" | "25P03" | "57P01" | "57P02" | "57P03")
            })
        }
        // FULL, IOERR, NOMEM, READONLY, CORRUPT and NOTADB.
        sqlx::Error::Database(error) => matches!(sqlite_code(error.as_ref()), Some(7 | 8 | 10 | 11 | 13 | 26)),
        _ => false,
    }
}
