//! The signals that stop a process.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to stop: by SIGTERM, or by Ctrl-C.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn stop_signal() -> impl Future<Output = ()> {
    // Before the first await, so that no signal is missed from now on.
    let on = |kind| signal(kind).expect("signals can be listened for in a runtime");
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate()), on(SignalKind::interrupt()));
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: calls in flight come to their end");
    }
}
