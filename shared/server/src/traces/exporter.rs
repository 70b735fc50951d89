//! Reports whether the collector takes the spans.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// An exporter that writes one line to the log when it begins to fail, and one when it succeeds again.
#[derive(Debug)]
pub(super) struct ReportingExporter<E> {
    inner: E,
    is_failing: AtomicBool,
}

impl<E> ReportingExporter<E> {
    pub(super) fn new(inner: E) -> Self {
        Self { inner, is_failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for ReportingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.inner.export(batch).await;
        match &outcome {
            Ok(()) if self.is_failing.swap(false, Relaxed) => tracing::info!("the collector takes traces again"),
            Err(error) if !self.is_failing.swap(true, Relaxed) => {
                tracing::warn!(%error, "cannot export traces; those that the collector does not take are lost");
            }
            _ => {}
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
