//! Signing keys: made once, sealed at rest, kept parsed in memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    encoding::{AsDer, Pkcs8V1Der},
    rand::{self, SystemRandom},
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{self, AlgorithmParameters, CommonParameters, RSAKeyParameters, RSAKeyType, ThumbprintHash};
use rsa::{RsaPrivateKey, pkcs8::DecodePrivateKey, traits::PublicKeyParts};
use serde::Serialize;
use serde_json::json;
use shared::{Clock, Db, Error, Result, Tx, db::Executor, token::KeySet};

use crate::proto::Jwk;

/// The key that seals the signing keys (AES-256-GCM). It is never stored beside them.
#[derive(Clone)]
pub struct MasterKey(Arc<RandomizedNonceKey>);

/// Why the signing keys are of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A master key that is none.
    #[error("the master key must be 32 bytes in base64, as `openssl rand -base64 32` writes them")]
    MasterKey,
    /// The wrong master key, or bytes that somebody changed.
    #[error("the signing key {0} can't be opened with this master key")]
    Sealed(String),
    /// The database, or the machine.
    #[error(transparent)]
    Failed(#[from] Error),
}

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
    fn seal(&self, kid: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = secret.to_vec();
        let nonce =
            self.0.seal_in_place_append_tag(Aad::from(kid), &mut sealed).map_err(|_| Error::internal("a key can't be sealed"))?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, kid: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
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

/// A key that signs, parsed once: parsing it again for every token would cost almost as much as signing.
pub struct SigningKey {
    pair: KeyPair,
    jwk: Jwk,
}

impl SigningKey {
    /// Reads an RSA private key. `rsa` checks that its numbers belong together; it never signs (RUSTSEC-2023-0071).
    fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let key = RsaPrivateKey::from_pkcs8_der(der).map_err(|error| Error::internal(error.to_string()))?;
        let pair = KeyPair::from_pkcs8(der).map_err(|error| Error::internal(error.to_string()))?;
        Ok(Self { pair, jwk: public_jwk(&key)? })
    }

    /// Signs a JWT of type `typ` (RS256). The same claims give the same bytes.
    ///
    /// # Errors
    ///
    /// INTERNAL where the key can't sign.
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

    /// The RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.jwk.kid
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

/// The keys as the database had them a moment ago.
#[derive(Default)]
pub struct Keys {
    active: Option<Arc<SigningKey>>,
    by_id: HashMap<String, Arc<SigningKey>>,
    /// What verifies tokens now or soon.
    pub jwks: Vec<Jwk>,
    /// The same, ready to verify with.
    pub set: KeySet,
}

impl Keys {
    /// The key that signs new tokens.
    ///
    /// # Errors
    ///
    /// INTERNAL before the keys are loaded.
    pub fn active(&self) -> Result<&Arc<SigningKey>> {
        self.active.as_ref().ok_or_else(|| Error::internal("no signing key is active"))
    }

    /// The key with this id.
    pub fn find(&self, kid: &str) -> Option<&Arc<SigningKey>> {
        self.by_id.get(kid)
    }
}

/// Loads the keys from the database, and keeps them.
pub struct KeyRing {
    db: Db,
    clock: Clock,
    master: MasterKey,
    keys: RwLock<Arc<Keys>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    state: String,
    private_key: Vec<u8>,
}

impl KeyRing {
    /// Loads the keys. Where there is none, one is made; of several replicas that do so at once, one succeeds.
    ///
    /// # Errors
    ///
    /// Another master key than the one that sealed the keys.
    pub async fn open(db: Db, clock: Clock, master: MasterKey, bits: KeyBits) -> Result<Self, KeyError> {
        let ring = Self { db, clock, master, keys: RwLock::default() };
        ring.reload().await?;
        if ring.keys().active.is_none() {
            ring.make_active(bits).await?;
            ring.reload().await?;
        }
        Ok(ring)
    }

    /// The keys as they were last loaded.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads what has changed since the last time, and answers what is public of it.
    ///
    /// # Errors
    ///
    /// Another master key than the one that sealed the keys. The keys that are loaded stay.
    pub async fn reload(&self) -> Result<Vec<Jwk>, KeyError> {
        let query = self.db.query("SELECT kid, state, private_key FROM signing_keys ORDER BY create_time, kid");
        let rows: Vec<Row> = query.all().await.map_err(Error::from)?;
        let old = self.keys();
        let mut new = Keys::default();
        for row in rows {
            let key = match old.find(&row.kid) {
                Some(key) => Arc::clone(key),
                None => Arc::new(SigningKey::from_pkcs8(&self.master.open(&row.kid, &row.private_key)?)?),
            };
            if row.state == "ACTIVE" {
                new.active = Some(Arc::clone(&key));
            }
            new.jwks.push(key.jwk.clone());
            new.by_id.insert(row.kid, key);
        }
        new.set = KeySet::from_jwks(&shared_jwks(&new.jwks)).0;
        let jwks = new.jwks.clone();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(jwks)
    }

    async fn make_active(&self, bits: KeyBits) -> Result<()> {
        let size = match bits {
            KeyBits::Rsa2048 => KeySize::Rsa2048,
            KeyBits::Rsa3072 => KeySize::Rsa3072,
            KeyBits::Rsa4096 => KeySize::Rsa4096,
        };
        let made = tokio::task::spawn_blocking(move || {
            let pair = KeyPair::generate(size).map_err(|_| Error::internal("no RSA key can be made"))?;
            let der = AsDer::<Pkcs8V1Der>::as_der(&pair).map_err(|_| Error::internal("an RSA key can't be written"))?;
            Ok::<_, Error>((SigningKey::from_pkcs8(der.as_ref())?, der.as_ref().to_vec()))
        });
        let (key, der) = made.await.map_err(Error::internal)??;
        let sealed = self.master.seal(key.kid(), &der)?;
        let mut tx = self.db.begin().await?;
        let now = tx.now(&self.clock).await?;
        insert_active(&mut tx, &key.jwk, sealed, now).await?;
        tx.commit().await
    }
}

async fn insert_active(tx: &mut Tx, jwk: &Jwk, sealed: Vec<u8>, now: DateTime<Utc>) -> Result<()> {
    let query = tx.query(
        "INSERT INTO signing_keys (kid, state, private_key, n, e, create_time, activate_time)
         VALUES ($1, 'ACTIVE', $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING",
    );
    query.bind(&jwk.kid).bind(sealed).bind(&jwk.n).bind(&jwk.e).bind(now).execute().await?;
    Ok(())
}

/// The keys as `shared` has them.
pub fn shared_jwks(jwks: &[Jwk]) -> Vec<shared::proto::auth::v1::Jwk> {
    let copy = |jwk: &Jwk| {
        let Jwk { kty, r#use, alg, kid, n, e } = jwk.clone();
        shared::proto::auth::v1::Jwk { kty, r#use, alg, kid, n, e }
    };
    jwks.iter().map(copy).collect()
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
