//! The master key, which seals the signing keys where they are stored.

use std::{fmt, sync::Arc};

use access::{Error, Result};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::KeyError;

/// The key that seals the signing keys (AES-256-GCM). It is never stored beside them.
#[derive(Clone)]
pub struct MasterKey(Arc<RandomizedNonceKey>);

impl MasterKey {
    /// Reads a master key: 32 bytes in base64.
    ///
    /// # Errors
    ///
    /// Anything else.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| KeyError::MasterKey)?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map(|key| Self(Arc::new(key))).map_err(|_| KeyError::MasterKey)
    }

    /// Makes a master key, in base64.
    ///
    /// # Panics
    ///
    /// Where the machine has no randomness.
    pub fn generate() -> String {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).expect("a machine with randomness");
        BASE64_STANDARD.encode(bytes)
    }

    /// Nonce, ciphertext and tag. The key id is authenticated with it, so that no row can pass for another.
    pub(super) fn seal(&self, kid: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = secret.to_vec();
        let nonce =
            self.0.seal_in_place_append_tag(Aad::from(kid), &mut sealed).map_err(|_| Error::internal("a key can't be sealed"))?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    pub(super) fn open(&self, kid: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let wrong = || KeyError::Sealed(kid.to_owned());
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut secret = sealed.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(kid), &mut secret).map_err(|_| wrong())?.len();
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
    fn a_sealed_key_opens_with_its_master_key_under_its_own_id_and_unchanged() {
        let [master, other] = [(); 2].map(|()| MasterKey::from_base64(&MasterKey::generate()).expect("a master key"));
        let sealed = master.seal("a", b"secret").expect("a sealed key");
        assert_eq!(master.open("a", &sealed).expect("the key"), b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let mut changed = sealed.clone();
        changed[NONCE_LEN] ^= 1;
        for (master, kid, sealed) in
            [(&other, "a", &sealed), (&master, "b", &sealed), (&master, "a", &changed), (&master, "a", &vec![])]
        {
            assert!(matches!(master.open(kid, sealed), Err(KeyError::Sealed(named)) if named == kid));
        }
    }

    #[test]
    fn a_master_key_is_32_bytes() {
        for bad in ["", "c2hvcnQ=", "not base64 at all", &BASE64_STANDARD.encode([0; 33])] {
            assert!(matches!(MasterKey::from_base64(bad), Err(KeyError::MasterKey)), "{bad}");
        }
    }
}
