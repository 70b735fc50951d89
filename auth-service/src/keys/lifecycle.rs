//! The life of a key: PENDING, ACTIVE, RETIRED, gone.
//!
//! A key is published as soon as it is made, and signs only when every verifier knows it. Once retired it verifies until the
//! last token that it signed has expired. That is why a rotation refuses nobody.

use access::{Clock, Error, Result, error::Violation};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Executor, Tx};

use super::{KeyBits, KeyError, MasterKey, signing::Made};
use crate::{
    KEY_INTERVAL,
    events::{EventPayload, OutboxTransaction},
    proto::Reason,
    sessions,
};

/// How many keys may be pending: what is published has to stay small.
const PENDING_LIMIT: usize = 4;

/// How long a replica may still sign with a key that was retired, and how far the clocks of verifiers may be apart: more than
/// [`super::STALE`] and a verifier's leeway together.
const NOTICE: TimeDelta = TimeDelta::minutes(2);

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "TEXT", rename_all = "UPPERCASE")]
pub enum State {
    /// It is published, and signs nothing yet.
    Pending,
    /// It signs.
    Active,
    /// It verifies what it has signed.
    Retired,
}

/// The public columns of a key's row.
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
    /// How long its modulus is.
    pub fn bits(&self) -> KeyBits {
        match BASE64_URL_SAFE_NO_PAD.decode(&self.n).map_or(0, |modulus| modulus.len() * 8) {
            ..=2048 => KeyBits::Rsa2048,
            2049..=3072 => KeyBits::Rsa3072,
            _ => KeyBits::Rsa4096,
        }
    }

    /// From when on every verifier knows the key: those that keep what they are told for `max_age`, told by any replica.
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

/// Every key, the newest first. There are few.
pub async fn list(on: impl Executor<'_>) -> Result<Vec<Key>> {
    Ok(on.query(concat!("SELECT ", columns!(), " FROM signing_keys ORDER BY create_time DESC, kid DESC")).all().await?)
}

/// Stores a key that was made, and tells. It is PENDING.
///
/// # Errors
///
/// FAILED_PRECONDITION where enough are pending; INTERNAL where `master` is not what the other keys are sealed with, since
/// the replicas that have the right one could not open this one.
pub async fn create(change: &mut OutboxTransaction, clock: &Clock, master: &MasterKey, made: &Made) -> Result<Key> {
    if sealed(&mut **change).await?.iter().filter(|row| row.state == State::Pending).count() >= PENDING_LIMIT {
        return Err(Error::precondition(
            Reason::KeyState,
            Violation::new(
                "size",
                "key.pending_limit",
                format!("{PENDING_LIMIT} keys are pending: activate or retire one first"),
            ),
        ));
    }
    let key = insert(change, clock, master, made, State::Pending).await?;
    let key = key.ok_or_else(|| Error::internal("a key was made twice"))?;
    change.record_key(EventPayload::KeyCreated { kid: key.kid.clone() });
    Ok(key)
}

/// Stores a key that signs from now on, where none does, and tells.
pub(super) async fn create_active(change: &mut OutboxTransaction, clock: &Clock, master: &MasterKey, made: &Made) -> Result<()> {
    if let Some(key) = insert(change, clock, master, made, State::Active).await? {
        change.record_key(EventPayload::KeyCreated { kid: key.kid.clone() });
        change.record_key(EventPayload::KeyActivated { kid: key.kid });
    }
    Ok(())
}

async fn insert(tx: &mut Tx, clock: &Clock, master: &MasterKey, made: &Made, state: State) -> Result<Option<Key>> {
    for row in sealed(&mut *tx).await? {
        master.open(&row.kid, &row.private_key).map_err(Error::internal)?;
    }
    let now = tx.now(clock).await?;
    let query = tx.query(returning!(
        "INSERT INTO signing_keys (kid, state, private_key, n, e, create_time, activate_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
    ));
    let query = query.bind(&made.jwk.kid).bind(state).bind(master.seal(&made.jwk.kid, &made.der)?).bind(&made.jwk.n);
    Ok(query.bind(&made.jwk.e).bind(now).bind((state == State::Active).then_some(now)).optional().await?)
}

