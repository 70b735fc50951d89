//! Writes values that are read when the metrics are read.

use std::fmt::Result;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Writes a gauge without labels.
///
/// # Errors
///
/// Returns an error if the text cannot be written.
pub fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// Writes a gauge with a value for each value of `label`.
///
/// # Errors
///
/// Returns an error if the text cannot be written.
pub fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, f64)>,
) -> Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (key, value) in values {
        ConstGauge::new(value).encode(encoder.encode_family(&[(label, key)])?)?;
    }
    Ok(())
}

/// Writes a counter with a value for each value of `label`. The suffix `_total` is added to the name.
///
/// # Errors
///
/// Returns an error if the text cannot be written.
pub fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) -> Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, value) in values {
        ConstCounter::new(value).encode(encoder.encode_family(&[(label, key)])?)?;
    }
    Ok(())
}

/// Writes a counter without labels. The suffix `_total` is added to the name.
pub(super) fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}
