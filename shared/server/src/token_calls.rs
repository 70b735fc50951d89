//! The calls with the same access token that are handled at the same time. It needs no verification, so a call beyond the limit costs
//! little. The limit of a caller, who can have many tokens, is enforced after authentication.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The number of bytes at the end of a token that are hashed.
const SIGNATURE: usize = 64;

/// The calls of each token, those that wait included. A token without calls occupies no memory.
#[derive(Debug)]
pub(crate) struct TokenCalls {
    limit: usize,
    /// The largest number of calls that wait.
    waiting: usize,
    hasher: RandomState,
    /// By the hash of the token. Two tokens with the same hash share a limit, which is as improbable as harmless.
    tokens: Mutex<HashMap<u64, Token>>,
}

#[derive(Debug)]
struct Token {
    calls: usize,
    handled: Arc<Semaphore>,
}

/// A call with a token, which waits or is handled until it is dropped.
#[derive(Debug)]
pub(crate) struct TokenCall {
    tokens: Arc<TokenCalls>,
    token: u64,
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl TokenCalls {
    /// Creates a limit of `limit` calls with the same token that are handled, and `waiting` calls that wait.
    pub(crate) fn new(limit: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self { limit, waiting, hasher: RandomState::new(), tokens: Mutex::default() })
    }

    /// Returns the largest number of calls with the same token that are handled.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a call, or returns `None` if too many wait.
    pub(crate) fn add(self: &Arc<Self>, token: &[u8]) -> Option<TokenCall> {
        // The end of an access token is its signature, which no other token has.
        let token = self.hasher.hash_one(&token[token.len().saturating_sub(SIGNATURE)..]);
        let mut tokens = self.tokens.lock();
        let new = || Token { calls: 0, handled: Arc::new(Semaphore::new(self.limit.min(Semaphore::MAX_PERMITS))) };
        let entry = tokens.entry(token).or_insert_with(new);
        if entry.calls >= self.limit.saturating_add(self.waiting) {
            return None;
        }
        entry.calls += 1;
        Some(TokenCall { tokens: Arc::clone(self), token, semaphore: Arc::clone(&entry.handled), permit: None })
    }
}

impl TokenCall {
    /// Starts to handle the call. Returns false if it has to wait.
    pub(crate) fn try_start(&mut self) -> bool {
        self.permit = Arc::clone(&self.semaphore).try_acquire_owned().ok();
        self.permit.is_some()
    }

    /// Waits until the call can be handled, unless it has started already.
    pub(crate) async fn start(&mut self) {
        if self.permit.is_none() {
            self.permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        }
    }
}

impl Drop for TokenCall {
    fn drop(&mut self) {
        self.permit = None;
        let mut tokens = self.tokens.tokens.lock();
        if let Some(token) = tokens.get_mut(&self.token) {
            token.calls -= 1;
            if token.calls == 0 {
                tokens.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_of_a_token_wait_for_each_other() {
        let tokens = TokenCalls::new(1, 1);
        let mut first = tokens.add(b"a").expect("room");
        let mut second = tokens.add(b"a").expect("room to wait");
        assert!(first.try_start() && !second.try_start());
        assert!(tokens.add(b"a").is_none());
        assert!(tokens.add(b"b").expect("room for another token").try_start());
        drop(first);
        second.start().await;
        assert!(!tokens.add(b"a").expect("room to wait").try_start());
        drop(second);
        assert!(tokens.tokens.lock().is_empty());
    }
}
