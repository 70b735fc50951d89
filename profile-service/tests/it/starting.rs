//! The service starts, stops, and reports the reason if it cannot start.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use access::{Clock, token::Verifier};
use gateway::ApiDocs;
use migrate::SchemaError;
use profile_service::{
    MIGRATIONS, ServeError, Service,
    proto::{GetProfileRequest, profile_service_client::ProfileServiceClient},
};
use store::{Db, Executor};
use testing::{Engine, TestDatabase};
use tokio::net::TcpListener;
use tonic::Code;

use crate::app::{AUDIENCE, ISSUER, assert_refused};

fn service(db: Db) -> Service {
    let clock = Clock::system();
    let verifier = Arc::new(Verifier::new(ISSUER, AUDIENCE, clock.clone()));
    let page = Some(ApiDocs { auth_url: "http://auth.example.com".to_owned() });
    let (server, quotas) = (server::ServerSettings::default(), profile_service::Quotas::default());
    Service { db, clock, verifier, events: None, server, page, quotas, audit_key: None, audit_retention: None }
}

async fn start(db: Db) -> Result<(), ServeError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    profile_service::serve(service(db), listener, async {}).await
}

async fn execute(db: &Db, sql: &'static str) {
    let mut tx = db.begin().await.unwrap();
    tx.query(sql).execute().await.unwrap();
    tx.commit().await.unwrap();
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_profile-service"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

#[track_caller]
pub fn assert_fails_with(output: &Output, sentence: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("profile-service: ") && last.contains(sentence), "{stderr}");
}

/// Returns the number of migrations.
fn all() -> usize {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration()).count()
}

/// A migrated database, which a test may damage.
struct Database(TestDatabase);

impl Database {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        assert_eq!(migrate::migrate(&database.open(), &MIGRATIONS).await.unwrap(), all());
        Self(database)
    }
}

/// An empty database.
struct Empty(TestDatabase);

impl Empty {
    async fn start(engine: Engine) -> Self {
        Self(TestDatabase::new(engine).await)
    }
}

testing::on_both_engines! {
    async fn a_migrated_database_is_served(database: Database) {
        start(database.0.open()).await.unwrap();
        assert_eq!(migrate::migrate(&database.0.open(), &MIGRATIONS).await.unwrap(), 0);
    }

    async fn an_unmigrated_database_is_refused(database: Empty) {
        let error = start(database.0.open()).await.unwrap_err();
        assert!(matches!(error, ServeError::Schema(SchemaError::Behind(behind)) if behind == all()), "{error}");
        assert!(error.to_string().contains("run `migrate` first"));
    }

    async fn a_database_of_the_future_is_refused(database: Database) {
        let db = database.0.open();
        execute(&db, "UPDATE _sqlx_migrations SET version = 7000 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").await;
        let error = start(db).await.unwrap_err();
        assert!(matches!(error, ServeError::Schema(SchemaError::Ahead(ref name)) if name.starts_with("7000_")), "{error}");
    }

    async fn a_database_with_another_schema_is_refused(database: Database) {
        let db = database.0.open();
        let mut tx = db.begin().await.unwrap();
        tx.query("UPDATE _sqlx_migrations SET checksum = $1").bind(vec![0_u8]).execute().await.unwrap();
        tx.commit().await.unwrap();
        let error = start(db).await.unwrap_err();
        assert!(matches!(&error, ServeError::Schema(SchemaError::Changed(name)) if name == "0001_initial"), "{error}");
    }

    async fn a_database_that_is_half_migrated_is_refused(database: Database) {
        let db = database.0.open();
        execute(&db, "UPDATE _sqlx_migrations SET success = FALSE").await;
        let error = start(db).await.unwrap_err();
        assert!(matches!(error, ServeError::Schema(SchemaError::Partial(ref name)) if name == "0001_initial"), "{error}");
    }

    async fn the_migrations_can_be_undone(database: Database) {
        let db = database.0.open();
        let down = MIGRATIONS.iter().filter(|migration| migration.migration_type.is_down_migration());
        for migration in down.collect::<Vec<_>>().into_iter().rev() {
            for statement in migration.sql.as_str().split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
                execute(&db, String::leak(statement.to_owned())).await;
            }
        }
        execute(&db, "DELETE FROM _sqlx_migrations").await;
        assert_eq!(migrate::migrate(&db, &MIGRATIONS).await.unwrap(), all());
        start(db).await.unwrap();
    }

    async fn the_command_line_migrates_serves_and_stops(database: Empty) {
        let url = database.0.url().to_owned();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--database-url", &url];
        assert_fails_with(&command(&serve).output().unwrap(), "run `migrate` first");
        let migrated = command(&["migrate", "--database-url", &url]).output().unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

        let mut serving = command(&serve).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(serving.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.by_ref().find(|line| line.contains("serving")).unwrap();
        let address = listening.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let mut stranger = ProfileServiceClient::connect(format!("http://{address}")).await.unwrap();
        let refused = stranger.get_profile(GetProfileRequest { user_id: "me".to_owned() }).await;
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);

        let signalled = Command::new("kill").args(["-TERM", &serving.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        let rest: Vec<_> = lines.collect();
        assert!(serving.wait().unwrap().success(), "{rest:#?}");
        assert!(rest.iter().any(|line| line.contains("shutting down")), "{rest:#?}");
    }
}

#[test]
fn what_can_t_be_started_is_said_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.db");
    std::fs::write(&file, "This is no database, whatever its name says. ".repeat(100)).unwrap();
    let corrupt = format!("sqlite:{}", file.display());
    let missing = format!("sqlite:{}", folder.path().join("missing/notes.db").display());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let fresh = format!("sqlite:{}", folder.path().join("fresh.db").display());
    for (arguments, sentence) in [
        (&["serve", "--listen", "127.0.0.1:0", "--database-url", &corrupt][..], "cannot read the schema"),
        (&["serve", "--listen", "127.0.0.1:0", "--database-url", &missing], "notes.db: `migrate` creates it"),
        (&["migrate", "--database-url", &corrupt], "cannot read the schema"),
        (&["migrate", "--database-url", "mysql://x"], "must begin with `sqlite:` or `postgres:`"),
        (&["serve", "--listen", &taken, "--database-url", &fresh], "cannot listen on"),
        (
            &["serve", "--listen", "127.0.0.1:0", "--database-url", &fresh, "--auth-url", "ftp://auth"],
            "the URL of the auth service",
        ),
        (&["serve", "--listen", "127.0.0.1:0", "--database-url", &fresh, "--auth-url", "auth"], "the URL of the auth service"),
    ] {
        assert_fails_with(&command(arguments).output().unwrap(), sentence);
    }
}
