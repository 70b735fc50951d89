//! Logs: one line a call, and a line for what should not have happened.

use std::io;

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter of log lines that is none.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} can't be read: {source}")]
pub struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Writes log lines to standard error from now on. `filter` is what `RUST_LOG` usually holds, such as `info,sqlx=warn`.
///
/// # Errors
///
/// A filter that can't be read. A process that logs already goes on as before.
pub fn log(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::builder().parse(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = match format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}
