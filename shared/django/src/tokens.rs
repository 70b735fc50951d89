//! Verifies the tokens that a Django project has issued with djangorestframework-simplejwt, until the last of them has expired.
//!
//! A legacy key verifies only tokens without a `kid`. The tokens of the auth service always have a `kid`.
//!
//! ```
//! use access::{Clock, token::Verifier};
//! use django::tokens::TokenArgs;
//!
//! // The flags of the service: `--legacy-key shop=shop.pem`.
//! let args = TokenArgs::default();
//! let verifier = Verifier::new("https://auth.example.com", "orders", Clock::system()).with_source(args.read()?);
//! # drop(verifier);
//! # Ok::<(), django::tokens::TokenKeyError>(())
//! ```

use std::{path::Path, str::FromStr};

use aws_lc_rs::rsa::PublicKey;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use access::{
    SecretFileError, UserId, read_secret_file,
    token::{self, ExternalToken, MAX_ACCESS_TOKEN_LIFETIME, TokenError, TokenSource, TokenTimes, UnverifiedToken, is_plain},
};

use crate::{project::project_name, row, user_id};

/// The `typ` of every token that simplejwt issues. The claim `token_type` distinguishes the kinds.
const TYPE: &str = "jwt";
/// The maximum number of keys. A token without a `kid` is tried with each of them.
const MAX_KEYS: usize = 4;

/// The value of a flag `NAME=VALUE`, where NAME is a Django project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name of the project.
    pub name: String,
    /// The value.
    pub value: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or("expected NAME=VALUE")?;
        Ok(Self { name: project_name(name)?, value: value.to_owned() })
    }
}

/// The flags of a service that accepts tokens of a Django project.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TokenArgs {
    /// A file with the RSA public key in PEM that verifies the tokens of the Django project NAME: simplejwt's `VERIFYING_KEY`. NAME is
    /// the `--project` of its import. May be given more than once.
    #[arg(long, env = "LEGACY_KEY", value_name = "NAME=FILE", value_delimiter = ',')]
    pub legacy_key: Vec<Named>,
    /// The `iss` of the project's tokens: simplejwt's `ISSUER`. Without it, a token with an `iss` is rejected.
    #[arg(long, env = "LEGACY_ISSUER", value_name = "NAME=ISSUER", value_delimiter = ',')]
    pub legacy_issuer: Vec<Named>,
    /// The `aud` of the project's tokens: simplejwt's `AUDIENCE`. Without it, a token with an `aud` is rejected.
    #[arg(long, env = "LEGACY_AUDIENCE", value_name = "NAME=AUDIENCE", value_delimiter = ',')]
    pub legacy_audience: Vec<Named>,
}

/// The reason why a legacy key is not accepted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenKeyError {
    /// The file of the key cannot be read.
    #[error(transparent)]
    Config(#[from] SecretFileError),
    /// The file does not hold an RSA public key in PEM.
    #[error(
        "legacy key `{0}` is not an RSA public key in PEM. An HS256 secret is not accepted, because it can also sign tokens: set \
         simplejwt's `ALGORITHM` to RS256, with a `SIGNING_KEY` and a `VERIFYING_KEY`, and pass the `VERIFYING_KEY`. Users with \
         HS256 tokens have to log in again"
    )]
    NotPublic(String),
    /// The file holds a private key, which a verifier must not have.
    #[error("legacy key `{0}` is a private key: pass the public key, simplejwt's `VERIFYING_KEY`")]
    Private(String),
    /// The key has not 2048 to 4096 bits, or not the exponent 65537.
    #[error("legacy key `{0}` must have 2048 to 4096 bits and the exponent 65537")]
    Size(String),
    /// A project has two keys, or two projects have the same key.
    #[error("duplicate legacy key `{0}`: each Django project has one key, and each key one project")]
    Twice(String),
    /// An issuer or an audience is set for a project without a key.
    #[error("no --legacy-key for `{0}`, which --legacy-issuer or --legacy-audience names")]
    NoKey(String),
    /// There are more than 4 keys.
    #[error("too many legacy keys: at most {MAX_KEYS} are accepted")]
    TooMany,
}

/// The keys of the Django projects whose tokens are accepted.
#[derive(Clone, Default)]
pub struct TokenKeys(Vec<TokenKey>);

#[derive(Clone)]
struct TokenKey {
    name: String,
    key: token::PublicKey,
    issuer: Option<String>,
    audience: Option<String>,
}

/// A verified token of a Django project.
#[derive(Debug, Clone, PartialEq)]
pub struct DjangoToken {
    /// The name of the Django project.
    pub project: String,
    /// The primary key of the user in Django.
    pub user_key: String,
    /// The id of the token.
    pub jti: String,
    /// The times of expiry and of issue.
    times: TokenTimes,
}

impl DjangoToken {
    /// Returns the id that an import gives the user. It does not check that the user has been imported.
    pub fn user_id(&self) -> UserId {
        user_id(&self.project, &self.user_key)
    }

    /// Returns the time of expiry in whole seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.times.whole_seconds().0
    }

    /// Returns the time of issue in whole seconds since 1970.
    pub fn issued(&self) -> i64 {
        self.times.whole_seconds().1
    }
}

/// The kinds of tokens that simplejwt issues, by their claim `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A token that authenticates calls.
    Access,
    /// A token that is exchanged for an access token.
    Refresh,
}

