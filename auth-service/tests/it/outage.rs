//! Calls return UNAVAILABLE while the database is down or locked, and succeed again afterwards without a restart.

use auth_service::{MIGRATIONS, Settings, keys::MasterKey};
use chrono::DateTime;
use store::Db;
use testing::{Engine, ErrorLines, FaultProxy, TestClock, TestDatabase, assert_refused};
use tonic::Code;

use crate::app::{App, registration};

async fn app_on(database: TestDatabase, db: Db) -> App {
    let clock = TestClock::new(DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
    let master_key = MasterKey::generate();
    let server = App::serve(db, &clock, &master_key, Settings::default()).await;
    App { clock, database, master_key, server }
}

#[tokio::test]
async fn calls_are_unavailable_while_postgresql_is_down_and_succeed_afterwards() {
    let log = ErrorLines::watch();
    let database = TestDatabase::new(Engine::Postgres).await;
    migrate::migrate(&database.open(), &MIGRATIONS).await.expect("a migrated database");
    let proxy = FaultProxy::to(database.url()).await;
    let app = app_on(database, Db::new(&proxy.url, None, 8).expect("a URL")).await;
    app.register("alice").await;

    proxy.cut();
    let outcome = app.users().register(registration("bob")).await;
    assert_refused(outcome, Code::Unavailable, "UNAVAILABLE", &[]);

    proxy.mend();
    // Each of the eight cut connections may still fail one call.
    let mut failures = 0;
    while let Err(status) = app.users().register(registration("bob")).await {
        assert_eq!(status.code(), Code::Unavailable);
        failures += 1;
        assert!(failures <= 8, "the service does not recover");
    }
    log.assert_none();
}

#[tokio::test]
async fn calls_are_unavailable_while_sqlite_is_locked_and_succeed_afterwards() {
    let log = ErrorLines::watch();
    let app = App::start(Engine::Sqlite).await;
    app.register("alice").await;

    let elsewhere = app.database.open();
    let held = elsewhere.begin().await.expect("a transaction");
    let outcome = app.users().register(registration("bob")).await;
    assert_refused(outcome, Code::Unavailable, "UNAVAILABLE", &[]);

    drop(held);
    elsewhere.close().await;
    app.register("bob").await;
    log.assert_none();
}
