//! The JWT with which a client proves its identity in place of a secret (RFC 7523 section 2.2). It is checked as strictly as access
//! tokens are.

use access::{
    Clock, Result,
    token::{TokenError, TokenTimes, decode_and_verify},
};
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use store::{Db, Executor, Tx};

use super::Client;

/// The accepted values of `typ`: the one that libraries write, and the one that draft-ietf-oauth-rfc7523bis requires.
const TYPES: [&str; 2] = ["jwt", "client-authentication+jwt"];
/// The longest lifetime of an assertion.
const MAX_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// The longest `jti`, in bytes.
const MAX_ID_LENGTH: usize = 255;

/// The reason why an assertion is rejected. It is for the log: the client receives one constant message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AssertionError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("`iss` and `sub` are not the client's id")]
    Client,
    #[error("`aud` is not the issuer of this service, and nothing else")]
    Audience,
    #[error("no `jti`, or one that is longer than {MAX_ID_LENGTH} bytes")]
    Id,
}

/// An assertion that is valid unless it has been used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The hash of the client's id and the `jti`.
    used: Vec<u8>,
    /// The time from which the assertion is rejected for its age.
    expire_time: DateTime<Utc>,
}

impl Assertion {
    /// Verifies an assertion of the client for the service whose issuer name is `issuer`.
    pub fn read(assertion: &str, client: &Client, issuer: &str, now: DateTime<Utc>) -> Result<Self, AssertionError> {
        let keys = client.key_set();
        let mut claims = Err(TokenError::Type);
        for typ in TYPES {
            if claims == Err(TokenError::Type) {
                claims = decode_and_verify(assertion, typ, &keys);
            }
        }
        Self::check(&claims?, &client.client_id, issuer, now)
    }

    fn check(claims: &Map<String, Value>, client_id: &str, issuer: &str, now: DateTime<Utc>) -> Result<Self, AssertionError> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(client_id) || text("sub") != Some(client_id) {
            return Err(AssertionError::Client);
        }
        let audience = match claims.get("aud") {
            Some(Value::Array(audiences)) if audiences.len() == 1 => audiences[0].as_str(),
            Some(Value::String(audience)) => Some(audience.as_str()),
            _ => None,
        };
        if audience != Some(issuer) {
            return Err(AssertionError::Audience);
        }
        let times = TokenTimes::check(claims, now, Some(MAX_LIFETIME))?;
        let id = text("jti").filter(|id| !id.is_empty() && id.len() <= MAX_ID_LENGTH).ok_or(AssertionError::Id)?;
        let used = digest(&SHA256, &[client_id.as_bytes(), &[0], id.as_bytes()].concat()).as_ref().to_vec();
        Ok(Self { used, expire_time: times.rejected_from() })
    }

    /// Marks the assertion as used. Returns false if it has been used before.
    pub async fn use_up(&self, db: &Db) -> Result<bool> {
        let query = db.write("INSERT INTO assertions (used, expire_time) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        Ok(query.bind(&self.used).bind(self.expire_time).execute().await? > 0)
    }
}

/// Deletes the used assertions that are rejected for their age anyway.
pub async fn purge_expired(tx: &mut Tx, clock: &Clock) -> Result<()> {
    // A replica whose clock is behind still accepts them for a while.
    let now = tx.now(clock).await? - TimeDelta::minutes(1);
    tx.query("DELETE FROM assertions WHERE expire_time < $1").bind(now).execute().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const T0: i64 = 1_800_000_000;

    fn check(change: &Value) -> Result<Assertion, AssertionError> {
        let good = json!({"iss": "billing", "sub": "billing", "aud": "http://auth", "iat": T0, "exp": T0 + 300, "jti": "1"});
        let mut claims = good.as_object().cloned().expect("an object");
        for (name, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        Assertion::check(&claims, "billing", "http://auth", DateTime::from_timestamp(T0, 0).expect("a time"))
    }

    #[test]
    fn each_claim_is_checked() {
        let long = "x".repeat(256);
        for (change, expected) in [
            (json!({}), None),
            (json!({"aud": ["http://auth"], "nbf": T0}), None),
            (json!({"iat": T0 - 300, "exp": T0 - 29}), None),
            (json!({"iss": "other"}), Some(AssertionError::Client)),
            (json!({"sub": "other"}), Some(AssertionError::Client)),
            (json!({"sub": null}), Some(AssertionError::Client)),
            (json!({"aud": null}), Some(AssertionError::Audience)),
            (json!({"aud": "http://auth/"}), Some(AssertionError::Audience)),
            (json!({"aud": ["http://auth", "http://other"]}), Some(AssertionError::Audience)),
            (json!({"aud": []}), Some(AssertionError::Audience)),
            (json!({"exp": null}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"iat": null}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"exp": "soon"}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"exp": T0 + 301}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"exp": T0}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"exp": 1e300}), Some(AssertionError::Token(TokenError::Times))),
            (json!({"iat": T0 + 31, "exp": T0 + 40}), Some(AssertionError::Token(TokenError::NotYetValid))),
            (json!({"nbf": T0 + 31}), Some(AssertionError::Token(TokenError::NotYetValid))),
            (json!({"iat": T0 - 100, "exp": T0 - 30}), Some(AssertionError::Token(TokenError::Expired))),
            (json!({"jti": null}), Some(AssertionError::Id)),
            (json!({"jti": ""}), Some(AssertionError::Id)),
            (json!({"jti": long}), Some(AssertionError::Id)),
            (json!({"jti": 1}), Some(AssertionError::Id)),
        ] {
            assert_eq!(check(&change).err(), expected, "{change}");
        }
    }

    #[test]
    fn a_used_assertion_is_stored_until_it_would_be_rejected_as_expired() {
        let expires = check(&json!({"exp": T0 + 60})).expect("an assertion").expire_time;
        assert_eq!(expires.timestamp(), T0 + 90);
    }
}
