//! Tells the layers around the authentication who has called.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

tokio::task_local! {
    static CALLER: CurrentCaller;
}

/// The caller of one call. It is not known before the access token is verified, which happens inside of the call.
#[derive(Debug, Clone, Default)]
pub struct CurrentCaller(Arc<OnceLock<String>>);

impl CurrentCaller {
    /// Runs `call`, whose authentication records the caller.
    pub fn scope<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        CALLER.scope(self.clone(), call)
    }

    /// Records the subject of the verified access token of the call that the current task handles.
    pub fn record(subject: &str) {
        let _ = CALLER.try_with(|caller| caller.0.set(subject.to_owned()));
    }

    /// Returns the user id or the client id of the caller. It is `None` for a caller without a valid access token.
    pub fn subject(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
