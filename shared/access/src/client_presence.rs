//! Tells a handler that runs to completion whether its client still waits for the response.

use std::{
    future::Future,
    sync::{Arc, Weak},
};

tokio::task_local! {
    /// Refers to a value that lives as long as the client of the call waits.
    static CALL: Weak<()>;
}

/// Knows whether the client of one call still waits for the response.
///
/// A handler that writes runs to completion, also after its client has disconnected or the deadline has passed. It can use this to leave
/// out expensive work whose result nobody receives.
#[derive(Debug, Clone, Default)]
pub struct ClientPresence(Option<Weak<()>>);

impl ClientPresence {
    /// Returns the presence of the client of the call that the current task handles. Outside of a call, the client never leaves.
    pub fn of_current_call() -> Self {
        Self(CALL.try_with(Weak::clone).ok())
    }

    /// Returns true if the client has disconnected, or if the deadline of the call has passed.
    pub fn has_left(&self) -> bool {
        self.0.as_ref().is_some_and(|call| call.strong_count() == 0)
    }
}

/// A call whose client waits until the value is dropped.
#[derive(Debug, Default)]
pub(crate) struct WaitingClient(Arc<()>);

impl WaitingClient {
    /// Runs `work` as a part of the call.
    pub(crate) fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CALL.scope(Arc::downgrade(&self.0), work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_leaves_when_its_call_is_dropped() {
        assert!(!ClientPresence::of_current_call().has_left());
        let waiting = WaitingClient::default();
        let presence = waiting.scope(async { ClientPresence::of_current_call() }).await;
        assert!(!presence.has_left());
        drop(waiting);
        assert!(presence.has_left());
    }
}
