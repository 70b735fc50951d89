//! The log: its format and its filter.

use std::io;

use tracing_subscriber::EnvFilter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The error of an invalid log filter.
#[derive(Debug, thiserror::Error)]
#[error("the log filter {filter:?} is not valid: {source}")]
pub struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts to write log lines to standard error. `filter` has the syntax of `RUST_LOG`, for example `info,sqlx=warn`. A process that
/// already logs keeps its settings.
///
/// # Errors
///
/// Returns an error that quotes the filter if it is invalid.
pub fn log(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::builder().parse(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let _ = match format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}
