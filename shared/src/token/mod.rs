//! Access tokens (RFC 9068): their claims, and the verifier that any service checks them with, by itself and offline.

mod follow;
mod jose;
mod keys;
mod legacy;
mod revocations;
mod service;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::{Weighter, sync::Cache};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::watch, time::Instant};

pub use follow::{AuthUrlError, auth_channel, follow, follow_auth_service};
pub use jose::{ACCESS_TOKEN_TYPE, open};
pub use keys::{KeyRefusal, KeySet};
pub use legacy::{LegacyArgs, LegacyKeyError, LegacyKeys, LegacyKind, LegacyToken};
pub use revocations::Revocation;
pub use service::{ClientCredentials, ServiceToken};

use self::revocations::Revocations;
use crate::{Clock, SessionId, contract::Actor};

/// How far the clocks of two machines may be apart.
const LEEWAY: f64 = 30.0;
/// The longest that an access token may live.
const LONGEST_LIFE: f64 = 24.0 * 3600.0;
/// 2100-01-01: no time in a token is later.
const LAST_TIME: f64 = 4_102_444_800.0;
/// The memory that verified tokens may take, in bytes of token. Their claims take about as much again.
const CACHE_BYTES: u64 = 16 << 20;
/// How often, at most, unknown key ids make the verifier ask for new keys: all of them together.
const UNKNOWN_KEY_INTERVAL: TimeDelta = TimeDelta::seconds(30);
/// How long a token with an unknown key id waits for the answer.
const UNKNOWN_KEY_PATIENCE: Duration = Duration::from_secs(2);

/// How old the news of revocations may be for the methods that ask for them.
const STALENESS_BOUND: Duration = Duration::from_secs(15);

/// The claims of an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The user's or the client's id.
    pub sub: String,
    /// The services that it is for.
    #[serde(deserialize_with = "one_or_more")]
    pub aud: Vec<String>,
    /// When it expires, in whole seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub exp: i64,
    /// When it was issued, in whole seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub iat: i64,
    /// Its own id.
    pub jti: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// The session that it belongs to. None where there is no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The effective permissions, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// The groups of the user.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// The kind of caller.
    pub actor: Actor,
    /// The version of the user or the client that the claims were read from.
    #[serde(default)]
    pub ver: i64,
}

/// What a token says, once its signature and its claims have been checked.
#[derive(Debug)]
pub struct Verified {
    /// Its claims.
    pub claims: Claims,
    permissions: HashSet<String>,
    expires: f64,
}

impl Verified {
    /// True where the token's scope holds the permission.
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

/// Why a token is refused. For the log: its bearer is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("longer than 8192 bytes")]
    TooLong,
    #[error("not three segments of canonical base64url")]
    Malformed,
    #[error("the header is not a JSON object without duplicate members")]
    Header,
    #[error("the algorithm is not RS256")]
    Algorithm,
    #[error("another type of token")]
    Type,
    #[error("a header parameter that is not accepted")]
    HeaderParameter,
    #[error("no key id")]
    KeyId,
    #[error("an unknown key id")]
    UnknownKey,
    #[error("the signature does not fit")]
    Signature,
    #[error("the claims are not a JSON object without duplicate members, or one has the wrong type")]
    Claims,
    #[error("another issuer")]
    Issuer,
    #[error("not for this service")]
    Audience,
    #[error("times that make no sense")]
    Times,
    #[error("not valid yet")]
    NotYetValid,
    #[error("expired")]
    Expired,
    #[error("a subject, token id or client id that is empty, too long or not plain text")]
    Identity,
    #[error("revoked")]
    Revoked,
}

/// Verifies access tokens with the keys that it holds. It answers whether or not the auth service can be reached.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    clock: Clock,
    keys: RwLock<Arc<KeySet>>,
    legacy: LegacyKeys,
    verified: Cache<Box<str>, Arc<Verified>, Bytes>,
    revocations: RwLock<Revocations>,
    /// When it was last told of everything that was revoked until then, and how long that is good for.
    heard: Mutex<Option<Instant>>,
    staleness_bound: Duration,
    /// When an unknown key id last made it ask for keys.
    asked: Mutex<Option<DateTime<Utc>>>,
    /// Asks for new keys: how often it has asked.
    wanted: watch::Sender<u64>,
    /// How often the asking has been answered.
    answered: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Box<str>, Arc<Verified>> for Bytes {
    fn weight(&self, token: &Box<str>, _: &Arc<Verified>) -> u64 {
        token.len() as u64
    }
}

