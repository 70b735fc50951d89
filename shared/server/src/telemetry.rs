//! The log: its format, its filter, and the end of the process.

use std::{
    env,
    io::{self, IsTerminal},
    panic,
    sync::OnceLock,
};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, Registry,
    fmt::MakeWriter,
    layer::{Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::{
    log_format::{JsonLine, TextLine},
    log_writer::standard_error,
};

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

/// Writes the lines that are still in the buffer when it is dropped.
#[derive(Debug)]
#[must_use = "the last lines are lost unless the value lives until the process ends"]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        standard_error().flush();
    }
}

/// The filter of this process.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts to write log lines to standard error. `filter` has the syntax of `RUST_LOG`, for example `info,sqlx=warn`. A process that
/// already logs keeps its settings.
///
/// Lines are written 100 milliseconds later at the latest, and warnings and errors at once. What is left is written when the guard is
/// dropped, and before the message of a panic. `std::process::exit` loses it.
///
/// # Errors
///
/// Returns an error that quotes the filter if it is invalid.
pub fn log(format: LogFormat, filter: &str) -> Result<LogGuard, FilterError> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let is_first = match format {
        LogFormat::Text => {
            tracing_subscriber::registry().with(filter).with(text_layer(standard_error(), has_colors())).try_init().is_ok()
        }
        LogFormat::Json => tracing_subscriber::registry().with(filter).with(json_layer(standard_error())).try_init().is_ok(),
    };
    if is_first {
        let _ = FILTER.set(handle);
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            standard_error().flush();
            report(panic);
        }));
    }
    Ok(LogGuard(()))
}

/// Replaces the filter of this process each time that the process receives SIGHUP. `read` returns the new filter, or the reason why there
/// is none; then the old filter stays.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
pub fn reload_filter_on_hangup(read: impl Fn() -> Result<String, String> + Send + 'static) {
    let mut hangup = signal(SignalKind::hangup()).expect("a tokio runtime can handle signals");
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match read().and_then(|filter| set_filter(&filter).map(|()| filter)) {
                Ok(filter) => tracing::info!(filter, "the log filter was read again"),
                Err(reason) => tracing::warn!(reason, "the log filter is not replaced"),
            }
        }
    });
}

fn set_filter(filter: &str) -> Result<(), String> {
    let filter = parse(filter).map_err(|error| error.to_string())?;
    let handle = FILTER.get().ok_or("this process has another log")?;
    handle.reload(filter).map_err(|error| error.to_string())
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().parse(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })
}

fn text_layer<S, W>(writer: W, has_colors: bool) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().event_format(TextLine).with_ansi(has_colors).with_writer(writer)
}

fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(writer)
}

/// Returns true if standard error is a terminal, and the environment does not disable colors (no-color.org).
#[expect(clippy::disallowed_methods, reason = "NO_COLOR is a convention of the terminal, not a setting of the service")]
fn has_colors() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Log lines in memory.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).expect("text")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns a subscriber that writes text.
    pub(crate) fn text(lines: Lines, filter: EnvFilter, has_colors: bool) -> impl tracing::Subscriber + Send + Sync {
        tracing_subscriber::registry().with(filter).with(text_layer(move || lines.clone(), has_colors))
    }

    /// Returns a subscriber that writes JSON.
    pub(crate) fn json(lines: Lines, filter: EnvFilter) -> impl tracing::Subscriber + Send + Sync {
        tracing_subscriber::registry().with(filter).with(json_layer(move || lines.clone()))
    }
}
