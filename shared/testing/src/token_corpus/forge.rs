//! Makes tokens that are right but for what a test changes.

use std::sync::LazyLock;

use crate::Issuer;
use access::{UserId, proto::auth::v1::Jwk};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value, json};

/// A key that the verifier holds besides the issuer's.
pub static SECOND_KEY: LazyLock<Key> = LazyLock::new(|| Key::generate("the-second-key", KeySize::Rsa2048));

/// An RSA key pair with an id.
pub struct Key {
    pub kid: &'static str,
    pair: KeyPair,
}

impl Key {
    pub fn generate(kid: &'static str, size: KeySize) -> Self {
        Self { kid, pair: KeyPair::generate(size).expect("an RSA key") }
    }

    pub fn jwk(&self) -> Jwk {
        let key = self.pair.public_key();
        Jwk {
            kty: "RSA".to_owned(),
            r#use: "sig".to_owned(),
            alg: "RS256".to_owned(),
            kid: self.kid.to_owned(),
            n: base64(key.modulus().big_endian_without_leading_zero()),
            e: base64(key.exponent().big_endian_without_leading_zero()),
        }
    }

    /// The public key as `VERIFYING_KEY` of simplejwt has it (RFC 7468).
    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().expect("a public key");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
    }

    /// The header of an access token that this key signs.
    pub fn header(&self) -> String {
        json!({ "alg": "RS256", "typ": "at+jwt", "kid": self.kid }).to_string()
    }

    /// Signs in any of the ways that RSA has.
    pub fn signature(&self, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("a signature");
        signature
    }

    /// A token whose first two segments are this text, however it is encoded.
    pub fn sign(&self, message: &str) -> String {
        format!("{message}.{}", base64(self.signature(&RSA_PKCS1_SHA256, message)))
    }
}

/// Tokens of one issuer, for one user.
pub struct Forge<'a> {
    pub issuer: &'a Issuer,
    /// The issuer's time, in seconds since 1970.
    pub now: i64,
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
}

impl<'a> Forge<'a> {
    pub fn new(issuer: &'a Issuer) -> Self {
        let claims = issuer.claims(UserId::new(&issuer.clock), "alice");
        Self {
            issuer,
            now: issuer.clock.now().timestamp(),
            header: object(json!({ "alg": "RS256", "typ": "at+jwt", "kid": Issuer::KID })),
            claims: object(serde_json::to_value(claims).expect("claims are JSON")),
        }
    }

    /// A token with nothing wrong.
    pub fn good(&self) -> String {
        self.token(&[], &[])
    }

    /// A token with these header parameters and these claims instead of the right ones.
    pub fn token(&self, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        self.issuer.sign(text(&changed(&self.header, header)).as_bytes(), text(&changed(&self.claims, claims)).as_bytes())
    }

    /// A token with another value of a header parameter.
    pub fn header_with(&self, name: &str, value: &Value) -> String {
        self.token(&[(name, value.clone())], &[])
    }

    /// A token without a header parameter.
    pub fn header_without(&self, name: &str) -> String {
        self.header_of(text(&without(&self.header, name)))
    }

    /// A token with more members at the end of the header, as they stand in JSON.
    pub fn header_and(&self, members: &str) -> String {
        self.header_of(and(&self.header, members))
    }

    /// A token with any header.
    pub fn header_of(&self, header: impl AsRef<[u8]>) -> String {
        self.issuer.sign(header.as_ref(), text(&self.claims).as_bytes())
    }

    /// A token with another value of a claim.
    pub fn claims_with(&self, name: &str, value: &Value) -> String {
        self.token(&[], &[(name, value.clone())])
    }

    /// A token without a claim.
    pub fn claims_without(&self, name: &str) -> String {
        self.claims_of(text(&without(&self.claims, name)))
    }

    /// A token with more members at the end of the claims, as they stand in JSON.
    pub fn claims_and(&self, members: &str) -> String {
        self.claims_of(and(&self.claims, members))
    }

    /// A token in which the value of a claim is this JSON, whether or not it is any.
    pub fn claim_of(&self, name: &str, json: &str) -> String {
        self.claims_of(and(&without(&self.claims, name), &format!("{name:?}:{json}")))
    }

    /// A token with any payload.
    pub fn claims_of(&self, claims: impl AsRef<[u8]>) -> String {
        self.issuer.sign(text(&self.header).as_bytes(), claims.as_ref())
    }

    /// A good token of exactly this many bytes.
    pub fn of_length(&self, length: usize) -> String {
        let (header, claims) = (text(&self.header), text(&self.claims));
        // No number of bytes takes one more character than a multiple of four: another space in the header helps.
        let fitting = (0..3).find_map(|spaces| {
            let header = header.clone() + &" ".repeat(spaces);
            let left = length - SIGNATURE_LENGTH - 2 - base64(&header).len();
            let pad = (left * 3 / 4).checked_sub(claims.len())?;
            (left % 4 != 1).then(|| self.issuer.sign(header.as_bytes(), (claims.clone() + &" ".repeat(pad)).as_bytes()))
        });
        fitting.expect("a length that a token can have")
    }

    /// A good token whose signature has some property that one in a few hundred has by chance.
    pub fn with_signature_where(&self, holds: impl Fn(&[u8]) -> bool) -> String {
        let tokens = (0..).map(|n| self.claims_with("n", &json!(n)));
        tokens.into_iter().find(|token| holds(&bytes(parts(token)[2]))).expect("tokens without end")
    }
}

/// The characters of a signature by a key of 2048 bits.
const SIGNATURE_LENGTH: usize = 342;

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn bytes(segment: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).expect("base64url")
}

/// The three segments of a token.
pub fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<_> = token.split('.').collect();
    parts.try_into().expect("three segments")
}

/// The token with another signature.
pub(super) fn signed_by(token: &str, signature: &[u8]) -> String {
    let [header, payload, _] = parts(token);
    format!("{header}.{payload}.{}", base64(signature))
}

/// Lists or objects within one another.
pub(super) fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("an object") };
    object
}

fn text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).expect("JSON")
}

fn changed(object: &Map<String, Value>, changes: &[(&str, Value)]) -> Map<String, Value> {
    let mut object = object.clone();
    object.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    object
}

fn without(object: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let mut object = object.clone();
    object.remove(name);
    object
}

fn and(object: &Map<String, Value>, members: &str) -> String {
    let text = text(object);
    format!("{},{members}}}", text.strip_suffix('}').expect("an object"))
}
