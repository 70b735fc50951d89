//! What a verifier knows of tokens that were revoked before they expire.

use std::{collections::HashMap, hash::Hash};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Claims;
use crate::{SessionId, UserId, contract::Actor};

/// How often what has expired by itself is forgotten.
const FORGET_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// News of tokens that are good for nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The tokens of these sessions.
    Sessions(Vec<SessionId>),
    /// The tokens of this user that are of an older version than this.
    OlderThan(UserId, i64),
    /// Every token of this user.
    User(UserId),
    /// The tokens of this client that are of an older version than this.
    Client(String, i64),
    /// Whatever this key has signed.
    Key(String),
}

/// The first version that counts, and until when older ones have to be refused.
type Bar = (i64, DateTime<Utc>);

/// What is revoked, until it has expired by itself.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    sessions: HashMap<SessionId, DateTime<Utc>>,
    users: HashMap<Uuid, Bar>,
    clients: HashMap<String, Bar>,
    keys: HashMap<String, DateTime<Utc>>,
    forgotten: Option<DateTime<Utc>>,
}

impl Revocations {
    pub(super) fn add(&mut self, revocation: Revocation, until: DateTime<Utc>) {
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

    /// True where the claims are of a token that is revoked.
    pub(super) fn cover(&self, claims: &Claims) -> bool {
        if claims.sid.is_some_and(|session_id| self.sessions.contains_key(&session_id)) {
            return true;
        }
        let bar = match claims.actor {
            Actor::User if self.users.is_empty() => None,
            Actor::User => claims.sub.parse().ok().and_then(|user_id: Uuid| self.users.get(&user_id)),
            Actor::Service => self.clients.get(&claims.sub),
        };
        bar.is_some_and(|(version, _)| claims.ver < *version)
    }

    pub(super) fn has_key(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Forgets what has expired by itself.
    pub(super) fn forget(&mut self, now: DateTime<Utc>) {
        if self.forgotten.is_some_and(|forgotten| now - forgotten < FORGET_INTERVAL) {
            return;
        }
        self.forgotten = Some(now);
        self.sessions.retain(|_, until| *until > now);
        self.users.retain(|_, (_, until)| *until > now);
        self.clients.retain(|_, (_, until)| *until > now);
        self.keys.retain(|_, until| *until > now);
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + self.clients.len() + self.keys.len()
    }
}

fn raise<K: Eq + Hash>(bars: &mut HashMap<K, Bar>, whose: K, (version, until): Bar) {
    let (bar, last) = bars.entry(whose).or_insert((version, until));
    (*bar, *last) = ((*bar).max(version), (*last).max(until));
}
