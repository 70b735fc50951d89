//! The states of a signing key: PENDING, ACTIVE, RETIRED, deleted.
//!
//! A key is published as soon as it is generated, and signs only when every verifier has it. A retired key verifies until the last
//! token that it signed has expired. Therefore a rotation rejects no valid token.

use access::{Clock, Error, Result, error::Violation};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Executor, Tx};

use super::{KeyBits, KeyError, MasterKey, audit_keys, signing::GeneratedKey};
use crate::{
    KEY_INTERVAL,
    events::{EventPayload, OutboxTransaction},
    proto::Reason,
    sessions,
};

/// How many keys may be pending, so that the published key set stays small.
const PENDING_LIMIT: usize = 4;

/// How much longer than its last token a retired key is kept. It is more than [`super::STALE`], during which a replica may still sign
/// with the key, and a verifier's leeway together.
const RETIREMENT_MARGIN: TimeDelta = TimeDelta::minutes(2);

/// The state of a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "TEXT", rename_all = "UPPERCASE")]
pub enum State {
    /// The key is published, but does not sign yet.
    Pending,
    /// The key signs new tokens.
    Active,
    /// The key verifies the tokens that it has signed, and signs no more.
    Retired,
}

/// The public columns of a signing key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the migrations document them")]
pub struct Key {
    pub kid: String,
    pub state: State,
    n: String,
    token_life: i64,
    pub create_time: DateTime<Utc>,
    pub activate_time: Option<DateTime<Utc>>,
    pub retire_time: Option<DateTime<Utc>>,
    pub expire_time: Option<DateTime<Utc>>,
}

impl Key {
    /// Returns the size of its modulus.
    pub fn bits(&self) -> KeyBits {
        match BASE64_URL_SAFE_NO_PAD.decode(&self.n).map_or(0, |modulus| modulus.len() * 8) {
            ..=2048 => KeyBits::Rsa2048,
            2049..=3072 => KeyBits::Rsa3072,
            _ => KeyBits::Rsa4096,
        }
    }

    /// Returns the time from which every verifier has the key. Verifiers keep a key set for `max_age`, and a replica publishes a new
    /// key within `KEY_INTERVAL`.
    pub fn activatable_time(&self, max_age: TimeDelta) -> DateTime<Utc> {
        self.create_time + max_age + KEY_INTERVAL
    }
}

macro_rules! columns {
    () => {
        "kid, state, n, token_life, create_time, activate_time, retire_time, expire_time"
    };
}

macro_rules! returning {
    ($statement:literal) => {
        concat!($statement, " RETURNING ", columns!())
    };
}

/// Returns every key, the newest first. There are few.
pub async fn list(on: impl Executor<'_>) -> Result<Vec<Key>> {
    Ok(on.query(concat!("SELECT ", columns!(), " FROM signing_keys ORDER BY create_time DESC, kid DESC")).all().await?)
}

/// Stores a generated key as PENDING and records the event.
///
/// # Errors
///
/// Returns FAILED_PRECONDITION if 4 keys are pending, and INTERNAL if `master` does not decrypt the other keys. The replicas, which
/// have the right master key, could not decrypt a key that is encrypted with another.
pub async fn create(change: &mut OutboxTransaction, clock: &Clock, master: &MasterKey, generated: &GeneratedKey) -> Result<Key> {
    if list_encrypted(&mut **change).await?.iter().filter(|row| row.state == State::Pending).count() >= PENDING_LIMIT {
        return Err(Error::precondition(
            Reason::KeyState,
            Violation::new(
                "size",
                "key.pending_limit",
                format!("{PENDING_LIMIT} keys are pending: activate or retire one first"),
            ),
        ));
    }
    let key = insert(change, clock, master, generated, State::Pending).await?;
    let key = key.ok_or_else(|| Error::internal("the same key was generated twice"))?;
    change.set_target("key", &key.kid, None);
    change.record_key(EventPayload::KeyCreated { kid: key.kid.clone() });
    Ok(key)
}