/// Makes a pending key the one that signs, and retires the one that did. `max_age` is how long verifiers keep the keys that
/// they were told; `force` does not wait for it.
///
/// # Errors
///
/// NOT_FOUND, and FAILED_PRECONDITION for a key that is retired or that is too young.
pub async fn activate(change: &mut OutboxTransaction, clock: &Clock, kid: &str, max_age: TimeDelta, force: bool) -> Result<Key> {
    let keys = lock(change).await?;
    let key = keys.iter().find(|key| key.kid == kid).ok_or_else(|| Error::not_found("key_id"))?;
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
        end(change, active, now, now + TimeDelta::seconds(active.token_life) + NOTICE).await?;
        change.record_key(EventPayload::KeyRetired { kid: active.kid.clone() });
    }
    let query = change.query(returning!("UPDATE signing_keys SET state = 'ACTIVE', activate_time = $2 WHERE kid = $1"));
    let key: Key = query.bind(kid).bind(now).one().await?;
    change.record_key(EventPayload::KeyActivated { kid: key.kid.clone() });
    Ok(key)
}

/// Retires a key that is not active. With `withdraw` it is gone at once, and the sessions that depend on it end.
///
/// # Errors
///
/// NOT_FOUND, and FAILED_PRECONDITION for the active key.
pub async fn retire(change: &mut OutboxTransaction, clock: &Clock, kid: &str, withdraw: bool) -> Result<Key> {
    let keys = lock(change).await?;
    let key = keys.iter().find(|key| key.kid == kid).ok_or_else(|| Error::not_found("key_id"))?;
    let now = change.now(clock).await?;
    match key.state {
        State::Active => Err(wrong_state("the active key is retired by activating another")),
        _ if withdraw => {
            sessions::end_signed_by(change, kid).await?;
            change.record_key(EventPayload::KeyWithdrawn { kid: key.kid.clone() });
            end(change, key, key.retire_time.unwrap_or(now), now).await
        }
        State::Retired => Ok(key.clone()),
        State::Pending => {
            change.record_key(EventPayload::KeyRetired { kid: key.kid.clone() });
            end(change, key, now, now + NOTICE).await
        }
    }
}

/// Seals every key with `new` that is sealed with `old`, and answers how many those were.
///
/// # Errors
///
/// A key that neither opens. Then the transaction must not be committed.
pub async fn rewrap(tx: &mut Tx, old: &MasterKey, new: &MasterKey) -> Result<usize, KeyError> {
    lock(tx).await?;
    let mut count = 0;
    for row in sealed(&mut *tx).await? {
        if new.open(&row.kid, &row.private_key).is_ok() {
            continue;
        }
        let sealed = new.seal(&row.kid, &old.open(&row.kid, &row.private_key)?)?;
        let query = tx.query("UPDATE signing_keys SET private_key = $2 WHERE kid = $1");
        query.bind(&row.kid).bind(sealed).execute().await.map_err(Error::from)?;
        count += 1;
    }
    Ok(count)
}

/// Remembers that what the active key signs may live for `life`. False where it is not active any more.
pub(super) async fn allow_token_life(tx: &mut Tx, kid: &str, life: TimeDelta) -> Result<bool> {
    let query = tx.query(
        "UPDATE signing_keys SET token_life = CASE WHEN token_life < $2 THEN $2 ELSE token_life END
         WHERE kid = $1 AND state = 'ACTIVE'",
    );
    Ok(query.bind(kid).bind(life.num_seconds()).execute().await? == 1)
}

/// Deletes the keys whose last token has expired.
pub(super) async fn forget(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let now = tx.now(clock).await?;
    tx.query("DELETE FROM signing_keys WHERE expire_time <= $1").bind(now).execute().await?;
    Ok(())
}

/// A key as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct Sealed {
    pub(super) kid: String,
    pub(super) state: State,
    pub(super) private_key: Vec<u8>,
    pub(super) token_life: i64,
    pub(super) expire_time: Option<DateTime<Utc>>,
}

/// The keys as they are stored, the oldest first.
pub(super) async fn sealed(on: impl Executor<'_>) -> Result<Vec<Sealed>> {
    let query = on.query("SELECT kid, state, private_key, token_life, expire_time FROM signing_keys ORDER BY create_time, kid");
    Ok(query.all().await?)
}

/// Every key, none of which anybody else changes until the transaction ends.
async fn lock(tx: &mut Tx) -> Result<Vec<Key>> {
    Ok(tx.query(concat!("SELECT ", columns!(), " FROM signing_keys ORDER BY kid")).for_update().all().await?)
}

async fn end(tx: &mut Tx, key: &Key, retire_time: DateTime<Utc>, expire_time: DateTime<Utc>) -> Result<Key> {
    let query =
        tx.query(returning!("UPDATE signing_keys SET state = 'RETIRED', retire_time = $2, expire_time = $3 WHERE kid = $1"));
    Ok(query.bind(&key.kid).bind(retire_time).bind(expire_time).one().await?)
}

fn wrong_state(why: &'static str) -> Error {
    Error::precondition(Reason::KeyState, Violation::new("key_id", "key.state", why))
}
