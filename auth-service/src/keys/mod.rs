//! Signing keys: made once, sealed at rest, kept parsed in memory.

mod lifecycle;
mod master;
mod signing;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use access::{Clock, Error, Result, token::KeySet};
use chrono::TimeDelta;
use store::Db;
use tokio::time::Instant;

pub use lifecycle::{Key, State, activate, create, list, retire, rewrap};
pub use master::MasterKey;
pub use signing::{KeyBits, Made, SigningKey};

use crate::{events::EventLog, proto::Jwk};

/// A replica that has not been able to load the keys for so long signs nothing: another may have retired the key that it has.
const STALE: Duration = Duration::from_mins(1);

/// Why the signing keys are of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A master key that is none.
    #[error("the master key must be 32 bytes in base64, as `openssl rand -base64 32` writes them")]
    MasterKey,
    /// The wrong master key, or bytes that somebody changed.
    #[error("the signing key {0} can't be opened with this master key")]
    Sealed(String),
    /// A rotation at the very moment.
    #[error("the keys were changed while they were being loaded")]
    Changed,
    /// The database, or the machine.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] store::Error),
}

/// The keys as the database had them a moment ago.
#[derive(Default)]
pub struct Keys {
    loaded: Option<Instant>,
    active: Option<Arc<SigningKey>>,
    by_id: HashMap<String, Arc<SigningKey>>,
    /// The public keys that verify tokens, including keys that will sign soon.
    pub jwks: Vec<Jwk>,
    /// The same, ready to verify with.
    pub set: KeySet,
}

impl Keys {
    /// The key that signs new tokens.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the keys have not been loaded for a minute.
    pub fn active(&self) -> Result<&Arc<SigningKey>> {
        let active = self.active.as_ref().filter(|_| self.are_fresh());
        active.ok_or_else(|| Error::Unavailable("the signing keys have not been loaded for a minute".into()))
    }

    /// True where they were loaded within the last minute.
    pub fn are_fresh(&self) -> bool {
        self.loaded.is_some_and(|loaded| loaded.elapsed() < STALE)
    }

    /// The key with this id.
    pub fn find(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.by_id.get(kid)
    }
}

/// Loads the keys from the database, and keeps them.
pub struct KeyRing {
    db: Db,
    clock: Clock,
    master: MasterKey,
    token_life: TimeDelta,
    keys: RwLock<Arc<Keys>>,
}

impl KeyRing {
    /// Loads the keys, to sign what lives for `token_life` at most. Where no key is active, one of `bits` is made; of several
    /// replicas that do so at once, one succeeds.
    ///
    /// # Errors
    ///
    /// Another master key than the one that sealed the keys.
    pub async fn open(db: Db, clock: Clock, master: MasterKey, bits: KeyBits, token_life: TimeDelta) -> Result<Self, KeyError> {
        let ring = Self { db, clock, master, token_life, keys: RwLock::default() };
        ring.reload().await?;
        if ring.keys().active.is_none() {
            let made = Made::of(bits).await?;
            let mut change = EventLog::new(ring.db.clone(), ring.clock.clone()).begin().await?;
            lifecycle::create_active(&mut change, &ring.clock, &ring.master, &made).await?;
            change.commit().await?;
            ring.reload().await?;
        }
        Ok(ring)
    }

    /// The keys as they were last loaded.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads what has changed since the last time, and answers what is public of it.
    ///
    /// # Errors
    ///
    /// Another master key than the one that sealed the keys. The keys that are loaded stay.
    pub async fn reload(&self) -> Result<Vec<Jwk>, KeyError> {
        let (loaded, now) = (Instant::now(), self.clock.now());
        let (expired, rows): (Vec<_>, Vec<_>) =
            lifecycle::sealed(&self.db).await?.into_iter().partition(|row| row.expire_time.is_some_and(|expires| expires <= now));
        if !expired.is_empty() {
            let mut tx = self.db.begin().await?;
            lifecycle::forget(&mut tx, &self.clock).await?;
            tx.commit().await?;
        }
        let old = self.keys();
        let mut new = Keys { loaded: Some(loaded), ..Keys::default() };
        for row in rows {
            let key = match old.find(&row.kid) {
                Some(key) => Arc::clone(key),
                None => Arc::new(SigningKey::from_pkcs8(&self.master.open(&row.kid, &row.private_key)?)?),
            };
            if row.state == State::Active {
                // Before it signs anything: whoever retires it has to know how long to wait.
                if row.token_life < self.token_life.num_seconds() {
                    self.allow_token_life(&row.kid).await?;
                }
                new.active = Some(Arc::clone(&key));
            }
            new.jwks.push(key.jwk().clone());
            new.by_id.insert(row.kid, key);
        }
        new.set = KeySet::from_jwks(&new.jwks).0;
        let jwks = new.jwks.clone();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(jwks)
    }

    async fn allow_token_life(&self, kid: &str) -> Result<(), KeyError> {
        let mut tx = self.db.begin().await?;
        if !lifecycle::allow_token_life(&mut tx, kid, self.token_life).await? {
            return Err(KeyError::Changed);
        }
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_that_were_not_loaded_for_a_minute_sign_nothing() {
        let made = Made::of(KeyBits::Rsa2048).await.expect("a key");
        let key = Arc::new(SigningKey::from_pkcs8(&made.der).expect("a key"));
        let keys = Keys { loaded: Some(Instant::now()), active: Some(key), ..Keys::default() };
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(keys.active().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(keys.active().err().map(|error| error.code()), Some(Code::Unavailable));
    }
}
