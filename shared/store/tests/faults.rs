//! The database recovers from faults of the network, the server and the disk without a restart, and loses no acknowledged write.
#![allow(missing_docs)]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::{Db, DbOptions, Error, Executor, Timeouts};
use testing::{Engine, FaultProxy, TestDatabase};

/// Short limits, so that the tests are short.
const TIMEOUTS: Timeouts = Timeouts {
    statement: Duration::from_millis(500),
    lock: Duration::from_millis(200),
    idle_transaction: Duration::from_millis(400),
};
/// A wide margin for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(url: &str, connections: u32) -> Db {
    let options = DbOptions { connections, timeouts: TIMEOUTS, ..DbOptions::default() };
    Db::with_options(url, None, options).expect("a URL")
}

async fn write(db: &Db, name: &str) -> Result<(), Error> {
    let mut tx = db.begin().await?;
    tx.query("INSERT INTO things (name) VALUES ($1)").bind(name.to_owned()).execute().await?;
    tx.commit().await
}

async fn create_table(db: &Db) {
    let mut tx = db.begin().await.expect("a transaction");
    tx.query("CREATE TABLE things (name TEXT PRIMARY KEY)").execute().await.expect("a table");
    tx.commit().await.expect("a commit");
}

async fn count(db: &Db) -> i64 {
    db.query("SELECT COUNT(*) FROM things").one::<(i64,)>().await.expect("a count").0
}

/// Makes new connections read-only, as those to a standby are, or makes them writable again.
async fn set_read_only(url: &str, database: &str, value: &str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::Executor::execute(&mut connection, "SET default_transaction_read_only = off").await.expect("a statement");
    let statement = format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = {value}");
    sqlx::Executor::execute(&mut connection, AssertSqlSafe(statement)).await.expect("a statement");
}

/// Repeats a write until it succeeds, which must happen within the margin.
async fn write_soon(db: &Db, name: &str) {
    let written = tokio::time::timeout(PATIENCE, async {
        while let Err(error) = write(db, name).await {
            assert!(error.is_transient(), "{error:?}");
        }
    });
    written.await.expect("a database that recovers");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_recovers_after_a_network_that_lost_every_packet() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let direct = database.open();
    create_table(&direct).await;
    let proxy = FaultProxy::to(database.url()).await;
    let db = connect(&proxy.url, 4);
    write(&db, "before").await.expect("a write");

    proxy.silence();
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..24 {
        let db = db.clone();
        calls.spawn(async move {
            if call % 2 == 0 {
                // The deadline of a caller passes while its query waits for a response.
                let query = db.query("SELECT COUNT(*) FROM things");
                tokio::time::timeout(Duration::from_millis(300), query.one::<(i64,)>()).await.is_err()
            } else {
                // A caller without a deadline gets an error too, because the operation has a time limit.
                write(&db, &format!("lost {call}")).await.is_err_and(|error| error.is_transient())
            }
        });
    }
    assert!(calls.join_all().await.into_iter().all(|failed| failed), "nothing can succeed while every packet is lost");
    proxy.heal();
    write_soon(&db, "after").await;

    // Every connection of the pool can be used again, all at once.
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let db = db.clone();
        readers.spawn(async move { db.query("SELECT pg_sleep(0.2)::text").execute().await.is_ok() });
    }
    assert!(readers.join_all().await.into_iter().all(|succeeded| succeeded));
    assert_eq!(count(&direct).await, 2);
}

#[tokio::test]
async fn sqlite_writes_again_after_a_full_disk() {
    let database = TestDatabase::new(Engine::Sqlite).await;
    let db = database.open();
    create_table(&db).await;
    // SQLite reports SQLITE_FULL, and rolls back by itself, at a limit of pages as it does on a full disk.
    let mut tx = db.begin().await.expect("a transaction");
    tx.query("PRAGMA max_page_count = 8").one::<(i64,)>().await.expect("a limit");
    tx.commit().await.expect("a commit");
    let full = write(&db, &"x".repeat(100_000)).await;
    assert!(full.as_ref().is_err_and(Error::is_transient), "{full:?}");
    // The limit belongs to the connection, which is not used any more.
    write(&db, "after").await.expect("a write");
    assert_eq!(count(&db).await, 1);
    assert!(db.accepts_writes().await);
}

