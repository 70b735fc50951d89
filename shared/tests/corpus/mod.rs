//! A corpus of access tokens: hostile ones with the reason why each is refused, and unusual ones that are good.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]

mod claims;
mod forge;
mod good;
mod header;
mod segments;
mod signature;

use shared::{proto::auth::v1::Jwk, testing::Issuer, token::Refusal};

pub(crate) use forge::{Forge, Key, SECOND_KEY, base64, bytes, parts};

/// A token that nobody may get in with.
#[derive(Debug)]
pub(crate) struct Hostile {
    /// What is wrong with it.
    pub(crate) name: String,
    /// The token.
    pub(crate) token: String,
    /// Why a verifier with the corpus's keys refuses it.
    pub(crate) refusal: Refusal,
}

impl Hostile {
    fn new(name: impl Into<String>, token: impl Into<String>, refusal: Refusal) -> Self {
        Self { name: name.into(), token: token.into(), refusal }
    }

    /// True where it reaches the verifier unchanged in an `authorization` header, within a header list of 8 KiB.
    pub(crate) fn travels(&self) -> bool {
        self.token.len() < 7 << 10 && !self.token.starts_with(' ') && self.token.bytes().all(|b| (0x20..0x7f).contains(&b))
    }
}

/// A token that must get in, however odd it looks.
#[derive(Debug)]
pub(crate) struct Good {
    /// What is unusual about it.
    pub(crate) name: &'static str,
    /// The token.
    pub(crate) token: String,
}

/// The keys of a verifier that the corpus is for: the issuer's own, and a second one that signs what the issuer can't.
pub(crate) fn jwks(issuer: &Issuer) -> Vec<Jwk> {
    let mut jwks = issuer.jwks();
    jwks.push(SECOND_KEY.jwk());
    jwks
}

/// Every hostile token. The issuer's clock has to stand still until the last of them is verified.
pub(crate) fn hostile(issuer: &Issuer) -> Vec<Hostile> {
    let forge = Forge::new(issuer);
    [segments::hostile, header::hostile, signature::hostile, claims::hostile].iter().flat_map(|subject| subject(&forge)).collect()
}

/// Every good token. The issuer's clock has to stand still until the last of them is verified.
pub(crate) fn good(issuer: &Issuer) -> Vec<Good> {
    good::good(&Forge::new(issuer))
}
