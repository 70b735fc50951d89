//! Transactions.

use access::Clock;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr, SqliteConnection};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Result,
    attached::Attached,
    db::{Executor, SCRIPT},
    pool::{Engine, Lease},
    query::{Query, Target},
};

/// A transaction. It is rolled back if it is dropped without a commit.
#[derive(Debug)]
pub struct Tx {
    transaction: Transaction,
    /// An INSERT that is sent with the next query.
    attached: Option<Attached>,
}

/// The connection of a transaction.
#[derive(Debug)]
pub(crate) enum Transaction {
    /// With the permit to write.
    Postgres(Lease<PgConnection>, OwnedSemaphorePermit),
    Sqlite(Lease<SqliteConnection>),
}

impl Tx {
    pub(crate) fn new(transaction: Transaction) -> Self {
        Self { transaction, attached: None }
    }

    /// Returns the time that all replicas share: the time of PostgreSQL's server, or of `clock` on SQLite, which has one process.
    /// A clock other than the system clock is used on both.
    pub async fn now(&mut self, clock: &Clock) -> Result<DateTime<Utc>> {
        if let (Transaction::Postgres(..), true) = (&self.transaction, clock.is_system()) {
            // The time of the statement: `now()` is the time of the BEGIN, before the transaction waited for any lock.
            return Ok(self.query("SELECT clock_timestamp()").one::<(DateTime<Utc>,)>().await?.0);
        }
        Ok(clock.now())
    }

    /// Takes a shared lock until the transaction ends. `name` says what is locked, such as `user` and an id.
    ///
    /// Transactions get the locks of one name in the order in which they asked for them. Row locks are different: PostgreSQL gives
    /// `FOR KEY SHARE` to new transactions while another one waits to change the row, so that a stream of short transactions can make it
    /// wait for ever. On SQLite the transaction itself is the lock.
    pub async fn lock_shared(&mut self, name: &str) -> Result<()> {
        self.lock_name("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", name).await
    }

    /// Waits for the transactions that have taken a lock with this name, and makes those that ask later wait until this one ends.
    pub async fn lock_exclusive(&mut self, name: &str) -> Result<()> {
        self.lock_name("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name).await
    }

    async fn lock_name(&mut self, sql: &'static str, name: &str) -> Result<()> {
        if let Transaction::Postgres(..) = &self.transaction {
            self.query(sql).bind(name).execute().await?;
        }
        Ok(())
    }

    /// Sends an INSERT together with the next query of the transaction, so that it costs no round trip of its own. If no query follows, it is
    /// sent before the COMMIT. `bind` binds its parameters `$1`, `$2`, …, each of which the INSERT names once, in this order. The query must
    /// not begin with WITH, and must not depend on the row. Neither text may contain a `$` that is no parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if a value cannot be encoded. An error of the INSERT is an error of the query that it is sent with. If another INSERT
    /// was attached before and has not been sent, it is sent first, and its error is returned.
    ///
    /// # Panics
    ///
    /// The query panics when it runs if a text contains another `$`, or if the INSERT names its parameters in another way.
    pub async fn attach(&mut self, insert: &'static str, bind: impl FnOnce(Query<'_>) -> Query<'_> + Send) -> Result<()> {
        self.send_attached().await?;
        let arguments = bind(self.query(insert)).into_arguments()?;
        self.attached = Some(Attached { insert, arguments });
        Ok(())
    }

    /// Sends the attached INSERT alone.
    async fn send_attached(&mut self) -> Result<()> {
        if let Some(Attached { insert, arguments }) = self.attached.take() {
            self.query(insert).with_arguments(arguments).execute().await?;
        }
        Ok(())
    }

    /// Runs statements without parameters.
    pub async fn execute_raw(&mut self, sql: String) -> Result<()> {
        let sql = AssertSqlSafe(sql).into_sql_str();
        match &mut self.transaction {
            Transaction::Postgres(lease, _) => lease.run(SCRIPT, |connection| connection.execute_raw(sql)).await?,
            Transaction::Sqlite(lease) => lease.run(SCRIPT, |connection| connection.execute_raw(sql)).await?,
        }
        Ok(())
    }

    /// Commits. The changes then survive a crash and a power cut.
    ///
    /// # Errors
    ///
    /// After [`Error::Unavailable`](crate::Error::Unavailable) it is not known whether the changes were made. On PostgreSQL, the
    /// commit of a transaction in which a statement has failed returns [`Error::Failed`](crate::Error::Failed), and no change was
    /// made.
    pub async fn commit(mut self) -> Result<()> {
        self.send_attached().await?;
        Ok(match self.transaction {
            Transaction::Postgres(lease, _permit) => lease.commit().await,
            Transaction::Sqlite(lease) => lease.commit().await,
        }?)
    }
}

impl<'c> Executor<'c> for &'c mut Tx {
    fn is_sqlite(&self) -> bool {
        matches!(self.transaction, Transaction::Sqlite(_))
    }

    fn query(self, sql: &'static str) -> Query<'c> {
        match &mut self.transaction {
            Transaction::Postgres(lease, _) => Query::new(sql, Target::Postgres(lease, &mut self.attached)),
            Transaction::Sqlite(lease) => Query::new(sql, Target::Sqlite(lease, &mut self.attached)),
        }
    }
}
