//! The master key, which encrypts the signing keys in the database.

use std::{fmt, sync::Arc};

use access::{Error, Result};
use audit::AuditKey;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::KeyError;

/// The key that encrypts the signing keys (AES-256-GCM), and from which the key of the audit log is derived. It is never stored in the
/// database.
#[derive(Clone)]
pub struct MasterKey {
    encryption: Arc<RandomizedNonceKey>,
    audit: AuditKey,
}

impl MasterKey {
    /// Reads a master key: 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| KeyError::MasterKey)?;
        let encryption = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| KeyError::MasterKey)?;
        Ok(Self { encryption: Arc::new(encryption), audit: AuditKey::derive(&bytes) })
    }

    /// Returns the key that seals the audit log.
    pub fn audit_key(&self) -> &AuditKey {
        &self.audit
    }

    /// Generates a master key and returns it in base64.
    ///
    /// # Panics
    ///
    /// Panics if the operating system provides no randomness.
    pub fn generate() -> String {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("the operating system provides randomness");
        BASE64_STANDARD.encode(bytes)
    }

    /// Encrypts a private key. Returns nonce, ciphertext and tag. The key id is authenticated too, so that the values of two rows cannot
    /// be exchanged.
    pub(super) fn encrypt(&self, kid: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut encrypted = secret.to_vec();
        let nonce = self
            .encryption
            .seal_in_place_append_tag(Aad::from(kid), &mut encrypted)
            .map_err(|_| Error::internal("a signing key can't be encrypted"))?;
        Ok([nonce.as_ref().as_slice(), &encrypted].concat())
    }

    pub(super) fn decrypt(&self, kid: &str, encrypted: &[u8]) -> Result<Vec<u8>, KeyError> {
        let wrong = || KeyError::Decryption(kid.to_owned());
        let (nonce, ciphertext) = encrypted.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut secret = ciphertext.to_vec();
        let length = self.encryption.open_in_place(nonce, Aad::from(kid), &mut secret).map_err(|_| wrong())?.len();
        secret.truncate(length);
        Ok(secret)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_master_key_and_key_id_decrypt_an_unchanged_private_key() {
        let [master, other] = [(); 2].map(|()| MasterKey::from_base64(&MasterKey::generate()).expect("a master key"));
        let encrypted = master.encrypt("a", b"secret").expect("an encrypted key");
        assert_eq!(master.decrypt("a", &encrypted).expect("the key"), b"secret");
        assert!(!encrypted.windows(6).any(|window| window == b"secret"));
        let mut changed = encrypted.clone();
        changed[NONCE_LEN] ^= 1;
        for (master, kid, encrypted) in
            [(&other, "a", &encrypted), (&master, "b", &encrypted), (&master, "a", &changed), (&master, "a", &vec![])]
        {
            assert!(matches!(master.decrypt(kid, encrypted), Err(KeyError::Decryption(named)) if named == kid));
        }
    }

    #[test]
    fn a_master_key_is_32_bytes() {
        for bad in ["", "c2hvcnQ=", "not base64 at all", &BASE64_STANDARD.encode([0; 33])] {
            assert!(matches!(MasterKey::from_base64(bad), Err(KeyError::MasterKey)), "{bad}");
        }
    }
}
