//! The time of day, as an argument.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};

/// Tells the time to the microsecond, which is the precision that PostgreSQL stores.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Function(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>),
}

impl Clock {
    /// Returns the system clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Creates a clock that returns what `time` returns.
    pub fn from_fn(time: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Source::Function(Arc::new(time)))
    }

    /// Returns the current time.
    ///
    /// # Panics
    ///
    /// Panics in the year 262,143.
    #[expect(clippy::disallowed_methods, reason = "this is the only place that reads the system clock")]
    pub fn now(&self) -> DateTime<Utc> {
        let now = match &self.0 {
            Source::System => Utc::now(),
            Source::Function(time) => time(),
        };
        DateTime::from_timestamp_micros(now.timestamp_micros()).expect("chrono represents every year until 262,143")
    }

    /// Returns true for the system clock.
    pub fn is_system(&self) -> bool {
        matches!(self.0, Source::System)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_system() { "Clock(system)" } else { "Clock(function)" })
    }
}
