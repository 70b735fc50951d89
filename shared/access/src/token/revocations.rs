//! The revocations that a verifier knows: tokens that are rejected before they expire.

use std::{collections::HashMap, hash::Hash, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use contract::Actor;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use uuid::Uuid;

use super::Claims;
use crate::{Clock, SessionId, UserId};

/// The time between two purges of expired revocations.
const PURGE_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// The default limit for the age of the list. Methods with `revocation: STRICT` fail while the list is older.
const STALENESS_BOUND: Duration = Duration::from_secs(15);

/// A set of tokens that are revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The tokens of these sessions.
    Sessions(Vec<SessionId>),
    /// The tokens of this user whose version is lower than this one.
    OlderThan(UserId, i64),
    /// Every token of this user.
    User(UserId),
    /// The tokens of this client whose version is lower than this one.
    Client(String, i64),
    /// Every token that this key has signed.
    Key(String),
}

impl Revocation {
    /// Returns true if this revocation may cover a token with these claims. The claims do not name the key that signed the token,
    /// so the result is always true for [`Key`](Self::Key).
    pub fn may_cover(&self, claims: &Claims) -> bool {
        let is_user = |user_id: &UserId| claims.actor == Actor::User && claims.sub == user_id.to_string();
        match self {
            Self::Sessions(session_ids) => claims.sid.is_some_and(|session_id| session_ids.contains(&session_id)),
            Self::OlderThan(user_id, version) => is_user(user_id) && claims.ver < *version,
            Self::User(user_id) => is_user(user_id),
            Self::Client(client_id, version) => {
                claims.actor == Actor::Service && claims.sub == *client_id && claims.ver < *version
            }
            Self::Key(_) => true,
        }
    }
}

/// The list of revocations. Each one is kept until the tokens that it revokes have expired.
#[derive(Debug)]
pub struct RevocationList {
    clock: Clock,
    entries: RwLock<Entries>,
    /// The time when the list was last known to be complete.
    last_sync: Mutex<Option<Instant>>,
    staleness_bound: Duration,
}

impl RevocationList {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, entries: RwLock::default(), last_sync: Mutex::default(), staleness_bound: STALENESS_BOUND }
    }

    pub(super) fn set_staleness_bound(&mut self, bound: Duration) {
        self.staleness_bound = bound;
    }

    pub(super) fn add(&self, revocation: Revocation, until: DateTime<Utc>) {
        self.entries.write().add(revocation, until);
    }

    /// Records that the list holds everything that was revoked until now.
    pub fn mark_synced(&self) {
        *self.last_sync.lock() = Some(Instant::now());
        self.entries.write().purge_expired(self.clock.now());
    }

    /// Returns true if the list was complete more recently than the staleness bound.
    pub fn are_fresh(&self) -> bool {
        let last_sync = *self.last_sync.lock();
        last_sync.is_some_and(|last_sync| last_sync.elapsed() <= self.staleness_bound)
    }

    /// Returns the time since the list was last known to be complete, or `None` before the first time.
    pub fn age(&self) -> Option<Duration> {
        self.last_sync.lock().map(|last_sync| last_sync.elapsed())
    }

    /// Returns true if tokens with these claims are revoked.
    pub fn contains(&self, claims: &Claims) -> bool {
        self.entries.read().cover(claims)
    }

    /// Returns true if the key is withdrawn.
    pub(super) fn contains_key(&self, kid: &str) -> bool {
        self.entries.read().keys.contains_key(kid)
    }

    /// Returns the number of revocations.
    pub fn len(&self) -> usize {
        self.entries.read().len()
    }

    /// Returns true if nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first valid version, and the time until which older versions have to be rejected.
type VersionBound = (i64, DateTime<Utc>);

#[derive(Debug, Default)]
struct Entries {
    sessions: HashMap<SessionId, DateTime<Utc>>,
    users: HashMap<Uuid, VersionBound>,
    clients: HashMap<String, VersionBound>,
    keys: HashMap<String, DateTime<Utc>>,
    last_purge: Option<DateTime<Utc>>,
}

impl Entries {
    fn add(&mut self, revocation: Revocation, until: DateTime<Utc>) {
        match revocation {
            Revocation::Sessions(session_ids) => self.sessions.extend(session_ids.into_iter().map(|id| (id, until))),
            Revocation::OlderThan(user_id, version) => raise(&mut self.users, user_id.into(), (version, until)),
            Revocation::User(user_id) => raise(&mut self.users, user_id.into(), (i64::MAX, until)),
            Revocation::Client(client_id, version) => raise(&mut self.clients, client_id, (version, until)),
            Revocation::Key(kid) => {
                self.keys.insert(kid, until);
            }
        }
    }

    /// Returns true if a token with these claims is revoked.
    fn cover(&self, claims: &Claims) -> bool {
        if claims.sid.is_some_and(|session_id| self.sessions.contains_key(&session_id)) {
            return true;
        }
        let bound = match claims.actor {
            Actor::User if self.users.is_empty() => None,
            Actor::User => claims.sub.parse().ok().and_then(|user_id: Uuid| self.users.get(&user_id)),
            Actor::Service => self.clients.get(&claims.sub),
        };
        bound.is_some_and(|(version, _)| claims.ver < *version)
    }

    /// Removes the revocations whose tokens have expired.
    fn purge_expired(&mut self, now: DateTime<Utc>) {
        if self.last_purge.is_some_and(|last| now - last < PURGE_INTERVAL) {
            return;
        }
        self.last_purge = Some(now);
        self.sessions.retain(|_, until| *until > now);
        self.users.retain(|_, (_, until)| *until > now);
        self.clients.retain(|_, (_, until)| *until > now);
        self.keys.retain(|_, until| *until > now);
    }

    fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + self.clients.len() + self.keys.len()
    }
}

fn raise<K: Eq + Hash>(bounds: &mut HashMap<K, VersionBound>, key: K, (version, until): VersionBound) {
    let (first_valid, last) = bounds.entry(key).or_insert((version, until));
    (*first_valid, *last) = ((*first_valid).max(version), (*last).max(until));
}
