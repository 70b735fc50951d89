//! Clients: services that call others in their own name. Their row, their credentials, and what is asked of the table.

mod assertion;

use access::{Clock, Error, Result, error::Violation, token::KeySet};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use store::{Executor, Tx};

pub use assertion::{Assertion, AssertionError, purge_expired};

use crate::{
    events::OutboxTransaction,
    proto::{Jwk, Reason},
    sessions::FIRST_PARTY,
};

/// How long the secret before is good after a rotation.
pub const OVERLAP: TimeDelta = TimeDelta::days(1);

/// A client's row.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the migration documents them")]
pub struct Client {
    pub client_id: String,
    pub display_name: String,
    pub scope: String,
    pub keys: String,
    pub is_active: bool,
    pub secret_hash: Option<Vec<u8>>,
    pub secret_time: Option<DateTime<Utc>>,
    pub previous_hash: Option<Vec<u8>>,
    pub previous_expire_time: Option<DateTime<Utc>>,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    pub version: i64,
}

/// What may be changed of a client.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct Profile {
    pub display_name: String,
    pub permissions: Vec<String>,
    pub keys: Vec<Jwk>,
}

/// A client's secret, which is shown once and stored nowhere.
pub struct Secret(String);

impl Secret {
    /// 256 random bits.
    ///
    /// # Errors
    ///
    /// INTERNAL where the machine has no randomness.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| Error::internal("the machine has no randomness"))?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What was generated before.
    pub fn known(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn shown(self) -> String {
        self.0
    }

    fn hash(&self) -> Vec<u8> {
        digest(&SHA256, self.0.as_bytes()).as_ref().to_vec()
    }
}

impl Client {
    /// What it may do, sorted.
    pub fn permissions(&self) -> Vec<String> {
        self.scope.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// The public keys of its assertions.
    pub fn jwks(&self) -> Vec<Jwk> {
        let stored: Vec<StoredKey> = serde_json::from_str(&self.keys).unwrap_or_default();
        stored.into_iter().map(StoredKey::jwk).collect()
    }

    /// The same, ready to verify with.
    pub fn key_set(&self) -> KeySet {
        KeySet::from_jwks(&self.jwks()).0
    }

    /// What may be changed of it.
    pub fn profile(&self) -> Profile {
        Profile { display_name: self.display_name.clone(), permissions: self.permissions(), keys: self.jwks() }
    }
}

/// True where `secret` is one of the client's at this time. Without a client it takes as long, and it is not.
pub fn is_secret_of(client: Option<&Client>, secret: &Secret, now: DateTime<Utc>) -> bool {
    let (hash, none) = (secret.hash(), vec![0; 32]);
    let current = client.and_then(|client| client.secret_hash.as_ref());
    let is_good = |client: &&Client| client.previous_expire_time.is_some_and(|expires| expires > now);
    let previous = client.filter(is_good).and_then(|client| client.previous_hash.as_ref());
    // Nothing hashes to zeros.
    let matches = [current, previous].map(|stored| verify_slices_are_equal(stored.unwrap_or(&none), &hash).is_ok());
    matches[0] | matches[1]
}

/// Checks the id that the request has in `field`.
///
/// # Errors
///
/// INVALID_ARGUMENT that names the field.
pub fn check_id(field: &str, client_id: &str) -> Result<()> {
    let is_sign = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_word = client_id.bytes().all(is_sign) && client_id.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    // Whoever reads a subject takes what looks like a UUID for a user.
    if is_word && uuid::Uuid::try_parse(client_id).is_err() && client_id != FIRST_PARTY {
        return Ok(());
    }
    let description = "must be small letters, digits and hyphens, beginning with a letter; neither a UUID nor `first-party`";
    Err(Error::invalid(field, "client.id", description))
}

/// Checks the public keys that the request has in `field`.
///
/// # Errors
///
/// INVALID_ARGUMENT that names the field.
pub fn check_keys(field: &str, keys: &[Jwk]) -> Result<()> {
    let refused = KeySet::from_jwks(keys).1;
    let is_long = |key: &Jwk| key.kid.len() > 255;
    match refused.first().map(ToString::to_string) {
        Some(why) => Err(Error::invalid(field, "client.keys", format!("holds a key that can't be taken: {why}"))),
        None if keys.iter().any(is_long) => Err(Error::invalid(field, "client.keys", "holds a key id of more than 255 bytes")),
        None => Ok(()),
    }
}

macro_rules! columns {
    () => {
        "client_id, display_name, scope, keys, is_active, secret_hash, secret_time, previous_hash, previous_expire_time, \
         create_time, update_time, version"
    };
}

/// Adds a client, with a secret where one is given.
///
/// Its version begins at the time, so that tokens of a deleted client that had the same id are of an older one.
///
/// # Errors
///
/// ALREADY_EXISTS where the id is taken.
pub async fn create(tx: &mut Tx, clock: &Clock, client_id: &str, profile: &Profile, secret: Option<&Secret>) -> Result<Client> {
    let now = tx.now(clock).await?;
    let query = tx.query(concat!(
        "INSERT INTO clients (client_id, display_name, scope, keys, is_active, secret_hash, secret_time, create_time, update_time,
             version)
         VALUES ($1, $2, $3, $4, TRUE, $5, $6, $7, $7, $8) ON CONFLICT DO NOTHING RETURNING ",
        columns!()
    ));
    let query = query.bind(client_id).bind(&profile.display_name).bind(scope(&profile.permissions)).bind(stored(&profile.keys)?);
    let made =
        query.bind(secret.map(Secret::hash)).bind(secret.map(|_| now)).bind(now).bind(now.timestamp_micros()).optional().await?;
    made.ok_or_else(|| {
        let taken = Violation::new("client.client_id", "client.id_unique", "another client has this id");
        Error::already_exists(Reason::AlreadyExists, taken)
    })
}

/// The client with this id.
///
/// # Errors
///
/// Those of the database.
pub async fn find(on: impl Executor<'_>, client_id: &str) -> Result<Option<Client>> {
    let query = on.query(concat!("SELECT ", columns!(), " FROM clients WHERE client_id = $1"));
    Ok(query.bind(client_id).optional().await?)
}

/// True where a client with this id is active, and stays so until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn hold(tx: &mut Tx, client_id: &str) -> Result<bool> {
    let query = tx.query("SELECT is_active FROM clients WHERE client_id = $1").bind(client_id).for_key_share();
    Ok(query.optional::<(bool,)>().await?.is_some_and(|(is_active,)| is_active))
}

