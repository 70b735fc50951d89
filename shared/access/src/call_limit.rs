//! The limit of calls of one caller that are handled at the same time.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use crate::{Error, KeyCounts, Result};

/// A limit of calls of each caller that are handled at the same time. Clones share the count.
#[derive(Clone)]
pub struct CallLimit {
    limit: usize,
    callers: Arc<Callers>,
}

#[derive(Default)]
struct Callers {
    hasher: RandomState,
    /// The number of calls by the hash of the caller. Two callers with the same hash share a limit, which is as improbable as harmless.
    calls: Mutex<KeyCounts<u64>>,
    refused: AtomicU64,
}

impl CallLimit {
    /// Creates a limit of `limit` calls.
    pub fn new(limit: usize) -> Self {
        Self { limit, callers: Arc::default() }
    }

    /// Returns the number of calls that were refused.
    pub fn refused(&self) -> u64 {
        self.callers.refused.load(Relaxed)
    }

    /// Counts a call until the permit is dropped.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED if as many calls of the caller are handled as the limit allows.
    pub(crate) fn acquire(&self, caller: &str) -> Result<CallPermit> {
        let caller = self.callers.hasher.hash_one(caller);
        if !self.callers.calls.lock().add(caller, self.limit) {
            self.callers.refused.fetch_add(1, Relaxed);
            return Err(Error::limit_reached(format_args!("{} calls of this caller are in flight", self.limit)));
        }
        Ok(CallPermit { callers: Arc::clone(&self.callers), caller })
    }
}

impl fmt::Debug for CallLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallLimit").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Counts one call until it is dropped.
pub(crate) struct CallPermit {
    callers: Arc<Callers>,
    caller: u64,
}

impl fmt::Debug for CallPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPermit").finish_non_exhaustive()
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.callers.calls.lock().remove(&self.caller);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_caller_has_a_limit_of_its_own() {
        let limit = CallLimit::new(2);
        let held = [limit.acquire("alice").expect("room"), limit.acquire("alice").expect("room")];
        let error = limit.acquire("alice").expect_err("no room");
        assert!(matches!(error, Error::Exhausted { retry_after, .. } if retry_after == Duration::from_secs(1)));
        limit.acquire("bob").expect("room for another caller");
        drop(held);
        limit.acquire("alice").expect("room again");
        assert!(limit.callers.calls.lock().is_empty());
    }
}
