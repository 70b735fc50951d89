//! The public keys that a verifier holds, and the requests to fetch new ones.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};

use super::KeySet;

/// How often, at most, unknown key ids trigger a refresh: all of them together.
const UNKNOWN_KEY_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// How long a token with an unknown key id waits for the refresh.
const UNKNOWN_KEY_TIMEOUT: Duration = Duration::from_secs(2);

/// The current key set. Readers never wait for a fetch.
#[derive(Debug)]
pub struct KeyStore {
    keys: RwLock<Arc<KeySet>>,
    /// When the keys were last replaced.
    last_update: Mutex<Option<Instant>>,
    /// When an unknown key id last requested a refresh.
    last_refresh_request: Mutex<Option<DateTime<Utc>>>,
    /// The number of refreshes that were requested.
    requested: watch::Sender<u64>,
    /// The number of the last request that a refresh has answered.
    completed: watch::Sender<u64>,
}

impl Default for KeyStore {
    fn default() -> Self {
        Self {
            keys: RwLock::default(),
            last_update: Mutex::default(),
            last_refresh_request: Mutex::default(),
            requested: watch::Sender::new(0),
            completed: watch::Sender::new(0),
        }
    }
}

impl KeyStore {
    /// Returns the current keys.
    pub fn get(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read())
    }

    /// Returns true while there is no key to verify with.
    pub fn is_empty(&self) -> bool {
        self.keys.read().is_empty()
    }

    /// Returns the time since the keys were last fetched, or `None` before the first time.
    pub fn age(&self) -> Option<Duration> {
        self.last_update.lock().map(|updated| updated.elapsed())
    }

    /// Records that the keys were fetched.
    pub(super) fn mark_fetched(&self) {
        *self.last_update.lock() = Some(Instant::now());
    }

    /// Requests a refresh of the keys. [`follow`](super::follow) then fetches them at once. The call does not wait for it.
    pub fn request_refresh(&self) {
        self.requested.send_modify(|count| *count += 1);
    }

    /// Replaces the keys with what `change` makes of them. Returns false if a key is gone.
    pub(super) fn update(&self, change: impl FnOnce(&KeySet) -> KeySet) -> bool {
        let mut keys = self.keys.write();
        let new = Arc::new(change(&keys));
        let old = std::mem::replace(&mut *keys, Arc::clone(&new));
        old.is_subset_of(&new)
    }

    /// Returns the receiver that sees every request of a refresh.
    pub(super) fn refresh_requests(&self) -> watch::Receiver<u64> {
        self.requested.subscribe()
    }

    /// Wakes those who wait for a refresh that was requested as number `request` or earlier.
    pub(super) fn complete_refresh(&self, request: u64) {
        self.completed.send_replace(request);
    }

    /// Requests a refresh for an unknown key id, unless the last such request is recent, and waits for it. Returns true if the keys may
    /// be newer than before.
    pub(super) async fn refresh_for_unknown_key(&self, now: DateTime<Utc>) -> bool {
        let mut completed = self.completed.subscribe();
        let request = {
            let mut last = self.last_refresh_request.lock();
            if last.is_none_or(|last| now - last >= UNKNOWN_KEY_INTERVAL) {
                *last = Some(now);
                self.request_refresh();
            }
            *self.requested.borrow()
        };
        // Tokens that arrive during a refresh wait for it. Tokens that arrive later do not wait.
        if *completed.borrow_and_update() >= request {
            return false;
        }
        let answer = completed.wait_for(|completed| *completed >= request);
        matches!(tokio::time::timeout(UNKNOWN_KEY_TIMEOUT, answer).await, Ok(Ok(_)))
    }
}
