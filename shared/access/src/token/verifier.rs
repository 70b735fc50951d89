//! The verifier of access tokens.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contract::Actor;
use quick_cache::{Weighter, sync::Cache};
use serde_json::{Map, Value};

use super::{
    ACCESS_TOKEN_TYPE, Claims, ExternalToken, KeySet, KeyStore, MAX_ACCESS_TOKEN_LIFETIME, Revocation, RevocationList,
    TokenError, TokenSource, TokenTimes, VerifiedToken, decode_and_verify, is_plain,
    times::is_expired,
    verification_counts::{Acceptance, VerificationCounts},
};
use crate::Clock;

/// The size of the cache of verified tokens, in bytes of token. Their claims take about as much memory again.
const CACHE_BYTES: u64 = 16 << 20;

/// Verifies access tokens (RFC 9068) with the keys that it holds, whether or not the auth service can be reached.
///
/// A token is accepted if all of these are true:
///
/// * It is a JWS (RFC 7515) in the compact serialization of at most 8192 bytes, its `typ` is `at+jwt`, and its `alg` is `RS256`.
/// * A key that the verifier holds has signed it. The `kid` of the header names the key.
/// * `iss` is the issuer, and `aud` is or contains the audience.
/// * `exp` is in the future, `iat` and `nbf` are not, with a leeway of 30 seconds, and the lifetime is at most
///   [`MAX_ACCESS_TOKEN_LIFETIME`].
/// * `sub`, `jti` and `client_id` are [plain text](is_plain).
/// * Nothing in the [list of revocations](Self::revocations) covers it.
///
/// Verified tokens are kept in a cache of 16 MiB, so that a repeated token costs no second verification of its signature. Expiry
/// and revocations are checked for every call.
///
/// ```
/// use access::{
///     Clock,
///     token::{TokenError, Verifier},
/// };
///
/// let verifier = Verifier::new("https://auth.example.com", "orders", Clock::system());
/// assert!(!verifier.has_keys());
/// assert_eq!(verifier.verify("not a token").err(), Some(TokenError::Malformed));
/// ```
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    clock: Clock,
    keys: KeyStore,
    revocations: RevocationList,
    sources: Vec<Box<dyn TokenSource>>,
    verified: Cache<Box<str>, Arc<VerifiedToken>, TokenLength>,
    counts: VerificationCounts,
}

#[derive(Debug, Clone)]
struct TokenLength;

impl Weighter<Box<str>, Arc<VerifiedToken>> for TokenLength {
    fn weight(&self, token: &Box<str>, _: &Arc<VerifiedToken>) -> u64 {
        token.len() as u64
    }
}

