//! Issues access tokens in a test, valid and invalid ones.

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use uuid::Uuid;

use crate::clock::TestClock;
use access::{Actor, UserId, proto::auth::v1::Jwk, token::Claims};

/// One key for every test of a process, since making one takes a while.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("an RSA key"));

/// Issues access tokens in place of the auth service, with a key of its own.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub name: String,
    /// The services that its tokens are for.
    pub audience: Vec<String>,
    /// The time when it issues them.
    pub clock: TestClock,
}

impl Issuer {
    /// The id of the key.
    pub const KID: &str = "the-key-of-the-tests";

    /// Creates an issuer of tokens for one service.
    pub fn new(name: &str, audience: &str, clock: impl Into<TestClock>) -> Self {
        Self { name: name.to_owned(), audience: vec![audience.to_owned()], clock: clock.into() }
    }

    /// Returns the public key as a JWK Set (RFC 7517) with one key.
    pub fn jwks(&self) -> Vec<Jwk> {
        let key = KEY.public_key();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        vec![Jwk {
            kty: "RSA".to_owned(),
            r#use: "sig".to_owned(),
            alg: "RS256".to_owned(),
            kid: Self::KID.to_owned(),
            n: text(key.modulus().big_endian_without_leading_zero()),
            e: text(key.exponent().big_endian_without_leading_zero()),
        }]
    }

    /// Returns the claims of a token of a user. It expires after 10 minutes, and holds no permission.
    pub fn claims(&self, user_id: UserId, username: &str) -> Claims {
        let now = self.clock.now().timestamp();
        Claims {
            iss: self.name.clone(),
            sub: user_id.to_string(),
            aud: self.audience.clone(),
            exp: now + 600,
            iat: now,
            jti: UserId::new(&self.clock).to_string(),
            client_id: "test".to_owned(),
            sid: Some(Uuid::from(UserId::new(&self.clock)).into()),
            scope: String::new(),
            groups: Vec::new(),
            preferred_username: Some(username.to_owned()),
            actor: Actor::User,
            ver: 1,
        }
    }

    /// Returns a signed token with these claims.
    ///
    /// # Panics
    ///
    /// Panics if the system provides no random numbers.
    pub fn token(&self, claims: &Claims) -> String {
        let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": Self::KID });
        self.sign(header.to_string().as_bytes(), &serde_json::to_vec(claims).expect("claims are JSON"))
    }

    /// Returns a token with this header and this payload, and with a valid signature.
    ///
    /// # Panics
    ///
    /// Panics if the system provides no random numbers.
    pub fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        let message = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload));
        let mut signature = vec![0; KEY.public_modulus_len()];
        KEY.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("a signature");
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}
