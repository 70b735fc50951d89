//! PostgreSQL behind a pooler in transaction mode: PgBouncer, as Debian packages it.
#![allow(missing_docs)]

use std::time::Duration;

use store::{Db, DbOptions, Error, Executor, Timeouts};
use testing::{Engine, PgBouncer, TestDatabase};
use tokio::task::JoinSet;

const TIMEOUTS: Timeouts = Timeouts {
    statement: Duration::from_millis(500),
    lock: Duration::from_millis(200),
    idle_transaction: Duration::from_millis(400),
};

fn connect(pooler: &PgBouncer, timeouts: Timeouts) -> Db {
    let options = DbOptions { connections: 8, timeouts, is_transaction_pooled: true };
    Db::with_options(&pooler.url, None, options).expect("a URL")
}

async fn setting(db: &Db, name: &str) -> String {
    db.query("SELECT current_setting($1)").bind(name.to_owned()).one::<(String,)>().await.expect("a setting").0
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_share_servers_without_sharing_statements() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let pooler = PgBouncer::start(database.url(), 2);
    let replicas = [(); 3].map(|()| connect(&pooler, Timeouts::default()));
    let mut tx = replicas[0].begin().await.expect("a transaction");
    tx.query("CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT NOT NULL)").execute().await.expect("a table");
    tx.commit().await.expect("a commit");
    let mut tasks = JoinSet::new();
    for id in 0..300_i64 {
        let db = replicas[usize::try_from(id % 3).expect("a small number")].clone();
        tasks.spawn(async move {
            let mut tx = db.begin().await.expect("a transaction");
            let insert = tx.query("INSERT INTO things (id, name) VALUES ($1, $2)").bind(id).bind(format!("thing {id}"));
            insert.execute().await.expect("a statement");
            tx.commit().await.expect("a commit");
            let found = db.query("SELECT name FROM things WHERE id = $1").bind(id).one::<(String,)>().await;
            assert_eq!(found.expect("the row").0, format!("thing {id}"));
            let missing = db.query("SELECT id, name FROM things WHERE id = $1").bind(-id - 1);
            assert!(missing.optional::<(i64, String)>().await.expect("an answer").is_none());
            let duplicate = db.query("INSERT INTO things (id, name) VALUES ($1, 'x')").bind(id).execute().await;
            assert!(duplicate.as_ref().is_err_and(Error::is_unique_violation), "{duplicate:?}");
        });
    }
    tasks.join_all().await;
    let (count,) = replicas[1].query("SELECT COUNT(*) FROM things").one::<(i64,)>().await.expect("a count");
    assert_eq!(count, 300);
}

#[tokio::test]
async fn time_limits_hold_in_each_transaction_and_do_not_outlive_it() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let pooler = PgBouncer::start(database.url(), 1);
    let (limited, unlimited) = (connect(&pooler, TIMEOUTS), connect(&pooler, Timeouts::NONE));
    for _ in 0..3 {
        assert_eq!(setting(&limited, "statement_timeout").await, "500ms");
        assert_eq!(setting(&limited, "lock_timeout").await, "200ms");
        assert_eq!(setting(&limited, "idle_in_transaction_session_timeout").await, "400ms");
        // The other client uses the same server.
        assert_eq!(setting(&unlimited, "statement_timeout").await, "0");
    }
    let slow = limited.query("SELECT pg_sleep(30)::text").execute().await;
    assert!(slow.as_ref().is_err_and(Error::is_transient), "{slow:?}");

    // The server ends a transaction that is idle for too long, and serves the others again.
    let mut frozen = limited.begin().await.expect("a transaction");
    frozen.query("SELECT 1").execute().await.expect("a statement");
    let answered = unlimited.query("SELECT 1").execute();
    tokio::time::timeout(Duration::from_secs(30), answered).await.expect("an answer").expect("a statement");
    assert!(frozen.commit().await.is_err_and(|error| error.is_transient()));
}
