//! The limits of calls that are handled at the same time: of the process, and of each access token. Calls that other services depend on
//! have a share of their own.
//!
//! A call beyond a limit waits for a moment before it is refused. A client whose call is refused at once makes the next one at once, and
//! the refusals would take the processor from the calls that are handled.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::token_calls::{TokenCall, TokenCalls};

/// The number of reserved calls at the same time. They are few and short.
const RESERVED_CALLS: usize = 128;
/// The health service, which always has a reserved share.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The routes for probes and metrics, which always have a reserved share.
const OPERATIONS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// How many calls wait for each call that is handled.
const WAITING: usize = 4;
/// The longest time that a call waits.
const PATIENCE: Duration = Duration::from_secs(1);
/// The limit of calls that are handled at the same time. Clones share the count.
#[derive(Clone)]
pub(crate) struct ConcurrencyLimit(Arc<Shares>);

struct Shares {
    limit: usize,
    calls: Arc<Semaphore>,
    /// The calls that are handled and those that wait.
    room: Arc<Semaphore>,
    tokens: Arc<TokenCalls>,
    reserved_calls: Arc<Semaphore>,
    reserved_paths: HashSet<&'static str>,
}

/// The use of a share of the concurrent calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareUse {
    pub(crate) name: &'static str,
    pub(crate) in_use: usize,
    pub(crate) limit: usize,
}

/// A limit that a call has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The limit of the process.
    Process,
    /// The limit of the access token.
    Token(usize),
}

/// Permits to handle a call until it is dropped.
#[derive(Debug)]
pub(crate) struct CallPermit {
    _handled: OwnedSemaphorePermit,
    _token: Option<TokenCall>,
    _room: Option<OwnedSemaphorePermit>,
}

/// The turn of a call.
pub(crate) enum Turn {
    /// The call is handled now.
    Now(CallPermit),
    /// The call waits.
    Later(WaitingCall),
}

/// A call that waits for its turn.
pub(crate) struct WaitingCall {
    shares: Arc<Shares>,
    room: OwnedSemaphorePermit,
    token: Option<TokenCall>,
}

impl ConcurrencyLimit {
    /// Creates a limit of `calls`, and of `calls_per_token` with the same access token. Calls of `reserved_paths`, health checks and
    /// metrics have a share of their own.
    pub(crate) fn new(calls: usize, calls_per_token: usize, reserved_paths: HashSet<&'static str>) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shares {
            limit: calls,
            calls: semaphore(calls),
            room: semaphore(calls.saturating_mul(1 + WAITING)),
            tokens: TokenCalls::new(calls_per_token, calls_per_token.saturating_mul(WAITING)),
            reserved_calls: semaphore(RESERVED_CALLS),
            reserved_paths,
        }))
    }

    /// Returns the use of both shares.
    pub(crate) fn shares(&self) -> [ShareUse; 2] {
        let share = |name, limit: usize, semaphore: &Semaphore| ShareUse {
            name,
            in_use: limit.saturating_sub(semaphore.available_permits()),
            limit,
        };
        [share("general", self.0.limit, &self.0.calls), share("reserved", RESERVED_CALLS, &self.0.reserved_calls)]
    }

    /// Returns the number of calls that wait.
    pub(crate) fn waiting(&self) -> usize {
        let inside = (self.0.limit * (1 + WAITING)).saturating_sub(self.0.room.available_permits());
        inside.saturating_sub(self.shares()[0].in_use)
    }

    /// Admits a call, or says which limit leaves no room for it, not even to wait.
    pub(crate) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Turn, Reached> {
        let shares = &self.0;
        if path.starts_with(HEALTH) || OPERATIONS.contains(&path) || shares.reserved_paths.contains(path) {
            let handled = Arc::clone(&shares.reserved_calls).try_acquire_owned().map_err(|_| Reached::Process)?;
            return Ok(Turn::Now(CallPermit { _handled: handled, _token: None, _room: None }));
        }
        let room = Arc::clone(&shares.room).try_acquire_owned().map_err(|_| Reached::Process)?;
        let token = headers.get(header::AUTHORIZATION).map(|token| shares.tokens.add(token.as_bytes()).ok_or(shares.token()));
        let mut token = token.transpose()?;
        let handled = if token.as_mut().is_none_or(TokenCall::try_start) {
            Arc::clone(&shares.calls).try_acquire_owned().ok()
        } else {
            None
        };
        Ok(match handled {
            Some(handled) => Turn::Now(CallPermit { _handled: handled, _token: token, _room: Some(room) }),
            None => Turn::Later(WaitingCall { shares: Arc::clone(shares), room, token }),
        })
    }
}