/// Stores a generated key as ACTIVE and records the events. Does nothing if another key is active.
pub(super) async fn create_active(
    change: &mut OutboxTransaction,
    clock: &Clock,
    master: &MasterKey,
    generated: &GeneratedKey,
) -> Result<()> {
    if let Some(key) = insert(change, clock, master, generated, State::Active).await? {
        change.set_system_entry("serve");
        change.set_target("key", &key.kid, None);
        change.record_key(EventPayload::KeyCreated { kid: key.kid.clone() });
        change.record_key(EventPayload::KeyActivated { kid: key.kid });
    }
    Ok(())
}

async fn insert(tx: &mut Tx, clock: &Clock, master: &MasterKey, generated: &GeneratedKey, state: State) -> Result<Option<Key>> {
    for row in list_encrypted(&mut *tx).await? {
        master.decrypt(&row.kid, &row.private_key).map_err(Error::internal)?;
    }
    let now = tx.now(clock).await?;
    let query = tx.query(returning!(
        "INSERT INTO signing_keys (kid, state, private_key, n, e, create_time, activate_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
    ));
    let query = query
        .bind(&generated.jwk.kid)
        .bind(state)
        .bind(master.encrypt(&generated.jwk.kid, &generated.der)?)
        .bind(&generated.jwk.n);
    Ok(query.bind(&generated.jwk.e).bind(now).bind((state == State::Active).then_some(now)).optional().await?)
}

/// Makes a pending key the active one, and retires the one that was active. `max_age` is how long verifiers keep a key set. With
/// `force`, the key may be younger than that.
///
/// # Errors
///
/// Returns NOT_FOUND, or FAILED_PRECONDITION if the key is retired or too young.
pub async fn activate(change: &mut OutboxTransaction, clock: &Clock, kid: &str, max_age: TimeDelta, force: bool) -> Result<Key> {
    let keys = lock(change).await?;
    let key = keys.iter().find(|key| key.kid == kid).ok_or_else(|| Error::not_found("key_id"))?;
    change.set_target("key", kid, None);
    change.add_field("state");
    let now = change.now(clock).await?;
    let from = key.activatable_time(max_age);
    match key.state {
        State::Active => return Ok(key.clone()),
        State::Retired => return Err(wrong_state("a retired key signs nothing any more: create another")),
        State::Pending if now < from && !force => {
            let description =
                format!("the key may be activated from {} on: until then a verifier may not know it", from.format("%FT%TZ"));
            return Err(Error::precondition(
                Reason::KeyTooYoung,
                Violation::new("key_id", "key.published_long_enough", description),
            ));
        }
        State::Pending => {}
    }
    for active in keys.iter().filter(|key| key.state == State::Active) {
        set_retired(change, active, now, now + TimeDelta::seconds(active.token_life) + RETIREMENT_MARGIN).await?;
        change.record_key(EventPayload::KeyRetired { kid: active.kid.clone() });
    }
    let query = change.query(returning!("UPDATE signing_keys SET state = 'ACTIVE', activate_time = $2 WHERE kid = $1"));
    let key: Key = query.bind(kid).bind(now).one().await?;
    change.record_key(EventPayload::KeyActivated { kid: key.kid.clone() });
    Ok(key)
}

/// Retires a key that is not active. With `withdraw`, the key expires at once, and the sessions whose tokens it signed end.
///
/// # Errors
///
/// Returns NOT_FOUND, or FAILED_PRECONDITION if the key is active.
pub async fn retire(change: &mut OutboxTransaction, clock: &Clock, kid: &str, withdraw: bool) -> Result<Key> {
    let keys = lock(change).await?;
    let key = keys.iter().find(|key| key.kid == kid).ok_or_else(|| Error::not_found("key_id"))?;
    change.set_target("key", kid, None);
    change.add_field("state");
    let now = change.now(clock).await?;
    match key.state {
        State::Active => Err(wrong_state("the active key is retired by activating another")),
        _ if withdraw => {
            sessions::end_signed_by(change, kid).await?;
            change.record_key(EventPayload::KeyWithdrawn { kid: key.kid.clone() });
            set_retired(change, key, key.retire_time.unwrap_or(now), now).await
        }
        State::Retired => Ok(key.clone()),
        State::Pending => {
            change.record_key(EventPayload::KeyRetired { kid: key.kid.clone() });
            set_retired(change, key, now, now + RETIREMENT_MARGIN).await
        }
    }
}

