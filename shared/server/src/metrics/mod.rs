//! Metrics in the text format of Prometheus. `docs/reference/metrics.md` lists them.
//!
//! Each server has a registry of its own. A value that the server knows anyway is read when the metrics are read, so that it costs
//! nothing on the path of a call.

mod calls;
mod connections;
mod feed;
mod process;
mod verifier;
mod write;

use std::sync::Arc;

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use prometheus_client::{encoding::prometheus_text, registry::Registry};

pub(crate) use self::{
    calls::{CallMetrics, CallMetricsLayer, method_label},
    connections::ConnectionMetrics,
    process::ProcessMetrics,
    verifier::VerifierMetrics,
};
pub use self::{
    feed::FeedMetrics,
    write::{counters, gauge, gauges},
};

/// The upper bounds of the buckets of a latency, in seconds.
pub const LATENCY_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Returns the route `/metrics`.
pub(crate) fn routes(registry: Arc<Registry>) -> Router {
    let answer = async move || {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("writing to a string does not fail");
        ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text)
    };
    Router::new().route("/metrics", get(answer))
}