/// The client with this id, which nobody else changes until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn lock(tx: &mut Tx, client_id: &str) -> Result<Option<Client>> {
    let query = tx.query(concat!("SELECT ", columns!(), " FROM clients WHERE client_id = $1"));
    Ok(query.bind(client_id).for_update().optional().await?)
}

/// Every client, by id.
///
/// # Errors
///
/// Those of the database.
pub async fn list(on: impl Executor<'_>) -> Result<Vec<Client>> {
    let mut clients: Vec<Client> = on.query(concat!("SELECT ", columns!(), " FROM clients")).all().await?;
    // Sorted here, since no two collations agree. There are as many as there are services.
    clients.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    Ok(clients)
}

/// Writes what may be changed of a client that was locked.
///
/// # Errors
///
/// Those of the database.
pub async fn update(change: &mut OutboxTransaction, clock: &Clock, client: &Client, profile: &Profile) -> Result<Client> {
    let now = change.now(clock).await?;
    let query = change.query(concat!(
        "UPDATE clients SET display_name = $2, scope = $3, keys = $4, update_time = $5, version = version + 1
         WHERE client_id = $1 RETURNING ",
        columns!()
    ));
    let query = query.bind(&client.client_id).bind(&profile.display_name).bind(scope(&profile.permissions));
    let updated: Client = query.bind(stored(&profile.keys)?).bind(now).one().await?;
    let (permissions, keys) = (updated.permissions(), updated.jwks());
    if !client.permissions().iter().all(|held| permissions.contains(held))
        || !client.jwks().iter().all(|held| keys.contains(held))
    {
        change.record_client(&updated.client_id, updated.version);
    }
    Ok(updated)
}

