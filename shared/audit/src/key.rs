//! The keys of the seals.

use std::fmt;

use aws_lc_rs::{hkdf, hmac};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The salt of HKDF, so that keys for other purposes from the same secret are unrelated.
const SALT: &[u8] = b"audit log v1";
/// The number of bytes of a key.
const KEY_BYTES: usize = 32;
/// The number of bytes of a key id.
const ID_BYTES: usize = 9;

/// A key that seals batches of entries.
#[derive(Clone)]
pub struct AuditKey {
    id: String,
    bytes: [u8; KEY_BYTES],
}

impl AuditKey {
    /// Derives the key from a secret (HKDF-SHA256, RFC 5869). The secret must have at least 32 random bytes.
    ///
    /// # Panics
    ///
    /// Never: HKDF-SHA256 can derive this many bytes.
    pub fn derive(secret: &[u8]) -> Self {
        let mut bytes = [0; KEY_BYTES];
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let derived = secret.expand(&[b"seal key"], hkdf::HKDF_SHA256).and_then(|key| key.fill(&mut bytes));
        derived.expect("HKDF-SHA256 derives up to 8,160 bytes");
        Self::from_bytes(bytes)
    }

    /// Returns the key with these bytes, which [`AuditKey::to_bytes`] returned.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"key id");
        Self { id: BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..ID_BYTES]), bytes }
    }

    /// Returns the bytes of the key, which must be stored encrypted.
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        self.bytes
    }

    /// Returns the id, which every seal of the key names. It does not reveal the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes), message).as_ref().to_vec()
    }

    pub(crate) fn verifies(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes), message, mac).is_ok()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys that verify seals: the current one, and those that sealed before it.
#[derive(Debug, Clone)]
pub struct AuditKeys(Vec<AuditKey>);

impl AuditKeys {
    /// Creates the set of these keys.
    pub fn new(keys: impl IntoIterator<Item = AuditKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    pub(crate) fn find(&self, id: &str) -> Option<&AuditKey> {
        self.0.iter().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_derived_from_its_secret_and_not_shown() {
        let [one, again, other] = [[1; 32], [1; 32], [2; 32]].map(|secret: [u8; 32]| AuditKey::derive(&secret));
        assert_eq!((one.id(), one.to_bytes()), (again.id(), again.to_bytes()));
        assert_ne!(one.id(), other.id());
        assert_eq!(AuditKey::from_bytes(one.to_bytes()).id(), one.id());
        let mac = one.sign(b"text");
        assert!(again.verifies(b"text", &mac) && !other.verifies(b"text", &mac) && !one.verifies(b"Text", &mac));
        assert_eq!(format!("{one:?}"), format!("AuditKey {{ id: {:?}, .. }}", one.id()));
    }
}