impl Verifier {
    /// Creates a verifier of the tokens that `issuer` issues for the service `audience`. It holds no keys yet: see
    /// [`follow_auth_service`](super::follow_auth_service).
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, clock: Clock) -> Self {
        let items = usize::try_from(CACHE_BYTES / 800).unwrap_or_default();
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys: KeyStore::default(),
            revocations: RevocationList::new(clock.clone()),
            clock,
            sources: Vec::new(),
            verified: Cache::with_weighter(items, CACHE_BYTES, TokenLength),
            counts: VerificationCounts::default(),
        }
    }

    /// Accepts the access tokens of another issuer too. The sources are asked before the token is verified with the keys, in the
    /// order in which they were added.
    #[must_use]
    pub fn with_source(mut self, source: impl TokenSource + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Sets how old the list of revocations may be: 15 seconds by default. Methods with `revocation: STRICT` fail with
    /// UNAVAILABLE while it is older.
    #[must_use]
    pub fn with_staleness_bound(mut self, bound: std::time::Duration) -> Self {
        self.revocations.set_staleness_bound(bound);
        self
    }

    /// Returns the keys that the verifier holds now.
    pub fn keys(&self) -> &KeyStore {
        &self.keys
    }

    /// Returns the list of the revocations that the verifier knows.
    pub fn revocations(&self) -> &RevocationList {
        &self.revocations
    }

    /// Returns true if there is a key to verify with.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Replaces the keys. Withdrawn keys stay out. Tokens of a key that is gone are rejected from now on.
    pub fn set_keys(&self, keys: KeySet) {
        self.update_keys(|_| keys);
        self.keys.mark_fetched();
    }

    /// Rejects the revoked tokens from now on. The revocation is kept until `until`, when these tokens have expired.
    pub fn revoke(&self, revocation: Revocation, until: DateTime<Utc>) {
        let is_key = matches!(revocation, Revocation::Key(_));
        self.revocations.add(revocation, until);
        if is_key {
            self.update_keys(KeySet::clone);
        }
    }

    /// Verifies a token. A token with an unknown key id waits for at most 2 seconds while the keys are fetched, at most once in 30
    /// seconds for all such tokens.
    ///
    /// # Errors
    ///
    /// Returns the first reason that applies, as [`verify`](Self::verify) does. It is for the log: a client receives the same
    /// [`Error::access_token_invalid`](crate::Error::access_token_invalid) for each.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<VerifiedToken>, TokenError> {
        let mut outcome = self.find_or_verify(token);
        if matches!(outcome, Err(TokenError::UnknownKey)) && self.keys.refresh_for_unknown_key(self.clock.now()).await {
            outcome = self.find_or_verify(token);
        }
        self.counts.add(outcome.as_ref().map(|(acceptance, _)| *acceptance).map_err(|error| *error));
        outcome.map(|(_, verified)| verified)
    }

    /// Verifies a token with the keys at hand. It neither waits nor requests new keys.
    ///
    /// # Errors
    ///
    /// Returns the first reason that applies, in the order of [`TokenError`]. Only the types of the other claims are checked
    /// after [`Identity`](TokenError::Identity).
    pub fn verify(&self, token: &str) -> Result<Arc<VerifiedToken>, TokenError> {
        self.find_or_verify(token).map(|(_, verified)| verified)
    }

    /// Returns the number of calls of [`authenticate`](Self::authenticate) by their outcome: `cached`, `verified`, or the reason of the
    /// refusal.
    pub fn verification_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.by_outcome()
    }

    fn find_or_verify(&self, token: &str) -> Result<(Acceptance, Arc<VerifiedToken>), TokenError> {
        let now = self.clock.now();
        if let Some(verified) = self.verified.get(token) {
            if !is_expired(verified.expires, now) {
                return Ok((Acceptance::Cached, self.reject_revoked(verified)?));
            }
            self.verified.remove(token);
            return Err(TokenError::Expired);
        }
        if let Some(external) = self.sources.iter().find_map(|source| source.verify(token, now)) {
            let verified = Arc::new(self.user_of(external?));
            self.verified.insert(token.into(), Arc::clone(&verified));
            return Ok((Acceptance::Verified, self.reject_revoked(verified)?));
        }
        let keys = self.keys.get();
        let claims = decode_and_verify(token, ACCESS_TOKEN_TYPE, &keys)?;
        let verified = Arc::new(self.check(claims, now)?);
        self.verified.insert(token.into(), Arc::clone(&verified));
        // If the keys changed meanwhile, the cache was cleared before this token was inserted.
        if !Arc::ptr_eq(&keys, &self.keys.get()) {
            self.verified.remove(token);
        }
        Ok((Acceptance::Verified, self.reject_revoked(verified)?))
    }

    fn update_keys(&self, change: impl FnOnce(&KeySet) -> KeySet) {
        let are_all_kept = self.keys.update(|held| {
            let mut keys = change(held);
            keys.retain(|kid| !self.revocations.contains_key(kid));
            keys
        });
        if !are_all_kept {
            self.verified.clear();
        }
    }

    fn reject_revoked(&self, verified: Arc<VerifiedToken>) -> Result<Arc<VerifiedToken>, TokenError> {
        if self.revocations.contains(&verified.claims) { Err(TokenError::Revoked) } else { Ok(verified) }
    }

    fn check(&self, claims: Map<String, Value>, now: DateTime<Utc>) -> Result<VerifiedToken, TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(TokenError::Issuer);
        }
        let is_us = |audience: &Value| audience.as_str() == Some(&self.audience);
        if !claims.get("aud").is_some_and(|aud| is_us(aud) || aud.as_array().is_some_and(|aud| aud.iter().any(is_us))) {
            return Err(TokenError::Audience);
        }
        let times = TokenTimes::check(&claims, now, Some(MAX_ACCESS_TOKEN_LIFETIME))?;
        for name in ["sub", "jti", "client_id"] {
            if !claims.get(name).and_then(Value::as_str).is_some_and(is_plain) {
                return Err(TokenError::Identity);
            }
        }
        let claims: Claims = serde_json::from_value(Value::Object(claims)).map_err(|_| TokenError::Claims)?;
        Ok(VerifiedToken::new(claims, times.expires))
    }

    /// Returns the user of an external token, of whom only the id is known.
    fn user_of(&self, token: ExternalToken) -> VerifiedToken {
        let (exp, iat) = token.times.whole_seconds();
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: token.user_id.to_string(),
            aud: vec![self.audience.clone()],
            exp,
            iat,
            jti: token.jti,
            client_id: token.client_id,
            sid: None,
            scope: String::new(),
            groups: Vec::new(),
            preferred_username: None,
            actor: Actor::User,
            ver: 0,
        };
        VerifiedToken::new(claims, token.times.expires)
    }
}