#[tokio::test]
async fn postgres_writes_again_after_a_failover_to_a_server_that_was_read_only() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let admin = database.open();
    create_table(&admin).await;
    let (name,) = admin.query("SELECT current_database()::text").one::<(String,)>().await.expect("a name");
    set_read_only(database.url(), &name, "on").await;
    let db = connect(database.url(), 2);
    for _ in 0..3 {
        let refused = write(&db, "refused").await;
        assert!(refused.as_ref().is_err_and(Error::is_transient), "{refused:?}");
    }
    assert!(!db.accepts_writes().await && db.is_reachable().await);
    // A connection that was opened to the read-only server would stay read-only.
    set_read_only(database.url(), &name, "off").await;
    write_soon(&db, "after").await;
    assert!(db.accepts_writes().await);
    assert_eq!(count(&admin).await, 1);
}

#[tokio::test]
async fn a_process_that_is_frozen_inside_a_transaction_stops_the_others_only_for_a_moment() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let (frozen, other) = (connect(database.url(), 4), connect(database.url(), 4));
    create_table(&other).await;
    write(&other, "row").await.expect("a write");
    let mut held = frozen.begin().await.expect("a transaction");
    held.query("UPDATE things SET name = 'held'").execute().await.expect("a statement");

    let mut tx = other.begin().await.expect("a transaction");
    let waited = tx.query("UPDATE things SET name = 'other'").execute().await;
    assert!(waited.as_ref().is_err_and(|error| error.is_transient() && !error.is_retryable()), "{waited:?}");
    drop(tx);
    assert_eq!(count(&other).await, 1, "reads do not wait");
    let updated = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut tx = other.begin().await.expect("a transaction");
            if tx.query("UPDATE things SET name = 'other'").execute().await.is_ok() {
                break tx.commit().await.expect("a commit");
            }
        }
    });
    updated.await.expect("the server ends the idle transaction");
    let late = held.commit().await;
    assert!(late.as_ref().is_err_and(Error::is_transient), "{late:?}");
    let (name,) = other.query("SELECT name FROM things").one::<(String,)>().await.expect("the row");
    assert_eq!(name, "other");
}

#[tokio::test]
async fn a_commit_after_a_failed_statement_is_not_acknowledged() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let db = database.open();
    create_table(&db).await;
    let mut tx = db.begin().await.expect("a transaction");
    tx.query("INSERT INTO things (name) VALUES ('kept')").execute().await.expect("a statement");
    tx.query("INSERT INTO nothing (name) VALUES ('lost')").execute().await.expect_err("no such table");
    tx.commit().await.expect_err("PostgreSQL has rolled back");
    assert_eq!(count(&db).await, 0);
}

/// Waits until as many transactions wait for an advisory lock.
async fn wait_for_waiting(db: &Db, expected: i64) {
    let sql = "SELECT COUNT(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
         WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
    loop {
        let (waiting,): (i64,) = db.query(sql).one().await.expect("a count");
        if waiting == expected {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shared_lock_that_is_asked_for_later_does_not_overtake_an_exclusive_lock() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let db = database.open();
    let mut first = db.begin().await.expect("a transaction");
    first.lock_shared("user 1").await.expect("a lock");
    let lock = |is_exclusive: bool| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut tx = db.begin().await.expect("a transaction");
            if is_exclusive { tx.lock_exclusive("user 1").await } else { tx.lock_shared("user 1").await }.expect("a lock");
            tx
        })
    };
    let exclusive = lock(true);
    wait_for_waiting(&db, 1).await;
    let later = lock(false);
    wait_for_waiting(&db, 2).await;
    first.commit().await.expect("a commit");
    let exclusive = exclusive.await.expect("no panic");
    wait_for_waiting(&db, 1).await;
    assert!(!later.is_finished());
    exclusive.commit().await.expect("a commit");
    later.await.expect("no panic").commit().await.expect("a commit");
}
