//! The time of day, as an argument.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, Duration, Utc};

/// Tells the time, to the microsecond: the most that PostgreSQL keeps.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `time` until it is advanced. Its clones advance together.
    pub fn set_to(time: DateTime<Utc>) -> Self {
        Self(Source::Set(Arc::new(AtomicI64::new(time.timestamp_micros()))))
    }

    /// The time now.
    ///
    /// # Panics
    ///
    /// In the year 262,143.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match &self.0 {
            Source::System => Utc::now().timestamp_micros(),
            Source::Set(micros) => micros.load(Ordering::Relaxed),
        };
        DateTime::from_timestamp_micros(micros).expect("a clock within the years that chrono knows")
    }

    /// True for the machine's clock.
    pub fn is_system(&self) -> bool {
        matches!(self.0, Source::System)
    }

    /// Moves a clock that was set. The machine's own clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let (Source::Set(micros), Some(by)) = (&self.0, by.num_microseconds()) {
            micros.fetch_add(by, Ordering::Relaxed);
        }
    }
}