impl Shares {
    fn token(&self) -> Reached {
        Reached::Token(self.tokens.limit())
    }
}

impl WaitingCall {
    /// Waits for at most a second until the call can be handled, or says which limit it waited for.
    pub(crate) async fn wait(self) -> Result<CallPermit, Reached> {
        let Self { shares, room, mut token } = self;
        let mut reached = shares.token();
        let handled = timeout(PATIENCE, async {
            if let Some(token) = &mut token {
                token.start().await;
            }
            reached = Reached::Process;
            Arc::clone(&shares.calls).acquire_owned().await
        });
        match handled.await {
            Ok(Ok(handled)) => Ok(CallPermit { _handled: handled, _token: token, _room: Some(room) }),
            _ => Err(reached),
        }
    }
}

impl fmt::Debug for ConcurrencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimit").field("available", &self.0.calls.available_permits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with_token(token: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(token))])
    }

    fn now(turn: Result<Turn, Reached>) -> CallPermit {
        match turn.expect("room") {
            Turn::Now(permit) => permit,
            Turn::Later(_) => panic!("the call waits"),
        }
    }

    fn later(turn: Result<Turn, Reached>) -> WaitingCall {
        match turn.expect("room") {
            Turn::Now(_) => panic!("the call is handled"),
            Turn::Later(call) => call,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_a_second_and_no_more_than_four_for_each_that_is_handled() {
        let limit = ConcurrencyLimit::new(1, 8, HashSet::new());
        let nobody = HeaderMap::new();
        let held = now(limit.admit("/a", &nobody));
        let mut waiting: Vec<_> = (0..WAITING).map(|_| later(limit.admit("/a", &nobody))).collect();
        assert_eq!(limit.waiting(), WAITING);
        assert_eq!(limit.admit("/a", &nobody).err(), Some(Reached::Process));
        let next = waiting.pop().expect("a call");
        assert_eq!(next.wait().await.err(), Some(Reached::Process));
        let next = waiting.pop().expect("a call");
        drop(held);
        drop(next.wait().await.expect("a turn"));
        drop(waiting);
        assert_eq!(limit.waiting(), 0);
        now(limit.admit("/a", &nobody));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_token_occupy_no_more_than_its_limit() {
        let limit = ConcurrencyLimit::new(2, 1, HashSet::new());
        let (alice, bob) = (with_token("Bearer a"), with_token("Bearer b"));
        let held = now(limit.admit("/a", &alice));
        let waiting: Vec<_> = (0..WAITING).map(|_| later(limit.admit("/a", &alice))).collect();
        assert_eq!(limit.admit("/a", &alice).err(), Some(Reached::Token(1)));
        now(limit.admit("/a", &bob));
        for call in waiting {
            assert_eq!(call.wait().await.err(), Some(Reached::Token(1)));
        }
        drop(held);
        now(limit.admit("/a", &alice));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_for_the_process_needs_its_token_once() {
        let limit = ConcurrencyLimit::new(1, 1, HashSet::new());
        let held = now(limit.admit("/a", &HeaderMap::new()));
        let waiting = later(limit.admit("/a", &with_token("Bearer a")));
        drop(held);
        waiting.wait().await.expect("a turn");
    }

    #[test]
    fn reserved_calls_are_not_refused_when_others_are() {
        let limit = ConcurrencyLimit::new(2, 8, HashSet::from(["/keys"]));
        let nobody = HeaderMap::new();
        let held = [now(limit.admit("/a", &nobody)), now(limit.admit("/b", &nobody))];
        for path in ["/keys", "/grpc.health.v1.Health/Check", "/livez", "/readyz", "/metrics"] {
            now(limit.admit(path, &nobody));
        }
        let reserved: Vec<_> = (0..RESERVED_CALLS).map(|_| now(limit.admit("/keys", &nobody))).collect();
        assert_eq!(limit.admit("/keys", &nobody).err(), Some(Reached::Process));
        drop((held, reserved));
        now(limit.admit("/c", &nobody));
    }
}
