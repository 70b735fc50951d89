//! Creates tokens that are valid except for the part that a test changes.

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

/// A second key that the verifier accepts, in addition to the issuer's key.
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

    /// Returns the public key in PEM (RFC 7468), the format of simplejwt's `VERIFYING_KEY`.
    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().expect("a public key");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
    }

    /// Returns the header of an access token that this key signs.
    pub fn header(&self) -> String {
        json!({ "alg": "RS256", "typ": "at+jwt", "kid": self.kid }).to_string()
    }

    /// Signs a message with any RSA signature scheme.
    pub fn signature(&self, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("a signature");
        signature
    }

    /// Returns a token with `message` as its first two segments, whatever their encoding is.
    pub fn sign(&self, message: &str) -> String {
        format!("{message}.{}", base64(self.signature(&RSA_PKCS1_SHA256, message)))
    }
}

/// Creates tokens of one issuer for one user.
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

    /// Returns a valid token.
    pub fn good(&self) -> String {
        self.token(&[], &[])
    }

    /// Returns a token in which these header parameters and claims replace the valid ones.
    pub fn token(&self, header: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
        self.issuer.sign(text(&changed(&self.header, header)).as_bytes(), text(&changed(&self.claims, claims)).as_bytes())
    }

    /// Returns a token with another value of a header parameter.
    pub fn header_with(&self, name: &str, value: &Value) -> String {
        self.token(&[(name, value.clone())], &[])
    }

    /// Returns a token without this header parameter.
    pub fn header_without(&self, name: &str) -> String {
        self.header_of(text(&without(&self.header, name)))
    }

    /// Returns a token with additional members, given as JSON text, at the end of the header.
    pub fn header_and(&self, members: &str) -> String {
        self.header_of(and(&self.header, members))
    }

    /// Returns a token with any header.
    pub fn header_of(&self, header: impl AsRef<[u8]>) -> String {
        self.issuer.sign(header.as_ref(), text(&self.claims).as_bytes())
    }

    /// Returns a token with another value of a claim.
    pub fn claims_with(&self, name: &str, value: &Value) -> String {
        self.token(&[], &[(name, value.clone())])
    }

    /// Returns a token without this claim.
    pub fn claims_without(&self, name: &str) -> String {
        self.claims_of(text(&without(&self.claims, name)))
    }

    /// Returns a token with additional members, given as JSON text, at the end of the claims.
    pub fn claims_and(&self, members: &str) -> String {
        self.claims_of(and(&self.claims, members))
    }

    /// Returns a token in which the value of a claim is the text `json`, which does not have to be valid JSON.
    pub fn claim_of(&self, name: &str, json: &str) -> String {
        self.claims_of(and(&without(&self.claims, name), &format!("{name:?}:{json}")))
    }

    /// Returns a token with any payload.
    pub fn claims_of(&self, claims: impl AsRef<[u8]>) -> String {
        self.issuer.sign(text(&self.header).as_bytes(), claims.as_ref())
    }

    /// Returns a valid token of exactly `length` bytes.
    pub fn of_length(&self, length: usize) -> String {
        let (header, claims) = (text(&self.header), text(&self.claims));
        // The length of a base64url text is never one more than a multiple of four. Spaces in the header change the remaining
        // length.
        let fitting = (0..3).find_map(|spaces| {
            let header = header.clone() + &" ".repeat(spaces);
            let left = length - SIGNATURE_LENGTH - 2 - base64(&header).len();
            let pad = (left * 3 / 4).checked_sub(claims.len())?;
            (left % 4 != 1).then(|| self.issuer.sign(header.as_bytes(), (claims.clone() + &" ".repeat(pad)).as_bytes()))
        });
        fitting.expect("a length that a token can have")
    }

    /// Returns a valid token for whose signature `holds` returns true. It tries tokens until it finds one, so about one signature
    /// in a few hundred should have the property.
    pub fn with_signature_where(&self, holds: impl Fn(&[u8]) -> bool) -> String {
        let tokens = (0..).map(|n| self.claims_with("n", &json!(n)));
        tokens.into_iter().find(|token| holds(&bytes(parts(token)[2]))).expect("tokens without end")
    }
}

/// The number of base64url characters in a signature with a key of 2048 bits.
const SIGNATURE_LENGTH: usize = 342;

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn bytes(segment: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(segment).expect("base64url")
}

/// Returns the three segments of a token.
pub fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<_> = token.split('.').collect();
    parts.try_into().expect("three segments")
}

/// Returns the token with another signature.
pub(super) fn signed_by(token: &str, signature: &[u8]) -> String {
    let [header, payload, _] = parts(token);
    format!("{header}.{payload}.{}", base64(signature))
}

/// Returns JSON with arrays or objects that are nested `depth` levels deep.
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
