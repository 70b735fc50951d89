//! The limit of calls that are handled at the same time, with a share of its own for what other services depend on.

use std::{collections::HashSet, fmt, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of reserved calls at the same time. They are few and short.
const RESERVED_CALLS: usize = 128;
/// The health service, which always has a reserved share.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The limit of calls that are handled at the same time.
#[derive(Clone)]
pub(crate) struct ConcurrencyLimit {
    calls: Arc<Semaphore>,
    reserved_calls: Arc<Semaphore>,
    reserved_paths: Arc<HashSet<&'static str>>,
    limit: usize,
}

/// The use of a share of the concurrent calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareUse {
    pub(crate) name: &'static str,
    pub(crate) in_use: usize,
    pub(crate) limit: usize,
}

impl ConcurrencyLimit {
    /// Creates a limit of `calls`. Calls of `reserved_paths`, and health checks, have a share of their own.
    pub(crate) fn new(calls: usize, reserved_paths: HashSet<&'static str>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (limit, calls, reserved_calls) = (calls, semaphore(calls), semaphore(RESERVED_CALLS));
        Self { calls, reserved_calls, reserved_paths: Arc::new(reserved_paths), limit }
    }

    /// Returns the use of both shares.
    pub(crate) fn shares(&self) -> [ShareUse; 2] {
        let share = |name, limit: usize, semaphore: &Semaphore| ShareUse {
            name,
            in_use: limit.saturating_sub(semaphore.available_permits()),
            limit,
        };
        [share("general", self.limit, &self.calls), share("reserved", RESERVED_CALLS, &self.reserved_calls)]
    }

    /// Returns a permit to handle a call, or `None` if there are too many.
    pub(crate) fn acquire(&self, path: &str) -> Option<OwnedSemaphorePermit> {
        let is_reserved = path.starts_with(HEALTH) || self.reserved_paths.contains(path);
        let semaphore = if is_reserved { &self.reserved_calls } else { &self.calls };
        Arc::clone(semaphore).try_acquire_owned().ok()
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimit").field("available", &self.calls.available_permits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_calls_are_not_refused_when_others_are() {
        let limit = ConcurrencyLimit::new(2, HashSet::from(["/keys"]));
        let held = [limit.acquire("/a"), limit.acquire("/b")];
        assert!(held.iter().all(Option::is_some));
        assert!(limit.acquire("/c").is_none());
        assert!(limit.acquire("/keys").is_some());
        assert!(limit.acquire("/grpc.health.v1.Health/Check").is_some());
        let reserved: Vec<_> = (0..RESERVED_CALLS).map(|_| limit.acquire("/keys")).collect();
        assert!(reserved.iter().all(Option::is_some) && limit.acquire("/keys").is_none());
        drop(held);
        assert!(limit.acquire("/c").is_some());
    }
}
