//! The test harness. Every behavior test runs on both engines, against a real server on a port that the system chooses.
//!
//! ```
//! # mod tests {
//! struct App;
//!
//! impl App {
//!     async fn start(engine: testing::Engine) -> Self {
//!         let database = testing::TestDatabase::new(engine).await;
//!         # drop(database);
//!         App
//!     }
//! }
//!
//! testing::on_both_engines! {
//!     async fn an_app_starts(app: App) {
//!         drop(app);
//!     }
//! }
//! # }
//! ```
//!
//! * [`TestDatabase`] is an empty database: a temporary SQLite file, or a database on a PostgreSQL server that the first test starts.
//! * [`TestClock`] is a clock that a test advances, and [`Issuer`] issues tokens in place of the auth service.
//! * [`Running`] is a server in the process of the test, on a port that the system chooses.
//! * [`assert_refused`] checks the code, the reason and the violations of an error. [`check_access_matrix`] calls every method as every
//!   kind of caller, and [`Parity`] calls gRPC and HTTP and compares the answers.
//! * [`FaultProxy`] and [`PgBouncer`] stand between a service and its database. [`token_corpus`] contains hostile tokens.

mod access_matrix;
mod assertions;
mod clock;
mod collector;
mod database;
mod django;
mod error_lines;
mod fault_proxy;
pub mod http;
mod issuer;
mod metrics;
mod openapi;
mod parity;
mod pgbouncer;
mod postgres;
mod python;
mod raw_codec;
mod running;
#[allow(missing_docs, clippy::missing_panics_doc, reason = "the names of the corpus say what each token is")]
pub mod token_corpus;

pub use self::{
    access_matrix::{MatrixCaller, MatrixCell, MatrixClaims, MatrixRow, access_matrix, check_access_matrix},
    assertions::{assert_refused, details, with_token},
    clock::TestClock,
    collector::{CollectedSpan, Collector},
    database::{Engine, TestDatabase},
    django::{DjangoProject, Facts, simplejwt_answers},
    error_lines::ErrorLines,
    fault_proxy::FaultProxy,
    issuer::Issuer,
    metrics::{MetricInfo, Metrics},
    openapi::assert_described,
    parity::Parity,
    pgbouncer::PgBouncer,
    running::{Running, Shutdown},
};

/// Returns the number of rounds of a long test: the environment variable `TEST_ROUNDS`, or `short` without it.
///
/// # Panics
///
/// Panics if `TEST_ROUNDS` is not a number.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
pub fn rounds(short: usize) -> usize {
    std::env::var("TEST_ROUNDS").map_or(short, |rounds| rounds.parse().expect("TEST_ROUNDS is a number"))
}

/// Declares each test twice: for SQLite and for PostgreSQL. The asynchronous function `App::start(engine)` returns the argument
/// of the test. A test also fails if it writes an ERROR line to the log, unless it takes the line from [`ErrorLines`].
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
                let log = $crate::ErrorLines::watch();
                test(<$App>::start($crate::Engine::Sqlite).await).await;
                log.assert_none();
            }

            #[tokio::test]
            async fn postgres() {
                let log = $crate::ErrorLines::watch();
                test(<$App>::start($crate::Engine::Postgres).await).await;
                log.assert_none();
            }
        }
    )+};
}
