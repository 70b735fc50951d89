//! A set of public keys, read from a JWK Set (RFC 7517).

use std::collections::HashMap;

use super::PublicKey;
use crate::proto::auth::v1::Jwk;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// Public keys by their key id.
#[derive(Clone, Default)]
pub struct KeySet(HashMap<String, PublicKey>);

/// The reason why one JWK of a set is not accepted. The others are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum JwkError {
    /// The `kty` is not `RSA`.
    #[error("the key type is not RSA")]
    Type,
    /// The `alg` is present, and is not `RS256`.
    #[error("the algorithm is not RS256")]
    Algorithm,
    /// The `use` is present, and is not `sig`.
    #[error("the use is not signing")]
    Use,
    /// The `kid` is empty, or is that of another key in the set.
    #[error("there is no key id, or another key has the same")]
    Id,
    /// The `n` is not a modulus of 2048 to 4096 bits in base64url (RFC 7518 section 6.3.1.1).
    #[error("the modulus is not one of 2048 to 4096 bits in canonical base64url")]
    Modulus,
    /// The `e` is not `AQAB`, which is 65537 (RFC 7518 section 6.3.1.2).
    #[error("the exponent is not 65537")]
    Exponent,
}

impl KeySet {
    /// Reads the keys that can verify, and returns the reason for each one that is not accepted.
    ///
    /// A key is accepted if its `kty` is `RSA`, its `alg` is absent or `RS256`, its `use` is absent or `sig`, it has a `kid` that
    /// no other key of the set has, its modulus has 2048 to 4096 bits, and its exponent is 65537.
    pub fn from_jwks(jwks: &[Jwk]) -> (Self, Vec<JwkError>) {
        let mut keys = HashMap::new();
        let mut rejected = Vec::new();
        for jwk in jwks {
            let is_unique = jwks.iter().filter(|other| other.kid == jwk.kid).count() == 1;
            match read(jwk) {
                Ok(_) if jwk.kid.is_empty() || !is_unique => rejected.push(JwkError::Id),
                Ok(key) => {
                    keys.insert(jwk.kid.clone(), key);
                }
                Err(error) => rejected.push(error),
            }
        }
        (Self(keys), rejected)
    }

    pub(super) fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|kid, _| keep(kid));
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if `other` holds every key of this set under the same id.
    pub(super) fn is_subset_of(&self, other: &KeySet) -> bool {
        let is_held =
            |(kid, public): (&String, &PublicKey)| other.0.get(kid).is_some_and(|held| held.modulus() == public.modulus());
        self.0.iter().all(is_held)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads an RSA public key (RFC 7518 section 6.3.1). The message has no fields for private members.
fn read(jwk: &Jwk) -> Result<PublicKey, JwkError> {
    if jwk.kty != "RSA" {
        return Err(JwkError::Type);
    }
    if !matches!(jwk.alg.as_str(), "" | "RS256") {
        return Err(JwkError::Algorithm);
    }
    if !matches!(jwk.r#use.as_str(), "" | "sig") {
        return Err(JwkError::Use);
    }
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(&jwk.n).map_err(|_| JwkError::Modulus)?;
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) || modulus.first() == Some(&0) {
        return Err(JwkError::Modulus);
    }
    if jwk.e != "AQAB" {
        return Err(JwkError::Exponent);
    }
    PublicKey::from_modulus(&modulus).ok_or(JwkError::Modulus)
}
