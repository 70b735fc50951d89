//! Assertions that a client signs in place of a secret (RFC 7523 section 2.2), read as strictly as access tokens are.

use access::{Clock, Result, token};
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use store::{Executor, Tx};

use super::Client;

/// The types of an assertion: what libraries write, and what draft-ietf-oauth-rfc7523bis asks for.
const TYPES: [&str; 2] = ["jwt", "client-authentication+jwt"];
/// The longest that an assertion may live, in seconds.
const LONGEST_LIFE: f64 = 300.0;
/// How far the clocks of two machines may be apart, in seconds.
const LEEWAY: f64 = 30.0;
/// 2100-01-01: no time in an assertion is later.
const LAST_TIME: f64 = 4_102_444_800.0;
/// The longest id of an assertion, in bytes.
const LONGEST_ID: usize = 255;

/// Why an assertion is refused. For the log: whoever sent it is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error("`iss` and `sub` are not the client's id")]
    Client,
    #[error("`aud` is not the issuer of this service, and nothing else")]
    Audience,
    #[error("times that make no sense, or more than five minutes of life")]
    Times,
    #[error("not valid yet")]
    NotYetValid,
    #[error("expired")]
    Expired,
    #[error("no `jti`, or one that is too long")]
    Id,
}

/// An assertion that is good, where it was not used before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    used: Vec<u8>,
    expire_time: DateTime<Utc>,
}

impl Assertion {
    /// Reads an assertion of the client, for the service that is known as `issuer`.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn read(assertion: &str, client: &Client, issuer: &str, now: DateTime<Utc>) -> Result<Self, Refusal> {
        let keys = client.key_set();
        let mut opened = Err(token::TokenError::Type);
        for typ in TYPES {
            if opened == Err(token::TokenError::Type) {
                opened = token::decode_and_verify(assertion, typ, &keys);
            }
        }
        Self::check(&opened?, &client.client_id, issuer, now)
    }

    fn check(claims: &Map<String, Value>, client_id: &str, issuer: &str, now: DateTime<Utc>) -> Result<Self, Refusal> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("iss") != Some(client_id) || text("sub") != Some(client_id) {
            return Err(Refusal::Client);
        }
        let audience = match claims.get("aud") {
            Some(Value::Array(audiences)) if audiences.len() == 1 => audiences[0].as_str(),
            Some(Value::String(audience)) => Some(audience.as_str()),
            _ => None,
        };
        if audience != Some(issuer) {
            return Err(Refusal::Audience);
        }
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| (0.0..=LAST_TIME).contains(time)).map(Some).ok_or(Refusal::Times),
        };
        let (expires, begins) = (time("exp")?.ok_or(Refusal::Times)?, time("iat")?.ok_or(Refusal::Times)?);
        if expires <= begins || expires - begins > LONGEST_LIFE {
            return Err(Refusal::Times);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds until the year 2100 fit a float to the microsecond")]
        let seconds = now.timestamp_micros() as f64 / 1e6;
        if begins > seconds + LEEWAY || time("nbf")?.is_some_and(|not_before| not_before > seconds + LEEWAY) {
            return Err(Refusal::NotYetValid);
        }
        if expires <= seconds - LEEWAY {
            return Err(Refusal::Expired);
        }
        let id = text("jti").filter(|id| !id.is_empty() && id.len() <= LONGEST_ID).ok_or(Refusal::Id)?;
        #[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
        let left = TimeDelta::seconds((expires - seconds + LEEWAY).ceil() as i64);
        let used = digest(&SHA256, &[client_id.as_bytes(), &[0], id.as_bytes()].concat()).as_ref().to_vec();
        Ok(Self { used, expire_time: now + left })
    }

    /// Uses the assertion. False where it was used before.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn use_up(&self, tx: &mut Tx) -> Result<bool> {
        let query = tx.query("INSERT INTO assertions (used, expire_time) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        Ok(query.bind(&self.used).bind(self.expire_time).execute().await? > 0)
    }
}

/// Forgets the assertions that are refused for their age.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(tx: &mut Tx, clock: &Clock) -> Result<()> {
    // A replica whose clock is behind still takes them for good.
    let now = tx.now(clock).await? - TimeDelta::minutes(1);
    tx.query("DELETE FROM assertions WHERE expire_time < $1").bind(now).execute().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const T0: i64 = 1_800_000_000;

    fn check(change: &Value) -> Result<Assertion, Refusal> {
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
            (json!({"iss": "other"}), Some(Refusal::Client)),
            (json!({"sub": "other"}), Some(Refusal::Client)),
            (json!({"sub": null}), Some(Refusal::Client)),
            (json!({"aud": null}), Some(Refusal::Audience)),
            (json!({"aud": "http://auth/"}), Some(Refusal::Audience)),
            (json!({"aud": ["http://auth", "http://other"]}), Some(Refusal::Audience)),
            (json!({"aud": []}), Some(Refusal::Audience)),
            (json!({"exp": null}), Some(Refusal::Times)),
            (json!({"iat": null}), Some(Refusal::Times)),
            (json!({"exp": "soon"}), Some(Refusal::Times)),
            (json!({"exp": T0 + 301}), Some(Refusal::Times)),
            (json!({"exp": T0}), Some(Refusal::Times)),
            (json!({"exp": 1e300}), Some(Refusal::Times)),
            (json!({"iat": T0 + 31, "exp": T0 + 40}), Some(Refusal::NotYetValid)),
            (json!({"nbf": T0 + 31}), Some(Refusal::NotYetValid)),
            (json!({"iat": T0 - 100, "exp": T0 - 30}), Some(Refusal::Expired)),
            (json!({"jti": null}), Some(Refusal::Id)),
            (json!({"jti": ""}), Some(Refusal::Id)),
            (json!({"jti": long}), Some(Refusal::Id)),
            (json!({"jti": 1}), Some(Refusal::Id)),
        ] {
            assert_eq!(check(&change).err(), expected, "{change}");
        }
    }

    #[test]
    fn it_is_remembered_for_as_long_as_it_would_be_taken() {
        let expires = check(&json!({"exp": T0 + 60})).expect("an assertion").expire_time;
        assert_eq!(expires.timestamp(), T0 + 90);
    }
}