impl Verifier {
    /// A verifier of the tokens that `issuer` issues for the service `audience`. It holds no keys yet: see [`follow`].
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, clock: Clock) -> Self {
        let items = usize::try_from(CACHE_BYTES / 800).unwrap_or_default();
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            clock,
            keys: RwLock::default(),
            legacy: LegacyKeys::default(),
            verified: Cache::with_weighter(items, CACHE_BYTES, Bytes),
            revocations: RwLock::default(),
            heard: Mutex::default(),
            staleness_bound: STALENESS_BOUND,
            asked: Mutex::default(),
            wanted: watch::Sender::new(0),
            answered: watch::Sender::new(0),
        }
    }

    /// Takes the access tokens of Django projects too: their users have no permissions and no groups.
    #[must_use]
    pub fn with_legacy_keys(self, legacy: LegacyKeys) -> Self {
        Self { legacy, ..self }
    }

    /// How old the news of revocations may be for the methods whose access rule asks for them: 15 seconds where it is not set.
    #[must_use]
    pub fn staleness_bound(mut self, bound: Duration) -> Self {
        self.staleness_bound = bound;
        self
    }

    /// Replaces the keys, but for those that were withdrawn. Tokens of a key that is gone are refused from now on.
    pub fn set_keys(&self, keys: KeySet) {
        let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        self.hold(&mut held, keys);
    }

    fn hold(&self, held: &mut Arc<KeySet>, mut keys: KeySet) {
        {
            let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|kid| !revocations.has_key(kid));
        }
        let keys = Arc::new(keys);
        let old = std::mem::replace(held, Arc::clone(&keys));
        if !old.is_within(&keys) {
            self.verified.clear();
        }
    }

    /// Refuses from now on what is revoked. It is remembered until `until`, when it has expired by itself.
    pub fn revoke(&self, revocation: Revocation, until: DateTime<Utc>) {
        let is_key = matches!(revocation, Revocation::Key(_));
        self.revocations.write().unwrap_or_else(PoisonError::into_inner).add(revocation, until);
        if is_key {
            let mut held = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            let keys = KeySet::clone(&held);
            self.hold(&mut held, keys);
        }
    }

    /// To be called by whoever has told everything that was revoked until now.
    pub fn has_heard_of_revocations(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.revocations.write().unwrap_or_else(PoisonError::into_inner).forget(self.clock.now());
    }

    /// True where the news of revocations are younger than the bound.
    pub fn hears_of_revocations(&self) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() <= self.staleness_bound)
    }

    /// True where it is known that tokens with these claims are revoked.
    pub fn has_revoked(&self, claims: &Claims) -> bool {
        self.revocations.read().unwrap_or_else(PoisonError::into_inner).cover(claims)
    }

    /// How many revocations are remembered.
    pub fn revocations(&self) -> usize {
        self.revocations.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Makes whoever follows the keys fetch them now.
    pub fn ask_for_keys(&self) {
        self.wanted.send_modify(|count| *count += 1);
    }

    /// True where there is a key to verify with.
    pub fn has_keys(&self) -> bool {
        !self.keys().is_empty()
    }

    /// Verifies a token. One with an unknown key id waits for new keys, where it is time to ask for them.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        match self.verify(token) {
            Err(Refusal::UnknownKey) if self.asks_for_keys().await => self.verify(token),
            outcome => outcome,
        }
    }

    /// Verifies a token with the keys at hand.
    ///
    /// # Errors
    ///
    /// Why it is refused: the first of the reasons, in the order of [`Refusal`].
    pub fn verify(&self, token: &str) -> Result<Arc<Verified>, Refusal> {
        let now = seconds(self.clock.now());
        if let Some(verified) = self.verified.get(token) {
            if verified.expires > now - LEEWAY {
                return self.unless_revoked(verified);
            }
            self.verified.remove(token);
            return Err(Refusal::Expired);
        }
        if let Some(legacy) = self.legacy.open(token, LegacyKind::Access, self.clock.now()) {
            let verified = Arc::new(self.admit(&legacy?));
            self.verified.insert(token.into(), Arc::clone(&verified));
            return self.unless_revoked(verified);
        }
        let keys = self.keys();
        let claims = open(token, ACCESS_TOKEN_TYPE, &keys)?;
        let verified = Arc::new(self.check(claims, now)?);
        self.verified.insert(token.into(), Arc::clone(&verified));
        // Keys that were replaced meanwhile cleared the cache too early for this token.
        if !Arc::ptr_eq(&keys, &self.keys()) {
            self.verified.remove(token);
        }
        self.unless_revoked(verified)
    }

    fn unless_revoked(&self, verified: Arc<Verified>) -> Result<Arc<Verified>, Refusal> {
        if self.has_revoked(&verified.claims) { Err(Refusal::Revoked) } else { Ok(verified) }
    }

    fn check(&self, claims: Map<String, Value>, now: f64) -> Result<Verified, Refusal> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(Refusal::Issuer);
        }
        let is_us = |audience: &Value| audience.as_str() == Some(&self.audience);
        if !claims.get("aud").is_some_and(|aud| is_us(aud) || aud.as_array().is_some_and(|aud| aud.iter().any(is_us))) {
            return Err(Refusal::Audience);
        }
        let times = Times::read(&claims, now, true)?;
        for name in ["sub", "jti", "client_id"] {
            if !claims.get(name).and_then(Value::as_str).is_some_and(is_plain) {
                return Err(Refusal::Identity);
            }
        }
        let claims: Claims = serde_json::from_value(Value::Object(claims)).map_err(|_| Refusal::Claims)?;
        let permissions = claims.scope.split(' ').filter(|permission| !permission.is_empty()).map(str::to_owned).collect();
        Ok(Verified { claims, permissions, expires: times.expires })
    }

    /// Whom a token of a Django project stands for: a user of whom nothing but the id is known.
    fn admit(&self, token: &LegacyToken) -> Verified {
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.user_id().to_string(),
            aud: vec![self.audience.clone()],
            exp: token.expires(),
            iat: token.issued(),
            jti: token.jti.clone(),
            client_id: token.origin.clone(),
            sid: None,
            scope: String::new(),
            groups: Vec::new(),
            preferred_username: None,
            actor: Actor::User,
            ver: 0,
        };
        Verified { claims, permissions: HashSet::new(), expires: token.times.expires }
    }

    fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks whoever follows the keys to fetch them, unless that was just done. True where the keys may be newer than before.
    async fn asks_for_keys(&self) -> bool {
        let mut answered = self.answered.subscribe();
        let asked = {
            let now = self.clock.now();
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_none_or(|asked| now - asked >= UNKNOWN_KEY_INTERVAL) {
                *asked = Some(now);
                self.wanted.send_modify(|count| *count += 1);
            }
            *self.wanted.borrow()
        };
        // Whoever comes while the keys are being fetched waits for the same answer; whoever comes later does not.
        if *answered.borrow_and_update() >= asked {
            return false;
        }
        let answer = answered.wait_for(|answered| *answered >= asked);
        matches!(tokio::time::timeout(UNKNOWN_KEY_PATIENCE, answer).await, Ok(Ok(_)))
    }
}

