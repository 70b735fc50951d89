//! A database that is down, or that somebody else holds, makes calls UNAVAILABLE and nothing worse; it recovers by itself.

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
async fn calls_are_unavailable_while_postgresql_is_down_and_served_when_it_is_back() {
    let log = ErrorLines::watch();
    let database = TestDatabase::new(Engine::Postgres).await;
    migrate::migrate(&database.open(), &MIGRATIONS).await.expect("a migrated database");
    let wire = FaultProxy::to(database.url()).await;
    let app = app_on(database, Db::new(&wire.url, None, 8).expect("a URL")).await;
    app.register("alice").await;

    wire.cut();
    let refused = app.users().register(registration("bob")).await;
    assert_refused(refused, Code::Unavailable, "UNAVAILABLE", &[]);

    wire.mend();
    // Each connection that was cut may still fail one call: there are eight.
    let mut failures = 0;
    while let Err(status) = app.users().register(registration("bob")).await {
        assert_eq!(status.code(), Code::Unavailable);
        failures += 1;
        assert!(failures <= 8, "the service does not recover");
    }
    log.assert_none();
}

#[tokio::test]
async fn calls_are_unavailable_while_another_process_holds_sqlite_and_served_when_it_lets_go() {
    let log = ErrorLines::watch();
    let app = App::start(Engine::Sqlite).await;
    app.register("alice").await;

    let elsewhere = app.database.open();
    let held = elsewhere.begin().await.expect("a transaction");
    let refused = app.users().register(registration("bob")).await;
    assert_refused(refused, Code::Unavailable, "UNAVAILABLE", &[]);

    drop(held);
    elsewhere.close().await;
    app.register("bob").await;
    log.assert_none();
}
