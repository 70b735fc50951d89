//! The log: its format and its filter.

use std::{
    env,
    io::{self, IsTerminal},
};

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
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(has_colors());
    let _ = match format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Returns true if standard error is a terminal, and the environment does not disable colors (no-color.org).
#[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of the terminal, not a setting of the service")]
fn has_colors() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