/// Lets a client that was locked get tokens, or not.
///
/// # Errors
///
/// Those of the database.
pub async fn set_active(change: &mut OutboxTransaction, clock: &Clock, client: Client, is_active: bool) -> Result<Client> {
    if client.is_active == is_active {
        return Ok(client);
    }
    let now = change.now(clock).await?;
    let query = change.query(concat!(
        "UPDATE clients SET is_active = $2, update_time = $3, version = version + 1 WHERE client_id = $1 RETURNING ",
        columns!()
    ));
    let client: Client = query.bind(client.client_id).bind(is_active).bind(now).one().await?;
    if !is_active {
        change.record_client(&client.client_id, client.version);
    }
    Ok(client)
}

/// Gives a client that was locked another secret. The one before is good for [`OVERLAP`], unless it is withdrawn, together with the
/// access tokens that somebody may have got for it.
///
/// # Errors
///
/// Those of the database.
pub async fn rotate_secret(
    change: &mut OutboxTransaction,
    clock: &Clock,
    client: &Client,
    secret: &Secret,
    withdraw: bool,
) -> Result<Client> {
    let now = change.now(clock).await?;
    let previous = client.secret_hash.as_ref().filter(|_| !withdraw);
    let query = change.query(concat!(
        "UPDATE clients SET secret_hash = $2, secret_time = $3, previous_hash = $4, previous_expire_time = $5, update_time = $3,
             version = version + 1
         WHERE client_id = $1 RETURNING ",
        columns!()
    ));
    let query = query.bind(&client.client_id).bind(secret.hash()).bind(now).bind(previous);
    let client: Client = query.bind(previous.map(|_| now + OVERLAP)).one().await?;
    if withdraw {
        change.record_client(&client.client_id, client.version);
    }
    Ok(client)
}

/// Deletes a client that was locked.
///
/// # Errors
///
/// Those of the database.
pub async fn delete(change: &mut OutboxTransaction, client: &Client) -> Result<()> {
    change.query("DELETE FROM clients WHERE client_id = $1").bind(&client.client_id).execute().await?;
    change.record_client(&client.client_id, client.version + 1);
    Ok(())
}

/// A public key as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    kid: String,
    n: String,
    e: String,
}

impl StoredKey {
    fn jwk(self) -> Jwk {
        let text = str::to_owned;
        Jwk { kty: text("RSA"), r#use: text("sig"), alg: text("RS256"), kid: self.kid, n: self.n, e: self.e }
    }
}

fn stored(keys: &[Jwk]) -> Result<String> {
    let stored = |key: &Jwk| StoredKey { kid: key.kid.clone(), n: key.n.clone(), e: key.e.clone() };
    serde_json::to_string(&keys.iter().map(stored).collect::<Vec<_>>()).map_err(Error::internal)
}

fn scope(permissions: &[String]) -> String {
    let mut permissions = permissions.to_vec();
    permissions.sort();
    permissions.dedup();
    permissions.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_neither_a_user_s_nor_the_sign_in_s() {
        for id in ["profile-service", "a1", "billing-2"] {
            check_id("client_id", id).expect(id);
        }
        for id in ["1a", "-a", "A", "a b", "a_b", "first-party", "a18f0000-0000-7000-8000-000000000000", ""] {
            assert!(check_id("client_id", id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_secret_before_is_good_until_it_expires() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time");
        let (new, old, other) = (Secret::known("new".to_owned()), Secret::known("old".to_owned()), Secret::known(String::new()));
        let client = Client {
            client_id: "billing".to_owned(),
            display_name: String::new(),
            scope: String::new(),
            keys: "[]".to_owned(),
            is_active: true,
            secret_hash: Some(new.hash()),
            secret_time: Some(at(0)),
            previous_hash: Some(old.hash()),
            previous_expire_time: Some(at(10)),
            create_time: at(0),
            update_time: at(0),
            version: 1,
        };
        for (secret, time, expected) in
            [(&new, 0, true), (&new, 99, true), (&old, 9, true), (&old, 10, false), (&other, 0, false)]
        {
            assert_eq!(is_secret_of(Some(&client), secret, at(time)), expected, "at {time}");
            assert!(!is_secret_of(None, secret, at(time)));
        }
        let none = Client { secret_hash: None, previous_hash: None, previous_expire_time: None, ..client };
        assert!(!is_secret_of(Some(&none), &new, at(0)));
    }
}