/// When a token expires and when it was issued, in seconds since 1970, once both have been checked.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Times {
    expires: f64,
    issued: f64,
}

impl Times {
    fn read(claims: &Map<String, Value>, now: f64, is_short: bool) -> Result<Self, Refusal> {
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| (0.0..=LAST_TIME).contains(time)).map(Some).ok_or(Refusal::Times),
        };
        let (expires, issued) = (time("exp")?.ok_or(Refusal::Times)?, time("iat")?.ok_or(Refusal::Times)?);
        if expires <= issued || is_short && expires - issued > LONGEST_LIFE {
            return Err(Refusal::Times);
        }
        if issued > now + LEEWAY || time("nbf")?.is_some_and(|not_before| not_before > now + LEEWAY) {
            return Err(Refusal::NotYetValid);
        }
        if expires <= now - LEEWAY {
            return Err(Refusal::Expired);
        }
        Ok(Self { expires, issued })
    }

    /// Both in whole seconds.
    #[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
    fn whole(self) -> (i64, i64) {
        (self.expires.floor() as i64, self.issued.floor() as i64)
    }
}

/// RFC 7519 section 4.1.3: one audience may stand without its array.
fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        More(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::More(audiences) => audiences,
    })
}

/// RFC 7519 section 2: a time may have a fraction.
#[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    f64::deserialize(deserializer).map(|seconds| seconds.floor() as i64)
}

/// Text that can't play tricks with a log or a screen.
fn is_plain(text: &str) -> bool {
    let is_bidi = |c| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.is_empty() && text.len() <= 255 && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

#[allow(clippy::cast_precision_loss, reason = "seconds until the year 2100 fit a float to the microsecond")]
fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}
