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

/// A token that nobody may get in with.
#[derive(Debug)]
pub struct Hostile {
    /// The defect of the token.
    pub name: String,
    /// The token.
    pub token: String,
    /// Why a verifier with the corpus's keys refuses it.
    pub error: TokenError,
}

impl Hostile {
    fn new(name: impl Into<String>, token: impl Into<String>, error: TokenError) -> Self {
        Self { name: name.into(), token: token.into(), error }
    }

    /// True where it reaches the verifier unchanged in an `authorization` header, within a header list of 8 KiB.
    pub fn travels(&self) -> bool {
        self.token.len() < 7 << 10 && !self.token.starts_with(' ') && self.token.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
}

/// A token that must get in, however odd it looks.
#[derive(Debug)]
pub struct Good {
    /// The unusual property of the token.
    pub name: &'static str,
    /// The token.
    pub token: String,
}

/// The keys of a verifier that the corpus is for: the issuer's own, and a second one that signs what the issuer can't.
pub fn jwks(issuer: &Issuer) -> Vec<Jwk> {
    let mut jwks = issuer.jwks();
    jwks.push(SECOND_KEY.jwk());
    jwks
}

/// Every hostile token. The issuer's clock has to stand still until the last of them is verified.
pub fn hostile(issuer: &Issuer) -> Vec<Hostile> {
    let forge = Forge::new(issuer);
    [segments::hostile, header::hostile, signature::hostile, claims::hostile].iter().flat_map(|subject| subject(&forge)).collect()
}

/// Every good token. The issuer's clock has to stand still until the last of them is verified.
pub fn good(issuer: &Issuer) -> Vec<Good> {
    good::good(&Forge::new(issuer))
}
