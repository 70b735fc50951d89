//! Issues and reads access tokens (RFC 9068) and refresh tokens.

use std::sync::Arc;

use access::{
    Actor, Clock, Error, Result, SessionId, UserId,
    token::{self, ACCESS_TOKEN_TYPE, Claims},
};
use chrono::{DateTime, TimeDelta, Utc};
use django::tokens::{DjangoToken, TokenKeys, TokenKind};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clients::Client,
    keys::{KeyRing, SigningPool},
    permissions::Rights,
    proto::Reason,
    sessions::Session,
    users::User,
};

const REFRESH_TOKEN_TYPE: &str = "rt+jwt";

/// The maximum length of all group names in an access token together, in bytes. Verifiers reject tokens that are too long.
const GROUPS_LIMIT: usize = 1024;

/// The number of access tokens whose verified claims are kept for introspection.
const VERIFIED: usize = 4096;

/// The claims of an access token with a valid signature.
#[derive(Clone)]
struct VerifiedClaims {
    claims: Arc<Claims>,
    /// The load of the keys that verified the signature. After the next load it is verified again, because its key may be gone.
    loads: u64,
}

/// Issues and reads tokens.
#[derive(Clone)]
pub struct Tokens {
    keys: Arc<KeyRing>,
    issuer: Arc<str>,
    audience: Arc<[String]>,
    access_lifetime: TimeDelta,
    django_keys: TokenKeys,
    has_django_claims: bool,
    clock: Clock,
    verified: Arc<Cache<Box<str>, VerifiedClaims>>,
    signing_pool: Arc<SigningPool>,
}

/// The claims of a token, and the two that simplejwt adds if the setting is on.
#[derive(Serialize)]
struct SignedClaims<C> {
    #[serde(flatten)]
    claims: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
}

/// A refresh token with a valid signature. Its session decides whether it is valid.
#[derive(Debug, Clone, PartialEq)]
pub enum RefreshToken {
    /// A token that this service issued.
    Ours(RefreshClaims),
    /// A token that a Django project issued.
    Django(DjangoToken),
}

/// The tokens of one Login or Refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedTokens {
    /// The access token for the services of the audience.
    pub access_token: String,
    /// The time until the access token expires.
    pub expires_in: TimeDelta,
    /// The refresh token, for Refresh and Logout.
    pub refresh_token: String,
    /// The time until the refresh token expires.
    pub refresh_expires_in: TimeDelta,
    /// The permissions in the access token, separated by spaces (RFC 6749 section 3.3).
    pub scope: String,
}

/// The access token of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// The access token.
    pub access_token: String,
    /// The permissions in it, separated by spaces (RFC 6749 section 3.3).
    pub scope: String,
}

/// The claims of a refresh token. They are computed only from the stored session, so that a repeated Refresh signs the same
/// token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshClaims {
    /// The issuer.
    pub iss: String,
    /// The id of the user.
    pub sub: UserId,
    /// The audience: the issuer itself.
    pub aud: String,
    /// The time when it expires, in seconds since 1970.
    pub exp: i64,
    /// The time when it was issued, in seconds since 1970.
    pub iat: i64,
    /// The client of the session.
    pub client_id: String,
    /// The session.
    pub sid: SessionId,
    /// The generation: the number of the token within its session.
    #[serde(rename = "gen")]
    pub generation: i64,
}

impl Tokens {
    /// Creates an issuer of tokens whose `iss` is `issuer` and whose `aud` is `audience`.
    pub fn new(
        keys: Arc<KeyRing>,
        clock: Clock,
        issuer: &str,
        audience: &[String],
        access_lifetime: TimeDelta,
        django_keys: TokenKeys,
    ) -> Self {
        Self {
            keys,
            issuer: issuer.into(),
            audience: audience.into(),
            access_lifetime,
            django_keys,
            has_django_claims: false,
            clock,
            verified: Arc::new(Cache::new(VERIFIED)),
            signing_pool: Arc::new(SigningPool::start()),
        }
    }

    /// Adds the claims `user_id` and `token_type` of simplejwt to the tokens of users.
    #[must_use]
    pub fn with_django_claims(self, has_django_claims: bool) -> Self {
        Self { has_django_claims, ..self }
    }

    /// Returns the id of the key that signs new tokens.
    ///
    /// # Errors
    ///
    /// Returns UNAVAILABLE if the last successful load of the keys is more than a minute ago.
    pub fn kid(&self) -> Result<String> {
        Ok(self.keys.keys().active()?.kid().to_owned())
    }

