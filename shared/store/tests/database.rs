//! The database keeps every write that it has acknowledged, even after other operations were cancelled.
#![allow(missing_docs)]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use sqlx::{Connection, Executor as _, SqliteConnection};
use store::{Db, DbOptions, Executor, Timeouts, UrlError};
use testing::{Engine, TestDatabase, on_both_engines};
use tokio::task::JoinSet;

struct Database {
    place: TestDatabase,
    db: Db,
}

impl Database {
    async fn start(engine: Engine) -> Self {
        let place = TestDatabase::new(engine).await;
        let db = place.open();
        let database = Self { place, db };
        database.write("CREATE TABLE things (name TEXT PRIMARY KEY)").await;
        database
    }

    async fn write(&self, sql: &'static str) {
        let mut tx = self.db.begin().await.expect("a transaction");
        tx.query(sql).execute().await.expect("a statement");
        tx.commit().await.expect("a commit");
    }

    /// Inserts a row with one statement: such a write would be lost if the connection still had an open transaction of a cancelled
    /// operation.
    async fn insert(&self, name: &str) {
        let query = self.db.write("INSERT INTO things (name) VALUES ($1)");
        assert_eq!(query.bind(name).execute().await.expect("a statement"), 1);
    }

    /// Returns the number of rows that another process sees.
    async fn stored(&self) -> i64 {
        let (count,) = self.place.open().query("SELECT COUNT(*) FROM things").one().await.expect("a count");
        count
    }
}

/// Polls a future at most `polls` times, and drops it.
async fn cancel_after(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

on_both_engines! {
    async fn a_begin_that_is_cancelled_loses_no_later_write(database: Database) {
        for round in 0..200 {
            cancel_after(round % 23, database.db.begin()).await;
            database.insert(&format!("thing {round}")).await;
        }
        assert_eq!(database.stored().await, 200);
    }

    async fn a_transaction_that_is_cancelled_leaves_nothing_behind(database: Database) {
        for round in 0..200 {
            let name = format!("cancelled {round}");
            cancel_after(round % 41, async {
                let mut tx = database.db.begin().await.expect("a transaction");
                tx.query("INSERT INTO things (name) VALUES ($1)").bind(&name).execute().await.expect("a statement");
                std::future::pending::<()>().await;
            })
            .await;
        }
        assert_eq!(database.stored().await, 0);
        database.insert("kept").await;
        assert_eq!(database.stored().await, 1);
    }

    async fn an_error_has_the_message_of_the_database_alone(database: Database) {
        let error = database.db.query("SELECT nothing FROM things").execute().await.expect_err("no such column");
        let text = access::error::error_chain(&error);
        assert!(text.contains("nothing") && !text.contains(" at line ") && !text.contains("returned from database"), "{text}");
    }

    async fn concurrent_transactions_that_read_and_write_all_succeed(database: Database) {
        database.insert("0").await;
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let db = database.db.clone();
            tasks.spawn(async move {
                let mut tx = db.begin().await.expect("a transaction");
                let query = tx.query("SELECT name FROM things").for_update();
                let (name,): (String,) = query.one().await.expect("the row");
                let next = name.parse::<u32>().expect("a number") + 1;
                tx.query("UPDATE things SET name = $1").bind(next.to_string()).execute().await.expect("a statement");
                tx.commit().await.expect("a commit");
            });
        }
        tasks.join_all().await;
        let (name,): (String,) = database.db.query("SELECT name FROM things").one().await.expect("the row");
        assert_eq!(name, "50");
    }
}

#[tokio::test]
async fn a_new_sqlite_file_is_opened_once_another_process_does_not_lock_it_any_more() {
    // The file does not use the write-ahead log yet.
    let place = TestDatabase::new(Engine::Sqlite).await;
    let mut other = SqliteConnection::connect(place.url()).await.expect("a connection");
    other.execute("BEGIN IMMEDIATE; CREATE TABLE things (name TEXT)").await.expect("a lock");

    let db = place.open();
    let mut beginning = pin!(db.begin());
    let waiting = tokio::time::timeout(Duration::from_millis(200), &mut beginning).await;
    assert!(waiting.is_err(), "it waits for the other process, or has not begun: {waiting:?}");
    other.execute("COMMIT").await.expect("a commit");

    let mut tx = beginning.await.expect("a transaction");
    tx.query("INSERT INTO things (name) VALUES ('written')").execute().await.expect("a statement");
    tx.commit().await.expect("a commit");
}

#[test]
fn a_url_that_names_no_database_is_refused() {
    for url in ["", "things.db", "mysql://root@localhost/things"] {
        assert!(matches!(Db::new(url, None, 1), Err(UrlError::Scheme)), "{url}");
    }
    for url in ["sqlite::memory:", "sqlite:file:x?mode=memory"] {
        assert!(matches!(Db::new(url, None, 1), Err(UrlError::InMemory | UrlError::Malformed(_))), "{url}");
    }
}

#[tokio::test]
async fn writes_of_one_statement_that_wait_leave_connections_to_reads() {
    const CONNECTIONS: u32 = 4;
    let Database { place, db } = Database::start(Engine::Postgres).await;
    let options = DbOptions { connections: CONNECTIONS, timeouts: Timeouts::NONE, ..DbOptions::default() };
    let small = Db::with_options(place.url(), None, options).expect("a URL");
    let mut lock = db.begin().await.expect("a transaction");
    lock.query("LOCK TABLE things IN SHARE MODE").execute().await.expect("a lock");
    let mut writes = JoinSet::new();
    for number in 0..2 * CONNECTIONS {
        let small = small.clone();
        writes.spawn(async move {
            small.write("INSERT INTO things (name) VALUES ($1)").bind(number.to_string()).execute().await.expect("a write");
        });
    }
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while db.query(waiting).one::<(i64,)>().await.expect("a count").0 < i64::from(CONNECTIONS) - 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(small.query("SELECT 1").one::<(i32,)>().await.expect("a read"), (1,));
    lock.commit().await.expect("a commit");
    writes.join_all().await;
}

/// `.cargo/config.toml` sets these options. Without them everything works, but reads on SQLite need more than twice the processor time.
#[tokio::test]
async fn sqlite_is_compiled_with_the_options_of_the_workspace() {
    let place = TestDatabase::new(Engine::Sqlite).await;
    let db = place.open();
    let query = db.query("SELECT compile_options FROM pragma_compile_options");
    let options: Vec<(String,)> = query.all().await.expect("the options");
    let has = |name: &str| options.iter().any(|(option,)| option == name);
    assert!(has("DEFAULT_MEMSTATUS=0") && has("ENABLE_QPSG"), "{options:?}");
    assert!(!has("ENABLE_MEMORY_MANAGEMENT") && !has("ENABLE_FTS5"), "{options:?}");
}
