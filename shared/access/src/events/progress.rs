//! The progress of a consumer of events, for metrics and for state that is served.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::Position;

/// The progress of a consumer, which other tasks can read.
#[derive(Debug, Clone, Default)]
pub struct WatchProgress(Arc<Mutex<ProgressState>>);

/// The progress of a consumer at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgressState {
    /// Whether a stream is open.
    pub is_connected: bool,
    /// Whether the last batch was the end of the events when it was sent.
    pub is_at_end: bool,
    /// The position up to which events are applied.
    pub position: Option<Position>,
    /// The auth service's time when it sent the last batch.
    pub time: Option<DateTime<Utc>>,
    /// The number of streams that were opened.
    pub connects: u64,
    /// The number of times that the consumer had to start again from a snapshot.
    pub resyncs: u64,
}

impl WatchProgress {
    /// Returns the progress now.
    pub fn state(&self) -> ProgressState {
        self.0.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ProgressState)) {
        change(&mut self.0.lock());
    }
}
