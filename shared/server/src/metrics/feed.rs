//! The progress of a consumer of the event feed.

use std::fmt::Error;

use access::{Clock, events::WatchProgress};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::write::{counter, gauge};

/// Reads the progress of a consumer of events.
#[derive(Debug)]
pub struct FeedMetrics {
    clock: Clock,
    progress: WatchProgress,
}

impl FeedMetrics {
    /// Registers the metrics of a consumer.
    pub fn register(registry: &mut Registry, clock: Clock, progress: WatchProgress) {
        registry.register_collector(Box::new(Self { clock, progress }));
    }
}

impl Collector for FeedMetrics {
    #[expect(clippy::cast_precision_loss, reason = "there are less than 2^53 events")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (state, encoder) = (self.progress.state(), &mut encoder);
        gauge(encoder, "events_connected", "1 if a stream of events is open.", flag(state.is_connected))?;
        gauge(encoder, "events_at_end", "1 if all events are applied.", flag(state.is_at_end))?;
        let position = state.position.map_or(0, |position| position.pos);
        gauge(encoder, "events_position", "The position of the last event that is applied.", position as f64)?;
        // Before the first message, the lag is as long as an alert can measure.
        let lag = state.time.map_or(f64::INFINITY, |time| (self.clock.now() - time).to_std().unwrap_or_default().as_secs_f64());
        gauge(encoder, "events_lag_seconds", "The age of the last message of the event feed.", lag)?;
        counter(encoder, "events_connects", "The streams of events that were opened.", state.connects as f64)?;
        counter(encoder, "events_snapshots", "The snapshots of the users that were started.", state.resyncs as f64)
    }
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}
