//! The table of clients: services that call other services in their own name, and their credentials.

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

/// The time for which the previous secret stays valid after a rotation.
pub const SECRET_OVERLAP: TimeDelta = TimeDelta::days(1);

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the migration documents the columns")]
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

/// The fields of a client that `UpdateClient` can change.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct Profile {
    pub display_name: String,
    pub permissions: Vec<String>,
    pub keys: Vec<Jwk>,
}

/// The secret of a client. It is shown once; only its hash is stored.
pub struct Secret(String);

impl Secret {
    /// Generates a secret of 256 random bits.
    pub fn generate() -> Result<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| Error::internal("the system random number generator failed"))?;
        Ok(Self(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Wraps a secret that was generated before.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text of the secret.
    pub fn reveal(self) -> String {
        self.0
    }

    fn hash(&self) -> Vec<u8> {
        digest(&SHA256, self.0.as_bytes()).as_ref().to_vec()
    }
}

impl Client {
    /// Returns the permissions of the client, sorted.
    pub fn permissions(&self) -> Vec<String> {
        self.scope.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Returns the public keys that verify the assertions of the client.
    pub fn jwks(&self) -> Vec<Jwk> {
        let stored: Vec<StoredKey> = serde_json::from_str(&self.keys).unwrap_or_default();
        stored.into_iter().map(Jwk::from).collect()
    }

    /// Returns the same keys as a set to verify with.
    pub fn key_set(&self) -> KeySet {
        KeySet::from_jwks(&self.jwks()).0
    }

    /// Returns the fields that `UpdateClient` can change.
    pub fn profile(&self) -> Profile {
        Profile { display_name: self.display_name.clone(), permissions: self.permissions(), keys: self.jwks() }
    }
}

/// Returns whether `secret` is the current or the unexpired previous secret of the client. Without a client the result is `false`,
/// after the same time.
pub fn verify_secret(client: Option<&Client>, secret: &Secret, now: DateTime<Utc>) -> bool {
    let (hash, zeros) = (secret.hash(), vec![0; 32]);
    let current = client.and_then(|client| client.secret_hash.as_ref());
    let is_unexpired = |client: &&Client| client.previous_expire_time.is_some_and(|expires| expires > now);
    let previous = client.filter(is_unexpired).and_then(|client| client.previous_hash.as_ref());
    // No secret is known whose hash is all zeros.
    let matches = [current, previous].map(|stored| verify_slices_are_equal(stored.unwrap_or(&zeros), &hash).is_ok());
    matches[0] | matches[1]
}

/// Checks the client id in `field` of the request.
pub fn check_id(field: &str, client_id: &str) -> Result<()> {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_well_formed = client_id.bytes().all(is_allowed) && client_id.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    // A subject that is a UUID is the id of a user.
    if is_well_formed && uuid::Uuid::try_parse(client_id).is_err() && client_id != FIRST_PARTY {
        return Ok(());
    }
    let description =
        "must consist of lowercase letters, digits and hyphens and begin with a letter; must not be a UUID or `first-party`";
    Err(Error::invalid(field, "client.id", description))
}

/// Checks the public keys in `field` of the request.
pub fn check_keys(field: &str, keys: &[Jwk]) -> Result<()> {
    let errors = KeySet::from_jwks(keys).1;
    let has_long_id = |key: &Jwk| key.kid.len() > 255;
    match errors.first().map(ToString::to_string) {
        Some(error) => Err(Error::invalid(field, "client.keys", format!("contains an invalid key: {error}"))),
        None if keys.iter().any(has_long_id) => {
            Err(Error::invalid(field, "client.keys", "contains a key id of more than 255 bytes"))
        }
        None => Ok(()),
    }
}

macro_rules! columns {
    () => {
        "client_id, display_name, scope, keys, is_active, secret_hash, secret_time, previous_hash, previous_expire_time, \
         create_time, update_time, version"
    };
}

/// Creates a client.
///
/// The first version is the current time, so that it is greater than the version in the tokens of a deleted client with the same id.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if the id is taken.
pub async fn create(
    change: &mut OutboxTransaction,
    clock: &Clock,
    client_id: &str,
    profile: &Profile,
    secret: Option<&Secret>,
) -> Result<Client> {
    change.set_target("client", client_id, None);
    let now = change.now(clock).await?;
    let query = change.query(concat!(
        "INSERT INTO clients (client_id, display_name, scope, keys, is_active, secret_hash, secret_time, create_time, update_time,
             version)
         VALUES ($1, $2, $3, $4, TRUE, $5, $6, $7, $7, $8) ON CONFLICT DO NOTHING RETURNING ",
        columns!()
    ));
    let query =
        query.bind(client_id).bind(&profile.display_name).bind(scope(&profile.permissions)).bind(stored_keys(&profile.keys)?);
    let created =
        query.bind(secret.map(Secret::hash)).bind(secret.map(|_| now)).bind(now).bind(now.timestamp_micros()).optional().await?;
    created.ok_or_else(|| {
        let taken = Violation::new("client.client_id", "client.id_unique", "another client has this id");
        Error::already_exists(Reason::AlreadyExists, taken)
    })
}

/// Returns the client with this id.
pub async fn find(on: impl Executor<'_>, client_id: &str) -> Result<Option<Client>> {
    let query = on.query(concat!("SELECT ", columns!(), " FROM clients WHERE client_id = $1"));
    Ok(query.bind(client_id).optional().await?)
}

/// Returns whether the client is active, and takes a shared lock on the client until the transaction ends so that this does not change.
pub async fn lock_active(tx: &mut Tx, client_id: &str) -> Result<bool> {
    tx.lock_shared(&lock_name(client_id)).await?;
    let query = tx.query("SELECT is_active FROM clients WHERE client_id = $1").bind(client_id);
    Ok(query.optional::<(bool,)>().await?.is_some_and(|(is_active,)| is_active))
}

/// Returns the client with this id, and locks the client and the row for update until the transaction ends.
pub async fn lock(tx: &mut Tx, client_id: &str) -> Result<Option<Client>> {
    tx.lock_exclusive(&lock_name(client_id)).await?;
    let query = tx.query(concat!("SELECT ", columns!(), " FROM clients WHERE client_id = $1"));
    Ok(query.bind(client_id).for_update().optional().await?)
}

fn lock_name(client_id: &str) -> String {
    format!("client {client_id}")
}

/// Returns all clients in the order of their ids.
pub async fn list(on: impl Executor<'_>) -> Result<Vec<Client>> {
    let mut clients: Vec<Client> = on.query(concat!("SELECT ", columns!(), " FROM clients")).all().await?;
    // The two engines collate differently, so the rows are sorted here. There are only as many clients as services.
    clients.sort_by(|one, other| one.client_id.cmp(&other.client_id));
    Ok(clients)
}

/// Updates a locked client. If nothing changes, it writes nothing. If the client loses a permission or a key, records an event that revokes its access tokens.
pub async fn update(change: &mut OutboxTransaction, clock: &Clock, client: &Client, profile: &Profile) -> Result<Client> {
    change.set_target("client", &client.client_id, None);
    let (scope, keys) = (scope(&profile.permissions), stored_keys(&profile.keys)?);
    for (field, is_changed) in [
        ("display_name", client.display_name != profile.display_name),
        ("permissions", client.scope != scope),
        ("keys", client.keys != keys),
    ] {
        if is_changed {
            change.add_field(field);
        }
    }
    if (&client.display_name, &client.scope, &client.keys) == (&profile.display_name, &scope, &keys) {
        return Ok(client.clone());
    }
    let now = change.now(clock).await?;
    let query = change.query(concat!(
        "UPDATE clients SET display_name = $2, scope = $3, keys = $4, update_time = $5, version = version + 1
         WHERE client_id = $1 RETURNING ",
        columns!()
    ));
    let query = query.bind(&client.client_id).bind(&profile.display_name).bind(scope);
    let updated: Client = query.bind(keys).bind(now).one().await?;
    let (permissions, keys) = (updated.permissions(), updated.jwks());
    if !client.permissions().iter().all(|permission| permissions.contains(permission))
        || !client.jwks().iter().all(|key| keys.contains(key))
    {
        change.record_client(&updated.client_id, updated.version);
    }
    Ok(updated)
}

/// Activates or deactivates a locked client. A deactivation revokes its access tokens.
pub async fn set_active(change: &mut OutboxTransaction, clock: &Clock, client: Client, is_active: bool) -> Result<Client> {
    change.set_target("client", &client.client_id, None);
    if client.is_active == is_active {
        return Ok(client);
    }
    change.add_field("is_active");
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

/// Sets a new secret of a locked client. The previous secret stays valid for [`SECRET_OVERLAP`]. With `withdraw` it becomes invalid at
/// once, and the access tokens of the client are revoked.
pub async fn rotate_secret(
    change: &mut OutboxTransaction,
    clock: &Clock,
    client: &Client,
    secret: &Secret,
    withdraw: bool,
) -> Result<Client> {
    change.set_target("client", &client.client_id, None);
    change.add_field("secret");
    let now = change.now(clock).await?;
    let previous = client.secret_hash.as_ref().filter(|_| !withdraw);
    let query = change.query(concat!(
        "UPDATE clients SET secret_hash = $2, secret_time = $3, previous_hash = $4, previous_expire_time = $5, update_time = $3,
             version = version + 1
         WHERE client_id = $1 RETURNING ",
        columns!()
    ));
    let query = query.bind(&client.client_id).bind(secret.hash()).bind(now).bind(previous);
    let client: Client = query.bind(previous.map(|_| now + SECRET_OVERLAP)).one().await?;
    if withdraw {
        change.record_client(&client.client_id, client.version);
    }
    Ok(client)
}

/// Deletes a locked client and revokes its access tokens.
pub async fn delete(change: &mut OutboxTransaction, client: &Client) -> Result<()> {
    change.set_target("client", &client.client_id, None);
    change.query("DELETE FROM clients WHERE client_id = $1").bind(&client.client_id).execute().await?;
    change.record_client(&client.client_id, client.version + 1);
    Ok(())
}

/// A public key in the column `keys`.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    kid: String,
    n: String,
    e: String,
}

impl From<StoredKey> for Jwk {
    fn from(key: StoredKey) -> Self {
        let text = str::to_owned;
        Self { kty: text("RSA"), r#use: text("sig"), alg: text("RS256"), kid: key.kid, n: key.n, e: key.e }
    }
}

fn stored_keys(keys: &[Jwk]) -> Result<String> {
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
    fn client_ids_differ_from_user_ids_and_the_first_party() {
        for id in ["profile-service", "a1", "billing-2"] {
            check_id("client_id", id).expect(id);
        }
        for id in ["1a", "-a", "A", "a b", "a_b", "first-party", "a18f0000-0000-7000-8000-000000000000", ""] {
            assert!(check_id("client_id", id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_previous_secret_is_valid_until_it_expires() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time");
        let (new, old, other) = (Secret::new("new".to_owned()), Secret::new("old".to_owned()), Secret::new(String::new()));
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
            assert_eq!(verify_secret(Some(&client), secret, at(time)), expected, "at {time}");
            assert!(!verify_secret(None, secret, at(time)));
        }
        let without_secret = Client { secret_hash: None, previous_hash: None, previous_expire_time: None, ..client };
        assert!(!verify_secret(Some(&without_secret), &new, at(0)));
    }
}
