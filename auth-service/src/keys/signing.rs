//! Generates, reads and uses RSA signing keys.

use access::{Error, Result};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{self, AlgorithmParameters, CommonParameters, RSAKeyParameters, RSAKeyType, ThumbprintHash};
use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use serde::Serialize;
use serde_json::json;

use crate::proto::Jwk;

/// A new key, not stored yet.
pub struct GeneratedKey {
    pub(super) jwk: Jwk,
    /// The private key, as PKCS#8.
    pub(super) der: Vec<u8>,
}

impl GeneratedKey {
    /// Generates a key, which takes from a tenth of a second to several seconds.
    pub async fn new(bits: KeyBits) -> Result<Self> {
        let size = match bits {
            KeyBits::Rsa2048 => KeySize::Rsa2048,
            KeyBits::Rsa3072 => KeySize::Rsa3072,
            KeyBits::Rsa4096 => KeySize::Rsa4096,
        };
        let generated = tokio::task::spawn_blocking(move || {
            let pair = KeyPair::generate(size).map_err(|_| Error::internal("an RSA key can't be generated"))?;
            let der = AsDer::<Pkcs8V1Der>::as_der(&pair).map_err(|_| Error::internal("an RSA key can't be encoded"))?;
            let jwk = SigningKey::from_pkcs8(der.as_ref())?.jwk;
            Ok(Self { jwk, der: der.as_ref().to_vec() })
        });
        generated.await.map_err(Error::internal)?
    }
}

/// A parsed signing key. Parsing it for every token would take almost as long as signing.
pub struct SigningKey {
    pair: KeyPair,
    jwk: Jwk,
}

impl SigningKey {
    /// Reads an RSA private key. The crate `rsa` checks that its numbers are consistent. It never signs (RUSTSEC-2023-0071).
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let key = RsaPrivateKey::from_pkcs8_der(der).map_err(|error| Error::internal(error.to_string()))?;
        let pair = KeyPair::from_pkcs8(der).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { pair, jwk: public_jwk(&key)? })
    }

    /// Signs a JWT of type `typ` with RS256. Equal claims give equal tokens.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String> {
        let header = json!({ "alg": "RS256", "typ": typ, "kid": self.jwk.kid }).to_string();
        let claims = serde_json::to_vec(claims).map_err(Error::internal)?;
        let mut token = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature);
        signed.map_err(|_| Error::internal("a key can't sign"))?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Returns the key id: the RFC 7638 thumbprint of the public key.
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    /// Returns the public key.
    pub(super) fn jwk(&self) -> &Jwk {
        &self.jwk
    }
}

fn public_jwk(key: &RsaPrivateKey) -> Result<Jwk> {
    let n = BASE64_URL_SAFE_NO_PAD.encode(key.n().to_bytes_be());
    let e = BASE64_URL_SAFE_NO_PAD.encode(key.e().to_bytes_be());
    let parameters = RSAKeyParameters { key_type: RSAKeyType::RSA, n: n.clone(), e: e.clone() };
    let jwk = jwk::Jwk { common: CommonParameters::default(), algorithm: AlgorithmParameters::RSA(parameters) };
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?;
    Ok(Jwk { kty: "RSA".to_owned(), r#use: "sig".to_owned(), alg: "RS256".to_owned(), kid, n, e })
}

/// The size of new keys, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum KeyBits {
    /// 2048
    #[default]
    #[value(name = "2048")]
    Rsa2048,
    /// 3072
    #[value(name = "3072")]
    Rsa3072,
    /// 4096
    #[value(name = "4096")]
    Rsa4096,
}