/// Encrypts with `new` every key that is encrypted with `old`, and returns their number.
///
/// # Errors
///
/// Returns [`KeyError::Decryption`] if neither decrypts a key. The caller must then roll the transaction back.
pub async fn rewrap(tx: &mut Tx, old: &MasterKey, new: &MasterKey) -> Result<usize, KeyError> {
    lock(tx).await?;
    let mut count = 0;
    for row in list_encrypted(&mut *tx).await? {
        if new.decrypt(&row.kid, &row.private_key).is_ok() {
            continue;
        }
        let encrypted = new.encrypt(&row.kid, &old.decrypt(&row.kid, &row.private_key)?)?;
        let query = tx.query("UPDATE signing_keys SET private_key = $2 WHERE kid = $1");
        query.bind(&row.kid).bind(encrypted).execute().await.map_err(Error::from)?;
        count += 1;
    }
    audit_keys::rewrap(tx, old, new).await?;
    Ok(count)
}

/// Records that tokens of the active key may live for `life`. Returns false if the key is not active any more.
pub(super) async fn allow_token_life(tx: &mut Tx, kid: &str, life: TimeDelta) -> Result<bool> {
    let query = tx.query(
        "UPDATE signing_keys SET token_life = CASE WHEN token_life < $2 THEN $2 ELSE token_life END
         WHERE kid = $1 AND state = 'ACTIVE'",
    );
    Ok(query.bind(kid).bind(life.num_seconds()).execute().await? == 1)
}

/// Deletes the keys whose last token has expired.
pub(super) async fn purge_expired(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let now = tx.now(clock).await?;
    tx.query("DELETE FROM signing_keys WHERE expire_time <= $1").bind(now).execute().await?;
    Ok(())
}

/// A signing key with its encrypted private key.
#[derive(sqlx::FromRow)]
pub(super) struct EncryptedKey {
    pub(super) kid: String,
    pub(super) state: State,
    pub(super) private_key: Vec<u8>,
    pub(super) token_life: i64,
    pub(super) activate_time: Option<DateTime<Utc>>,
    pub(super) expire_time: Option<DateTime<Utc>>,
}

/// Returns the keys with their encrypted private keys, the oldest first.
pub(super) async fn list_encrypted(on: impl Executor<'_>) -> Result<Vec<EncryptedKey>> {
    let query = on.query(
        "SELECT kid, state, private_key, token_life, activate_time, expire_time FROM signing_keys ORDER BY create_time, kid",
    );
    Ok(query.all().await?)
}

/// Returns the number of the private keys, if the master key decrypts them.
///
/// # Errors
///
/// Returns [`KeyError::Decryption`] if it does not.
pub async fn check_encryption(on: impl Executor<'_>, master: &MasterKey) -> Result<usize, KeyError> {
    let keys = list_encrypted(on).await?;
    for key in &keys {
        master.decrypt(&key.kid, &key.private_key)?;
    }
    Ok(keys.len())
}

/// Returns every key, and locks them until the transaction ends.
async fn lock(tx: &mut Tx) -> Result<Vec<Key>> {
    Ok(tx.query(concat!("SELECT ", columns!(), " FROM signing_keys ORDER BY kid")).for_update().all().await?)
}

async fn set_retired(tx: &mut Tx, key: &Key, retire_time: DateTime<Utc>, expire_time: DateTime<Utc>) -> Result<Key> {
    let query =
        tx.query(returning!("UPDATE signing_keys SET state = 'RETIRED', retire_time = $2, expire_time = $3 WHERE kid = $1"));
    Ok(query.bind(&key.kid).bind(retire_time).bind(expire_time).one().await?)
}

fn wrong_state(why: &'static str) -> Error {
    Error::precondition(Reason::KeyState, Violation::new("key_id", "key.state", why))
}
