//! The public keys that a verifier holds, and which keys of a JWK Set (RFC 7517) it takes.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;

use crate::proto::auth::v1::Jwk;

/// The public keys by their id.
#[derive(Clone, Default)]
pub struct KeySet(HashMap<String, PublicKey>);

#[derive(Clone)]
struct PublicKey {
    modulus: Vec<u8>,
    key: DecodingKey,
}

/// Why a JWK is not taken. The others of its set are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum KeyRefusal {
    #[error("the key type is not RSA")]
    Type,
    #[error("the algorithm is not RS256")]
    Algorithm,
    #[error("the use is not signing")]
    Use,
    #[error("there is no key id, or another key has the same")]
    Id,
    #[error("the modulus is not one of 2048 to 4096 bits in canonical base64url")]
    Modulus,
    #[error("the exponent is not 65537")]
    Exponent,
}

impl KeySet {
    /// Takes the keys that can verify, and tells of the others why they can't.
    pub fn from_jwks(jwks: &[Jwk]) -> (Self, Vec<KeyRefusal>) {
        let mut keys = HashMap::new();
        let mut refused = Vec::new();
        for jwk in jwks {
            let is_unique = jwks.iter().filter(|other| other.kid == jwk.kid).count() == 1;
            match read(jwk) {
                Ok(_) if jwk.kid.is_empty() || !is_unique => refused.push(KeyRefusal::Id),
                Ok(key) => {
                    keys.insert(jwk.kid.clone(), key);
                }
                Err(refusal) => refused.push(refusal),
            }
        }
        (Self(keys), refused)
    }

    pub(super) fn find(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.get(kid).map(|public| &public.key)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|kid, _| keep(kid));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True where `other` holds every key that this set holds, under the same id.
    pub(super) fn is_within(&self, other: &KeySet) -> bool {
        let is_held = |(kid, public): (&String, &PublicKey)| other.0.get(kid).is_some_and(|held| held.modulus == public.modulus);
        self.0.iter().all(is_held)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// RFC 7518 section 6.3.1. A private member can't get here: the message has no place for one.
fn read(jwk: &Jwk) -> Result<PublicKey, KeyRefusal> {
    if jwk.kty != "RSA" {
        return Err(KeyRefusal::Type);
    }
    if !matches!(jwk.alg.as_str(), "" | "RS256") {
        return Err(KeyRefusal::Algorithm);
    }
    if !matches!(jwk.r#use.as_str(), "" | "sig") {
        return Err(KeyRefusal::Use);
    }
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(&jwk.n).map_err(|_| KeyRefusal::Modulus)?;
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) || modulus.first() == Some(&0) {
        return Err(KeyRefusal::Modulus);
    }
    if jwk.e != "AQAB" {
        return Err(KeyRefusal::Exponent);
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &[1, 0, 1]);
    Ok(PublicKey { modulus, key })
}
