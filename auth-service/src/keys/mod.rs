//! Signing keys: encrypted in the database, kept parsed in memory.

mod audit_keys;
mod lifecycle;
mod master;
mod signing;
mod signing_pool;

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::{Clock, Error, Result, token::KeySet};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::RwLock;
use store::Db;
use tokio::time::Instant;

pub use audit_keys::audit_keys;
pub use lifecycle::{Key, State, activate, check_encryption, create, list, retire, rewrap};
pub use master::MasterKey;
pub use signing::{GeneratedKey, KeyBits, SigningKey};
pub(crate) use signing_pool::SigningPool;

use crate::{events::EventLog, proto::Jwk};

/// A replica that has not loaded the keys for this long stops signing, because another may have retired the active key.
const STALE: Duration = Duration::from_mins(1);

/// The reason why the signing keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The master key is malformed.
    #[error("the master key must be 32 bytes in base64, as `openssl rand -base64 32` writes them")]
    MasterKey,
    /// The master key is another, or the encrypted key was changed.
    #[error("the signing key {0} cannot be decrypted with this master key")]
    Decryption(String),
    /// Another replica rotated the keys at the same time.
    #[error("the keys were changed while they were being loaded")]
    Changed,
    /// A key could not be generated, read or stored.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] store::Error),
}

/// The keys as they were last loaded from the database.
#[derive(Default)]
pub struct Keys {
    loaded: Option<Instant>,
    active: Option<Arc<SigningKey>>,
    by_id: HashMap<String, Arc<SigningKey>>,
    /// The time when the active key was activated.
    active_since: Option<DateTime<Utc>>,
    /// The numbers of pending, active and retired keys.
    states: [usize; 3],
    /// The number of times that keys were loaded, including this one.
    pub(crate) loads: u64,
    /// The public keys that verify tokens now, or will soon.
    pub jwks: Vec<Jwk>,
    /// The same keys, parsed.
    pub set: KeySet,
}

impl Keys {
    /// Returns the key that signs new tokens, or UNAVAILABLE if the keys have not been loaded for a minute.
    pub fn active(&self) -> Result<&Arc<SigningKey>> {
        let active = self.active.as_ref().filter(|_| self.are_fresh());
        active.ok_or_else(|| Error::Unavailable("the signing keys have not been loaded for a minute".into()))
    }

    /// Returns the number of keys in each state.
    pub(crate) fn states(&self) -> [(&'static str, usize); 3] {
        let [pending, active, retired] = self.states;
        [("pending", pending), ("active", active), ("retired", retired)]
    }

    /// Returns the time when the active key was activated.
    pub(crate) fn active_since(&self) -> Option<DateTime<Utc>> {
        self.active_since
    }

    /// Returns the time since they were loaded.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.loaded.map(|loaded| loaded.elapsed())
    }

    /// Returns true if they were loaded within the last minute.
    pub fn are_fresh(&self) -> bool {
        self.loaded.is_some_and(|loaded| loaded.elapsed() < STALE)
    }

    /// Returns the key with this id.
    pub fn find(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.by_id.get(kid)
    }
}

/// Loads the keys from the database and holds them in memory.
pub struct KeyRing {
    db: Db,
    clock: Clock,
    master: MasterKey,
    token_life: TimeDelta,
    keys: RwLock<Arc<Keys>>,
}

impl KeyRing {
    /// Loads the keys. They sign tokens that live for at most `token_life`. If no key is active, generates one of `bits`; of several
    /// replicas that do so at the same time, one succeeds.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::Decryption`] if the keys are encrypted with another master key.
    pub async fn open(db: Db, clock: Clock, master: MasterKey, bits: KeyBits, token_life: TimeDelta) -> Result<Self, KeyError> {
        let ring = Self { db, clock, master, token_life, keys: RwLock::default() };
        ring.reload().await?;
        if ring.keys().active.is_none() {
            let generated = GeneratedKey::new(bits).await?;
            let mut change = EventLog::new(ring.db.clone(), ring.clock.clone()).begin().await?;
            lifecycle::create_active(&mut change, &ring.clock, &ring.master, &generated).await?;
            change.commit().await?;
            ring.reload().await?;
        }
        Ok(ring)
    }

    /// Returns the keys as they were last loaded.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read())
    }

    /// Loads the keys again and returns the public ones. After an error, the keys that were loaded before stay in use.
    pub async fn reload(&self) -> Result<Vec<Jwk>, KeyError> {
        let (loaded, now) = (Instant::now(), self.clock.now());
        let (expired, rows): (Vec<_>, Vec<_>) = lifecycle::list_encrypted(&self.db)
            .await?
            .into_iter()
            .partition(|row| row.expire_time.is_some_and(|expires| expires <= now));
        if !expired.is_empty() {
            let mut tx = self.db.begin().await?;
            lifecycle::purge_expired(&mut tx, &self.clock).await?;
            tx.commit().await?;
        }
        let old = self.keys();
        let mut new = Keys { loaded: Some(loaded), loads: old.loads + 1, ..Keys::default() };
        for row in rows {
            let key = match old.find(&row.kid) {
                Some(key) => Arc::clone(key),
                None => Arc::new(SigningKey::from_pkcs8(&self.master.decrypt(&row.kid, &row.private_key)?)?),
            };
            if row.state == State::Active {
                // This is stored before the key signs, because a retired key is kept until its last token has expired.
                if row.token_life < self.token_life.num_seconds() {
                    self.allow_token_life(&row.kid).await?;
                }
                new.active = Some(Arc::clone(&key));
                new.active_since = row.activate_time;
            }
            new.states[row.state as usize] += 1;
            new.jwks.push(key.jwk().clone());
            new.by_id.insert(row.kid, key);
        }
        new.set = KeySet::from_jwks(&new.jwks).0;
        let jwks = new.jwks.clone();
        *self.keys.write() = Arc::new(new);
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
    async fn keys_do_not_sign_when_they_were_not_loaded_for_a_minute() {
        let generated = GeneratedKey::new(KeyBits::Rsa2048).await.expect("a key");
        let key = Arc::new(SigningKey::from_pkcs8(&generated.der).expect("a key"));
        let keys = Keys { loaded: Some(Instant::now()), active: Some(key), ..Keys::default() };
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert!(keys.active().is_ok());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(keys.active().err().map(|error| error.code()), Some(Code::Unavailable));
    }
}
