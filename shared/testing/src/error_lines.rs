//! The ERROR lines that a test leaves in the log.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
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

/// The ERROR lines of one test: of the thread that runs it, and so of every task that it spawns.
#[must_use]
#[derive(Debug)]
pub struct ErrorLines {
    lines: Arc<Mutex<Vec<String>>>,
    _subscriber: DefaultGuard,
}

impl ErrorLines {
    /// Begins to collect the lines of the current thread, until the value is dropped.
    pub fn watch() -> Self {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Collect(Arc::clone(&lines)));
        Self { lines, _subscriber: subscriber.set_default() }
    }

    /// Returns the lines since the last call, and removes them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock())
    }

    /// Asserts that there is no line.
    ///
    /// # Panics
    ///
    /// Panics if there is one, with its text.
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
            self.0.lock().push(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