impl TokenArgs {
    /// Reads the files of the keys.
    ///
    /// # Errors
    ///
    /// Returns an error that names the project if its key is missing, not an RSA public key, of another size, or given twice, and
    /// an error if there are more than 4 keys.
    pub fn read(&self) -> Result<TokenKeys, TokenKeyError> {
        let mut keys = TokenKeys::default();
        for Named { name, value } in &self.legacy_key {
            keys.add(name, &read_secret_file(Path::new(value))?)?;
        }
        for Named { name, value } in &self.legacy_issuer {
            keys.get_mut(name)?.issuer = Some(value.clone());
        }
        for Named { name, value } in &self.legacy_audience {
            keys.get_mut(name)?.audience = Some(value.clone());
        }
        Ok(keys)
    }
}

impl TokenKeys {
    /// Adds the key of a Django project.
    pub fn add(&mut self, name: &str, pem: &str) -> Result<(), TokenKeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(TokenKeyError::Private(name.to_owned()));
        }
        let public = read_pem(pem).and_then(|der| PublicKey::from_der(&der).ok());
        let public = public.ok_or_else(|| TokenKeyError::NotPublic(name.to_owned()))?;
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !(2048..=4096).contains(&bits) || public.exponent().big_endian_without_leading_zero() != [1, 0, 1] {
            return Err(TokenKeyError::Size(name.to_owned()));
        }
        if self.0.iter().any(|key| key.name == name || key.key.modulus() == modulus) {
            return Err(TokenKeyError::Twice(name.to_owned()));
        }
        if self.0.len() == MAX_KEYS {
            return Err(TokenKeyError::TooMany);
        }
        let key = token::PublicKey::from_modulus(&modulus).ok_or_else(|| TokenKeyError::NotPublic(name.to_owned()))?;
        self.0.push(TokenKey { name: name.to_owned(), key, issuer: None, audience: None });
        Ok(())
    }

    fn get_mut(&mut self, name: &str) -> Result<&mut TokenKey, TokenKeyError> {
        self.0.iter_mut().find(|key| key.name == name).ok_or_else(|| TokenKeyError::NoKey(name.to_owned()))
    }

    /// Returns true if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a token of this kind. Returns None if it is not a token of simplejwt, because it has a `kid` or another `typ`, or
    /// if there are no keys. The caller then verifies it as a token of the auth service.
    pub fn decode_and_verify(&self, token: &str, kind: TokenKind, now: DateTime<Utc>) -> Option<Result<DjangoToken, TokenError>> {
        if self.is_empty() {
            return None;
        }
        let token = UnverifiedToken::parse(token).ok().filter(|token| token.is_of_type(TYPE) && !token.has_header("kid"))?;
        Some(self.check(&token, kind, now))
    }

    fn check(&self, token: &UnverifiedToken<'_>, kind: TokenKind, now: DateTime<Utc>) -> Result<DjangoToken, TokenError> {
        token.check_header()?;
        let key = self.0.iter().find(|key| token.is_signed_by(&key.key)).ok_or(TokenError::Signature)?;
        let claims = token.claims()?;
        let expected = match kind {
            TokenKind::Access => "access",
            TokenKind::Refresh => "refresh",
        };
        let text = |name| claims.get(name).and_then(Value::as_str);
        if text("token_type") != Some(expected) {
            return Err(TokenError::Type);
        }
        if claims.get("iss").is_some() != key.issuer.is_some() || text("iss") != key.issuer.as_deref() {
            return Err(TokenError::Issuer);
        }
        key.check_audience(&claims)?;
        // A refresh token is exchanged only once, and the session has its own limit, so its lifetime has no upper bound.
        let times = TokenTimes::check(&claims, now, matches!(kind, TokenKind::Access).then_some(MAX_ACCESS_TOKEN_LIFETIME))?;
        let jti = text("jti").filter(|jti| is_plain(jti)).ok_or(TokenError::Identity)?.to_owned();
        let user_key = claims.get("user_id").and_then(row::key).filter(|key| is_plain(key)).ok_or(TokenError::Identity)?;
        Ok(DjangoToken { project: key.name.clone(), user_key, jti, times })
    }
}

impl TokenSource for TokenKeys {
    fn verify(&self, token: &str, now: DateTime<Utc>) -> Option<Result<ExternalToken, TokenError>> {
        let token = self.decode_and_verify(token, TokenKind::Access, now)?;
        Some(token.map(|token| ExternalToken {
            user_id: token.user_id(),
            jti: token.jti,
            client_id: token.project,
            times: token.times,
        }))
    }
}

impl TokenKey {
    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let expected = self.audience.as_deref();
        let is_expected = |audience: &Value| expected.is_some() && audience.as_str() == expected;
        match claims.get("aud") {
            None if expected.is_none() => Ok(()),
            Some(Value::Array(audiences)) if audiences.iter().any(is_expected) => Ok(()),
            Some(audience) if is_expected(audience) => Ok(()),
            _ => Err(TokenError::Audience),
        }
    }
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

/// Decodes a public key in PEM (RFC 7468), with the label `PUBLIC KEY` or `RSA PUBLIC KEY`.
fn read_pem(pem: &str) -> Option<Vec<u8>> {
    let block = pem::parse(pem).ok()?;
    matches!(block.tag(), "PUBLIC KEY" | "RSA PUBLIC KEY").then(|| block.into_contents())
}
