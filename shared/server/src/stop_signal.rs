//! The signals that stop a process.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Returns a future that completes when the process receives SIGTERM or SIGINT (Ctrl-C). A signal is noticed from the time when
/// this function is called.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
pub fn stop_signal() -> impl Future<Output = ()> {
    // The handlers are installed before the first await, so that no signal after the call is missed.
    let on = |kind| signal(kind).expect("a tokio runtime can handle signals");
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate()), on(SignalKind::interrupt()));
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down: waiting for the calls in flight");
    }
}
