//! The test harness: every behaviour test runs on both engines, against a real server on a port of the system's choice.

mod described;
mod django;
pub mod http;
mod issuer;
mod postgres;
mod twins;
mod walk;
mod wire;

use std::{
    fmt::{self, Write},
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{AssertSqlSafe, Connection, Executor as _, SqliteConnection};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    Code, Request, Status,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

pub use described::assert_described;
pub use django::{DjangoProject, Facts};
pub use issuer::Issuer;
pub use twins::Twins;
pub use walk::walk;
pub use wire::Wire;

use crate::db::{self, Db};

/// How often a long test goes round: as often as keeps the suite short, or `TEST_ROUNDS`.
///
/// # Panics
///
/// Where that is no number.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
pub fn rounds(short: usize) -> usize {
    std::env::var("TEST_ROUNDS").map_or(short, |rounds| rounds.parse().expect("TEST_ROUNDS is a number"))
}

/// The engine that a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file in a folder of its own.
    Sqlite,
    /// A database of its own in an ephemeral cluster, or in the one that `TEST_POSTGRES_URL` names.
    Postgres,
}

/// Runs each test on both engines. `App::start(engine)` has to answer what the test takes; an ERROR line that the test leaves
/// in the log fails it.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: $App:ty) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn test($app: $App) $body

            #[tokio::test]
            async fn sqlite() {
                let log = $crate::testing::ErrorLines::watch();
                test(<$App>::start($crate::testing::Engine::Sqlite).await).await;
                log.assert_none();
            }

            #[tokio::test]
            async fn postgres() {
                let log = $crate::testing::ErrorLines::watch();
                test(<$App>::start($crate::testing::Engine::Postgres).await).await;
                log.assert_none();
            }
        }
    )+};
}

/// An empty database of the test's own, which is gone when it is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Folder(#[expect(dead_code, reason = "held until it is dropped")] tempfile::TempDir),
    Cluster(postgres::Database),
}

impl TestDatabase {
    /// Makes an empty database.
    ///
    /// # Panics
    ///
    /// Where it can't, with a sentence that says what is missing.
    pub async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite:{}", folder.path().join("test.db").display());
                Self { url, place: Place::Folder(folder) }
            }
            Engine::Postgres => {
                let database = postgres::Database::create().await;
                Self { url: database.url.clone(), place: Place::Cluster(database) }
            }
        }
    }

    /// What is in it now, as a backup has it: restored into a folder, or a cluster, of its own.
    ///
    /// # Panics
    ///
    /// Where it can't be copied.
    pub async fn copy(&self) -> Self {
        match &self.place {
            Place::Folder(_) => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let path = folder.path().join("test.db");
                let mut connection = SqliteConnection::connect(&self.url).await.expect("a database");
                let statement = format!("VACUUM INTO '{}'", path.display());
                connection.execute(AssertSqlSafe(statement)).await.expect("a copy");
                connection.close().await.expect("a connection that closes");
                let copy = Self { url: format!("sqlite:{}", path.display()), place: Place::Folder(folder) };
                // The first who writes makes it a database with a write-ahead log, which one who only reads can't.
                copy.open().begin().await.expect("a database that can be written to").commit().await.expect("a commit");
                copy
            }
            Place::Cluster(database) => {
                let copy = database.copy().await;
                Self { url: copy.url.clone(), place: Place::Cluster(copy) }
            }
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects to it.
    ///
    /// # Panics
    ///
    /// Never: the harness made the URL.
    pub fn open(&self) -> Db {
        Db::new(&self.url, None, 8).expect("a URL that the harness made")
    }

    /// The schema as the engine reports it, a line for each thing. The order of columns does not matter, nor what a constraint is called.
    ///
    /// # Panics
    ///
    /// Where it can't be read.
    pub async fn schema(&self) -> Vec<String> {
        let sql = match self.place {
            Place::Folder(_) => SQLITE_SCHEMA,
            Place::Cluster(_) => POSTGRES_SCHEMA,
        };
        let db = self.open();
        let lines: Vec<(String,)> = db::Executor::query(&db, sql).all().await.expect("a schema");
        db.close().await;
        let mut lines: Vec<_> = lines.into_iter().map(|(line,)| line).collect();
        lines.sort();
        lines
    }
}

