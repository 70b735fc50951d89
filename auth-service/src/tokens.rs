//! Issues access tokens (RFC 9068) and refresh tokens, and reads the latter.

use std::sync::Arc;

use access::{
    Actor, Clock, Error, Result, SessionId, UserId,
    token::{self, ACCESS_TOKEN_TYPE, Claims},
};
use chrono::{DateTime, TimeDelta, Utc};
use django::tokens::{DjangoToken, TokenKeys, TokenKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{clients::Client, keys::KeyRing, permissions::Rights, proto::Reason, sessions::Session, users::User};

const REFRESH_TOKEN_TYPE: &str = "rt+jwt";

/// The most that the names of groups take in an access token, in bytes: a longer token would be refused.
const LONGEST_GROUPS: usize = 1024;

/// Signs tokens.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<KeyRing>,
    issuer: Arc<str>,
    audience: Arc<[String]>,
    access_lifetime: TimeDelta,
    legacy: TokenKeys,
    clock: Clock,
}

/// A refresh token whose signature fits. Whether it is worth anything, its session decides.
#[derive(Debug, Clone, PartialEq)]
pub enum RefreshToken {
    /// One that was issued here.
    Ours(RefreshClaims),
    /// One that a Django project has issued.
    Legacy(DjangoToken),
}

/// The tokens of one Login or Refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// For every service of the audience.
    pub access_token: String,
    /// Until it expires.
    pub expires_in: TimeDelta,
    /// For Refresh and Logout.
    pub refresh_token: String,
    /// Until it expires.
    pub refresh_expires_in: TimeDelta,
}

/// The claims of a refresh token. Every one of them follows from the session's row, so that signing them again gives the
/// same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshClaims {
    /// Who has issued it.
    pub iss: String,
    /// The user.
    pub sub: UserId,
    /// Who takes it.
    pub aud: String,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// The client that the session belongs to.
    pub client_id: String,
    /// The session.
    pub sid: SessionId,
    /// The generation.
    #[serde(rename = "gen")]
    pub generation: i64,
}

impl Tokens {
    /// Issues tokens in the name of `issuer`, for the services of `audience`.
    pub fn new(
        keys: Arc<KeyRing>,
        clock: Clock,
        issuer: &str,
        audience: &[String],
        access_lifetime: TimeDelta,
        legacy: TokenKeys,
    ) -> Self {
        Self { keys, issuer: issuer.into(), audience: audience.into(), access_lifetime, legacy, clock }
    }

    /// The id of the key that signs what is issued now.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the keys could not be loaded for a minute.
    pub fn kid(&self) -> Result<String> {
        Ok(self.keys.keys().active()?.kid().to_owned())
    }

    /// Issues the refresh token of the session's generation, always the same, and an access token, always another.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED where the key that the session names was withdrawn.
    pub async fn issue(&self, user: &User, rights: &Rights, session: &Session, now: DateTime<Utc>) -> Result<Issued> {
        let keys = self.keys.keys();
        let active = Arc::clone(keys.active()?);
        let named = keys.find(&session.kid).ok_or_else(refresh_token_invalid)?;
        let (named, refresh) = (Arc::clone(named), self.refresh_claims(session));
        let access = self.access_claims(user, rights, session, now);
        let (access_token, refresh_token) =
            sign(move || Ok((active.sign(ACCESS_TOKEN_TYPE, &access)?, named.sign(REFRESH_TOKEN_TYPE, &refresh)?))).await?;
        let refresh_expires_in = session.idle_expires_at - now;
        Ok(Issued { access_token, expires_in: self.access_lifetime, refresh_token, refresh_expires_in })
    }

    /// Reads an access token, for whatever service it is. Whether its session still is, the database knows.
    pub fn read_access_token(&self, token: &str, now: DateTime<Utc>) -> Option<Claims> {
        let claims = token::decode_and_verify(token, ACCESS_TOKEN_TYPE, &self.keys.keys().set).ok()?;
        let claims: Claims = serde_json::from_value(Value::Object(claims)).ok()?;
        (claims.iss == *self.issuer && claims.iat <= now.timestamp() && now.timestamp() < claims.exp).then_some(claims)
    }

