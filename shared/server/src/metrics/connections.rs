//! The connections, the calls in flight, and the refusals of the limits.

use std::{fmt::Error, sync::Arc};

use access::CallLimit;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::write::{counter, counters, gauge, gauges};
use crate::{admission::RefusalCounts, concurrency::ConcurrencyLimit, connections::Connections};

/// Reads the state of the connections and of the limits.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    pub(crate) connections: Arc<Connections>,
    pub(crate) concurrency: ConcurrencyLimit,
    pub(crate) call_limit: CallLimit,
    pub(crate) refusals: Arc<RefusalCounts>,
}

impl Collector for ConnectionMetrics {
    #[expect(clippy::cast_precision_loss, reason = "no server has 2^53 connections, calls or bytes")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let counts = self.connections.counts();
        let encoder = &mut encoder;
        gauge(encoder, "server_connections", "The open connections.", counts.open as f64)?;
        gauge(encoder, "server_connections_limit", "The largest number of open connections.", counts.limit as f64)?;
        counter(encoder, "server_connections_accepted", "The connections that were accepted.", counts.accepted as f64)?;
        let help = "The connections that were refused, because there were too many.";
        counter(encoder, "server_connections_refused", help, counts.refused as f64)?;
        let help = "The responses that clients have not read completely, open streams included.";
        gauge(encoder, "server_responses_open", help, counts.responses as f64)?;
        gauge(
            encoder,
            "server_unread_response_bytes",
            "The bytes of responses that clients have not read.",
            counts.unread as f64,
        )?;
        let help = "The largest number of unread bytes of responses.";
        gauge(encoder, "server_unread_response_limit_bytes", help, counts.unread_limit as f64)?;
        let shares = self.concurrency.shares();
        let help = "The calls whose response has not begun. The share `reserved` is for probes, metrics and other services.";
        gauges(encoder, "server_calls_in_flight", help, "share", shares.map(|share| (share.name, share.in_use as f64)))?;
        let help = "The largest number of calls in flight.";
        gauges(encoder, "server_calls_in_flight_limit", help, "share", shares.map(|share| (share.name, share.limit as f64)))?;
        gauge(encoder, "server_calls_waiting", "The calls that wait until others end.", self.concurrency.waiting() as f64)?;
        let refused = self.refusals.by_limit(self.call_limit.refused());
        counters(
            encoder,
            "server_calls_refused",
            "The calls that were refused, by the limit that they had reached.",
            "limit",
            refused,
        )
    }
}
