//! A corpus of access tokens: hostile ones with the reason why each is refused, and unusual ones that are good.

mod claims;
mod forge;
mod good;
mod header;
mod segments;
mod signature;

use crate::Issuer;
use access::{proto::auth::v1::Jwk, token::TokenError};

pub use forge::{Forge, Key, SECOND_KEY, base64, bytes, parts};

/// A token that a verifier must reject.
#[derive(Debug)]
pub struct Hostile {
    /// The defect of the token.
    pub name: String,
    /// The token.
    pub token: String,
    /// The reason with which a verifier that holds [`jwks`] rejects it.
    pub error: TokenError,
}

impl Hostile {
    fn new(name: impl Into<String>, token: impl Into<String>, error: TokenError) -> Self {
        Self { name: name.into(), token: token.into(), error }
    }

    /// Returns true if the token reaches a verifier unchanged in an `authorization` header, within a header list of 8 KiB.
    pub fn travels(&self) -> bool {
        self.token.len() < 7 << 10 && !self.token.starts_with(' ') && self.token.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
}

/// An unusual token that a verifier must accept.
#[derive(Debug)]
pub struct Good {
    /// The unusual property of the token.
    pub name: &'static str,
    /// The token.
    pub token: String,
}

/// Returns the keys of the verifier that the corpus is for: the one of the issuer, and a second one with which the corpus signs
/// tokens.
pub fn jwks(issuer: &Issuer) -> Vec<Jwk> {
    let mut jwks = issuer.jwks();
    jwks.push(SECOND_KEY.jwk());
    jwks
}

/// Returns every hostile token. The issuer's clock has to stand still until the last of them is verified.
pub fn hostile(issuer: &Issuer) -> Vec<Hostile> {
    let forge = Forge::new(issuer);
    [segments::hostile, header::hostile, signature::hostile, claims::hostile].iter().flat_map(|subject| subject(&forge)).collect()
}

/// Returns every good token. The issuer's clock has to stand still until the last of them is verified.
pub fn good(issuer: &Issuer) -> Vec<Good> {
    good::good(&Forge::new(issuer))
}
