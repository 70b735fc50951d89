//! An RSA public key, parsed once.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::PublicKeyComponents,
    signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};

/// The exponent of every accepted key: 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// An RSA public key of 2048 to 8192 bits, which verifies signatures of RS256. Parsing it for every signature would take about as
/// long as verifying.
#[derive(Clone)]
pub struct PublicKey {
    modulus: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Parses a key with the exponent 65537. Its modulus is big-endian, without zeros at its start. Returns `None` if the numbers
    /// are not a key of 2048 to 8192 bits.
    pub fn from_modulus(modulus: &[u8]) -> Option<Self> {
        Self::from_components(modulus, &EXPONENT)
    }

    /// Parses a key. Both numbers are big-endian, without zeros at their start. Returns `None` if they are not a key of 2048 to
    /// 8192 bits.
    pub fn from_components(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let components = PublicKeyComponents { n: modulus, e: exponent };
        let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
        let parsed = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref()).ok()?;
        Some(Self { modulus: modulus.to_vec(), parsed })
    }

    /// Returns the modulus.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Returns true if the key has signed the message with RS256.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}