    /// Issues a new access token, and the refresh token of the session's current generation. The refresh token of one generation
    /// is always the same.
    ///
    /// # Errors
    ///
    /// Returns UNAUTHENTICATED if the key that the session names was withdrawn.
    pub async fn issue(&self, user: &User, rights: &Rights, session: &Session, now: DateTime<Utc>) -> Result<IssuedTokens> {
        let keys = self.keys.keys();
        let active = Arc::clone(keys.active()?);
        let named = keys.find(&session.kid).ok_or_else(refresh_token_invalid)?;
        let (named, refresh) = (Arc::clone(named), self.refresh_claims(session));
        let access = self.access_claims(user, rights, session, now);
        let scope = access.scope.clone();
        let access = self.signed_claims(access, user.user_id, "access");
        let refresh = self.signed_claims(refresh, user.user_id, "refresh");
        let (access_token, refresh_token) = self
            .signing_pool
            .run(move || Ok((active.sign(ACCESS_TOKEN_TYPE, &access)?, named.sign(REFRESH_TOKEN_TYPE, &refresh)?)))
            .await?;
        let refresh_expires_in = session.idle_expires_at - now;
        Ok(IssuedTokens { access_token, expires_in: self.access_lifetime, refresh_token, refresh_expires_in, scope })
    }

    /// Reads an access token for any audience, also one that has expired. It does not check the session.
    pub fn read_access_token(&self, token: &str, now: DateTime<Utc>) -> Option<Arc<Claims>> {
        let keys = self.keys.keys();
        let cached = self.verified.get(token).filter(|verified| verified.loads == keys.loads);
        let claims = if let Some(verified) = cached {
            verified.claims
        } else {
            let claims = token::decode_and_verify(token, ACCESS_TOKEN_TYPE, &keys.set).ok()?;
            let claims: Arc<Claims> = Arc::new(serde_json::from_value(Value::Object(claims)).ok()?);
            self.verified.insert(token.into(), VerifiedClaims { claims: Arc::clone(&claims), loads: keys.loads });
            claims
        };
        (claims.iss == *self.issuer && claims.iat <= now.timestamp()).then_some(claims)
    }

    /// Issues an access token with these permissions to a client.
    ///
    /// # Errors
    ///
    /// Returns UNAVAILABLE if the last successful load of the keys is more than a minute ago.
    pub async fn issue_service_token(&self, client: &Client, permissions: &[String], now: DateTime<Utc>) -> Result<ServiceToken> {
        let active = Arc::clone(self.keys.keys().active()?);
        let scope = permissions.join(" ");
        let claims = Claims {
            sub: client.client_id.clone(),
            client_id: client.client_id.clone(),
            scope: scope.clone(),
            actor: Actor::Service,
            ver: client.version,
            ..self.claims(now)
        };
        let access_token = self.signing_pool.run(move || active.sign(ACCESS_TOKEN_TYPE, &claims)).await?;
        Ok(ServiceToken { access_token, scope })
    }

    /// Returns the issuer: the `iss` of every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the lifetime of an access token.
    pub fn access_lifetime(&self) -> TimeDelta {
        self.access_lifetime
    }

    /// Reads a refresh token. It does not check the session.
    ///
    /// # Errors
    ///
    /// Returns UNAUTHENTICATED if neither this service nor a configured Django project issued it.
    pub fn read_refresh_token(&self, token: &str) -> Result<RefreshToken> {
        let rejected = |reason: &dyn std::fmt::Display| {
            tracing::info!(%reason, "a refresh token is rejected");
            refresh_token_invalid()
        };
        if let Some(token) = self.django_keys.decode_and_verify(token, TokenKind::Refresh, self.clock.now()) {
            return token.map(RefreshToken::Django).map_err(|error| rejected(&error));
        }
        let claims =
            token::decode_and_verify(token, REFRESH_TOKEN_TYPE, &self.keys.keys().set).map_err(|error| rejected(&error))?;
        let claims: RefreshClaims = serde_json::from_value(Value::Object(claims)).map_err(|error| rejected(&error))?;
        if claims.iss != *self.issuer || claims.aud != *self.issuer {
            return Err(rejected(&"it has another issuer or audience"));
        }
        Ok(RefreshToken::Ours(claims))
    }

    fn signed_claims<C>(&self, claims: C, user_id: UserId, token_type: &'static str) -> SignedClaims<C> {
        let (user_id, token_type) = (self.has_django_claims.then_some(user_id), self.has_django_claims.then_some(token_type));
        SignedClaims { claims, user_id, token_type }
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
            groups: groups_within_limit(&rights.groups),
            preferred_username: Some(user.username.clone()),
            ver: user.version,
            ..self.claims(now)
        }
    }

    /// Returns the claims that every access token has.
    #[expect(clippy::disallowed_methods, reason = "the id of a token is unique and has no meaning")]
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

/// Returns the error for a refresh token that is not valid, or is no longer valid.
pub fn refresh_token_invalid() -> Error {
    Error::unauthenticated(Reason::RefreshTokenInvalid, "the refresh token is not valid")
}

/// Returns the first groups whose names fit into `GROUPS_LIMIT`. The others can be left out, because no access rule uses groups.
fn groups_within_limit(groups: &[String]) -> Vec<String> {
    let mut length = 0;
    let fits = |group: &&String| {
        length += group.len() + 3;
        length <= GROUPS_LIMIT
    };
    groups.iter().take_while(fits).cloned().collect()
}