    /// Issues an access token to a client that holds these permissions.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE where the keys could not be loaded for a minute.
    pub async fn issue_service_token(&self, client: &Client, permissions: &[String], now: DateTime<Utc>) -> Result<String> {
        let active = Arc::clone(self.keys.keys().active()?);
        let claims = Claims {
            sub: client.client_id.clone(),
            client_id: client.client_id.clone(),
            scope: permissions.join(" "),
            actor: Actor::Service,
            ver: client.version,
            ..self.claims(now)
        };
        sign(move || active.sign(ACCESS_TOKEN_TYPE, &claims)).await
    }

    /// Who issues the tokens: their `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How long an access token lives.
    pub fn access_lifetime(&self) -> TimeDelta {
        self.access_lifetime
    }

    /// Reads a refresh token. Whether it is worth anything, its session decides.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED where it is neither one of ours nor of a Django project's that is known.
    pub fn read_refresh_token(&self, token: &str) -> Result<RefreshToken> {
        let refused = |why: &dyn std::fmt::Display| {
            tracing::info!(refusal = %why, "a refresh token is refused");
            refresh_token_invalid()
        };
        if let Some(legacy) = self.legacy.decode_and_verify(token, TokenKind::Refresh, self.clock.now()) {
            return legacy.map(RefreshToken::Legacy).map_err(|refusal| refused(&refusal));
        }
        let claims =
            token::decode_and_verify(token, REFRESH_TOKEN_TYPE, &self.keys.keys().set).map_err(|refusal| refused(&refusal))?;
        let claims: RefreshClaims = serde_json::from_value(Value::Object(claims)).map_err(|error| refused(&error))?;
        if claims.iss != *self.issuer || claims.aud != *self.issuer {
            return Err(refused(&"another issuer"));
        }
        Ok(RefreshToken::Ours(claims))
    }

    fn refresh_claims(&self, session: &Session) -> RefreshClaims {
        RefreshClaims {
            iss: self.issuer.to_string(),
            sub: session.user_id,
            aud: self.issuer.to_string(),
            exp: session.idle_expires_at.timestamp(),
            iat: session.rotated_at.timestamp(),
            client_id: session.client_id.clone(),
            sid: session.session_id,
            generation: session.generation,
        }
    }

    fn access_claims(&self, user: &User, rights: &Rights, session: &Session, now: DateTime<Utc>) -> Claims {
        Claims {
            sub: user.user_id.to_string(),
            client_id: session.client_id.clone(),
            sid: Some(session.session_id),
            scope: rights.permissions.join(" "),
            groups: fitting(&rights.groups),
            preferred_username: Some(user.username.clone()),
            ver: user.version,
            ..self.claims(now)
        }
    }

    /// What every access token has, and nobody's yet.
    #[expect(clippy::disallowed_methods, reason = "a token id is unique and means nothing")]
    fn claims(&self, now: DateTime<Utc>) -> Claims {
        Claims {
            iss: self.issuer.to_string(),
            sub: String::new(),
            aud: self.audience.to_vec(),
            exp: (now + self.access_lifetime).timestamp(),
            iat: now.timestamp(),
            jti: uuid::Uuid::now_v7().to_string(),
            client_id: String::new(),
            sid: None,
            scope: String::new(),
            groups: Vec::new(),
            preferred_username: None,
            actor: Actor::User,
            ver: 0,
        }
    }
}

/// The error for a refresh token that is not valid, or not valid any more.
pub fn refresh_token_invalid() -> Error {
    Error::unauthenticated(Reason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// The groups that a token has room for. None is asked for by an access rule.
fn fitting(groups: &[String]) -> Vec<String> {
    let mut length = 0;
    let fits = |group: &&String| {
        length += group.len() + 3;
        length <= LONGEST_GROUPS
    };
    groups.iter().take_while(fits).cloned().collect()
}

/// A signature takes about a millisecond, during which a thread that serves calls would serve none.
async fn sign<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
