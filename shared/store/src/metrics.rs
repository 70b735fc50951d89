//! Metrics of the connections to the database.

use std::fmt::Error;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{Db, pool::PoolUse};

/// Reads the state of the pools of a database.
#[derive(Debug)]
pub(crate) struct PoolMetrics(pub(crate) Db);

/// The gauges: name, help and value.
type PoolGauge = (&'static str, &'static str, fn(&PoolUse) -> usize);

const GAUGES: [PoolGauge; 4] = [
    ("database_connections", "The open connections to the database.", |usage| usage.open),
    ("database_connections_in_use", "The connections to the database that a call uses.", |usage| usage.in_use),
    ("database_connections_limit", "The largest number of open connections to the database.", |usage| usage.limit),
    ("database_connections_waiting", "The calls that wait for a connection to the database.", |usage| usage.waiting),
];

impl Collector for PoolMetrics {
    #[expect(clippy::cast_precision_loss, reason = "there are less than 2^53 connections")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let pools = self.0.pools();
        for (name, help, value) in GAUGES {
            let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (pool, usage, _) in &pools {
                ConstGauge::new(value(usage) as f64).encode(encoder.encode_family(&[("pool", *pool)])?)?;
            }
        }
        let help = "The time that a call waited for a connection to the database.";
        let mut encoder = encoder.encode_descriptor("database_connection_wait_seconds", help, None, MetricType::Histogram)?;
        for (pool, _, wait) in &pools {
            wait.encode(encoder.encode_family(&[("pool", *pool)])?)?;
        }
        Ok(())
    }
}