const SQLITE_SCHEMA: &str = "
    WITH tables AS (SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!' AND name <> '_sqlx_migrations')
    SELECT t.name || '.' || c.name || ' ' || upper(c.type) || (CASE WHEN c.\"notnull\" OR c.pk THEN ' NOT NULL' ELSE '' END)
        || coalesce(' DEFAULT ' || c.dflt_value, '') || (CASE WHEN c.pk THEN ' KEY ' || c.pk ELSE '' END)
        FROM tables AS t, pragma_table_xinfo(t.name) AS c
    UNION ALL
    SELECT t.name || ' INDEX ' || (CASE l.origin WHEN 'c' THEN l.name ELSE l.origin END) || ' ' || l.\"unique\" || l.partial || ' '
        || (SELECT group_concat(coalesce(i.name, '?') || i.\"desc\") FROM pragma_index_xinfo(l.name) AS i WHERE i.key)
        FROM tables AS t, pragma_index_list(t.name) AS l
    UNION ALL
    SELECT t.name || ' FOREIGN KEY ' || f.seq || ' ' || f.\"from\" || ' ' || f.\"table\" || ' ' || coalesce(f.\"to\", '') || ' ' || f.on_update || ' ' || f.on_delete
        FROM tables AS t, pragma_foreign_key_list(t.name) AS f
    UNION ALL
    SELECT t.name || ' CHECK ' || (length(t.sql) - length(replace(upper(t.sql), 'CHECK', ''))) FROM tables AS t";

const POSTGRES_SCHEMA: &str = "
    WITH tables AS (SELECT oid, relname::TEXT AS name FROM pg_class
        WHERE relnamespace = 'public'::REGNAMESPACE AND relkind = 'r' AND relname <> '_sqlx_migrations')
    SELECT t.name || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || (CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END)
        || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
        FROM tables AS t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    SELECT t.name || ' ' || pg_get_constraintdef(c.oid) FROM tables AS t JOIN pg_constraint AS c ON c.conrelid = t.oid WHERE c.contype <> 'n'
    UNION ALL
    SELECT t.name || ' INDEX ' || pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM tables AS t JOIN pg_index AS i ON i.indrelid = t.oid
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('p', 'u'))";

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// Ends when the server is to stop.
pub type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Runs `serve` on a port of the system's choice.
    ///
    /// # Panics
    ///
    /// Where no port can be had.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpListener, Shutdown) -> F) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let shutdown = Box::pin(async {
            let _ = stopped.await;
        });
        Self { address, stop: Some(stop), serving: tokio::spawn(serve(listener, shutdown)) }
    }

    /// A connection to it.
    ///
    /// # Panics
    ///
    /// Never: the address is one.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address is a URL").connect_lazy()
    }

    /// Stops it, and waits until it has stopped.
    ///
    /// # Panics
    ///
    /// Where it did not stop cleanly.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.await.expect("a server that stops cleanly");
    }
}

/// A request with a bearer token.
///
/// # Panics
///
/// Where the token can't stand in a header.
pub fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: AsciiMetadataValue = format!("Bearer {token}").parse().expect("a token that can stand in a header");
    request.metadata_mut().insert("authorization", value);
    request
}

/// The reason, and the fields with the rules that they break, of a refusal.
///
/// # Panics
///
/// Where the status carries no `ErrorInfo` of the published domain.
pub fn details(status: &Status) -> (String, Vec<(String, String)>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a status carries ErrorInfo");
    assert_eq!(info.domain, crate::error::DOMAIN);
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    (info.reason.clone(), violations.into_iter().map(|violation| (violation.field, violation.reason)).collect())
}

/// Asserts that a call was refused with this code, this reason, and these fields with the rules that they break.
///
/// # Panics
///
/// Where it was not.
#[track_caller]
pub fn assert_refused<T: fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: &str, violations: &[(&str, &str)]) {
    let status = outcome.expect_err("a refusal");
    let (found, fields) = details(&status);
    let fields: Vec<_> = fields.iter().map(|(field, rule)| (field.as_str(), rule.as_str())).collect();
    assert_eq!((status.code(), found.as_str(), fields.as_slice()), (code, reason, violations), "{}", status.message());
}

/// The ERROR lines of one test: of the thread that runs it, and so of every task that it spawns.
#[must_use]
#[derive(Debug)]
pub struct ErrorLines {
    lines: Arc<Mutex<Vec<String>>>,
    _subscriber: DefaultGuard,
}

impl ErrorLines {
    /// Collects them from now on.
    pub fn watch() -> Self {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Collect(Arc::clone(&lines)));
        Self { lines, _subscriber: subscriber.set_default() }
    }

    /// The lines so far, taken away.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fails the test where there is a line.
    ///
    /// # Panics
    ///
    /// Then.
    pub fn assert_none(&self) {
        let lines = self.take();
        assert!(lines.is_empty(), "the test leaves ERROR lines in the log: {lines:#?}");
    }
}

struct Collect(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
