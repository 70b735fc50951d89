//! A clock that a test sets.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use access::Clock;
use chrono::{DateTime, Duration, Utc};

/// A [`Clock`] that stands still until a test advances it. Clones share the time.
#[derive(Debug, Clone)]
pub struct TestClock {
    clock: Clock,
    micros: Option<Arc<AtomicI64>>,
}

impl TestClock {
    /// Creates a clock that stands at `time`.
    ///
    /// # Panics
    ///
    /// The clock panics once it is advanced beyond the year 262,143.
    pub fn new(time: DateTime<Utc>) -> Self {
        let micros = Arc::new(AtomicI64::new(time.timestamp_micros()));
        let shared = Arc::clone(&micros);
        let clock = Clock::from_fn(move || {
            DateTime::from_timestamp_micros(shared.load(Ordering::Relaxed)).expect("a time that chrono represents")
        });
        Self { clock, micros: Some(micros) }
    }

    /// Returns the clock as the code under test takes it.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves the time forward.
    ///
    /// # Panics
    ///
    /// Panics for a clock that was not created with [`TestClock::new`].
    pub fn advance(&self, by: Duration) {
        let micros = self.micros.as_ref().expect("a clock that stands still");
        micros.fetch_add(by.num_microseconds().expect("a duration of fewer than 292,000 years"), Ordering::Relaxed);
    }
}

impl From<Clock> for TestClock {
    /// Wraps a clock that the test does not move.
    fn from(clock: Clock) -> Self {
        Self { clock, micros: None }
    }
}

impl Deref for TestClock {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.clock
    }
}
