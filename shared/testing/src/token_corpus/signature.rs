//! The signature (RFC 7518 section 3.3, RFC 8017 section 8.2.2).

use crate::Issuer;
use access::token::TokenError;
use aws_lc_rs::{
    digest, hmac,
    rsa::KeySize,
    signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA512},
};
use serde_json::json;

use super::{
    Forge, Hostile, Key, SECOND_KEY,
    forge::{base64, bytes, parts, signed_by},
};

pub(super) fn hostile(forge: &Forge<'_>) -> Vec<Hostile> {
    let all = [damaged(forge), foreign(forge), other_schemes(forge), other_messages(forge), before_the_claims(forge)];
    all.into_iter()
        .flatten()
        .map(|(name, token)| Hostile::new(format!("signature: {name}"), token, TokenError::Signature))
        .collect()
}

type Named = Vec<(String, String)>;

fn named<const N: usize>(all: [(&str, String); N]) -> Named {
    all.into_iter().map(|(name, token)| (name.to_owned(), token)).collect()
}

fn damaged(forge: &Forge<'_>) -> Named {
    let good = forge.good();
    let signature = bytes(parts(&good)[2]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut signature = signature.clone();
        change(&mut signature);
        signed_by(&good, &signature)
    };
    let mut all = named([
        ("a byte missing at the end", with(&|s| s.truncate(255))),
        ("a byte missing at the start", with(&|s| *s = s.split_off(1))),
        ("half", with(&|s| s.truncate(128))),
        ("a zero byte", with(&|s| *s = vec![0])),
        ("a zero byte after", with(&|s| s.push(0))),
        ("a zero byte before", with(&|s| s.insert(0, 0))),
        ("twice", with(&|s| s.extend_from_within(..))),
        ("reversed", with(&|s| s.reverse())),
        ("inverted", with(&|s| s.iter_mut().for_each(|byte| *byte = !*byte))),
        ("all zero", with(&|s| s.fill(0))),
        ("one", with(&|s| *s = [vec![0; 255], vec![1]].concat())),
        ("all ones", with(&|s| s.fill(0xff))),
        ("of 4096 zero bytes", with(&|s| *s = vec![0; 4096])),
        ("the modulus", with(&|s| *s = bytes(&forge.issuer.jwks()[0].n))),
        ("the modulus added", with(&|s| *s = sum(s, &bytes(&forge.issuer.jwks()[0].n)))),
    ]);
    for (byte, bit) in [(0, 0x80), (0, 0x01), (1, 0x10), (127, 0x01), (128, 0x80), (200, 0x40), (254, 0x02), (255, 0x01)] {
        all.push((format!("the bits {bit:#04x} of byte {byte} flipped"), with(&|s| s[byte] ^= bit)));
    }
    let zero = forge.with_signature_where(|signature| signature[0] == 0);
    all.push(("the zero byte before taken away".to_owned(), signed_by(&zero, &bytes(parts(&zero)[2])[1..])));
    all
}

/// The sum of two numbers of the same length, most significant byte first.
fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let mut sum = Vec::new();
    for (a, b) in a.iter().zip(b).rev() {
        let [high, low] = (u16::from(*a) + u16::from(*b) + carry).to_be_bytes();
        sum.push(low);
        carry = u16::from(high);
    }
    if carry > 0 {
        sum.push(1);
    }
    sum.reverse();
    sum
}

fn foreign(forge: &Forge<'_>) -> Named {
    let good = forge.good();
    let [header, payload, _] = parts(&good);
    let message = format!("{header}.{payload}");
    let stranger = Key::generate(Issuer::KID, KeySize::Rsa2048);
    let longer = Key::generate(Issuer::KID, KeySize::Rsa3072);
    named([
        ("of a key that is not published", stranger.sign(&message)),
        ("of a longer key", longer.sign(&message)),
        ("of another key that is published", SECOND_KEY.sign(&message)),
        ("of the first key under the second key's id", forge.header_with("kid", &json!(SECOND_KEY.kid))),
    ])
}

fn other_schemes(forge: &Forge<'_>) -> Named {
    let payload = base64(serde_json::to_vec(&forge.claims).expect("JSON"));
    let message = format!("{}.{payload}", base64(SECOND_KEY.header()));
    let with = |signature: &[u8]| format!("{message}.{}", base64(signature));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &bytes(&SECOND_KEY.jwk().n));
    named([
        ("RSASSA-PKCS1-v1_5 with SHA-384", with(&SECOND_KEY.signature(&RSA_PKCS1_SHA384, &message))),
        ("RSASSA-PKCS1-v1_5 with SHA-512", with(&SECOND_KEY.signature(&RSA_PKCS1_SHA512, &message))),
        ("RSASSA-PSS with SHA-256", with(&SECOND_KEY.signature(&RSA_PSS_SHA256, &message))),
        ("RSASSA-PSS with SHA-512", with(&SECOND_KEY.signature(&RSA_PSS_SHA512, &message))),
        ("HMAC with the modulus as the secret", with(hmac::sign(&secret, message.as_bytes()).as_ref())),
        ("only the digest", with(digest::digest(&digest::SHA256, message.as_bytes()).as_ref())),
        ("in hexadecimal", with(hexadecimal(&SECOND_KEY.signature(&RSA_PKCS1_SHA256, &message)).as_bytes())),
        ("in base64url twice", with(base64(SECOND_KEY.signature(&RSA_PKCS1_SHA256, &message)).as_bytes())),
    ])
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn other_messages(forge: &Forge<'_>) -> Named {
    let good = forge.good();
    let other = forge.claims_with("sub", &json!("somebody-else"));
    let spaced = forge.header_of(serde_json::to_string_pretty(&forge.header).expect("JSON"));
    let ([header, payload, signature], [_, other_payload, other_signature]) = (parts(&good), parts(&other));
    let of = |message: &str| base64(SECOND_KEY.signature(&RSA_PKCS1_SHA256, message));
    let second = base64(SECOND_KEY.header());
    named([
        ("of another payload", format!("{header}.{payload}.{other_signature}")),
        ("the payload exchanged", format!("{header}.{other_payload}.{signature}")),
        ("the header written with spaces", format!("{}.{payload}.{signature}", parts(&spaced)[0])),
        ("the payload taken away (RFC 7797)", format!("{header}..{signature}")),
        ("the segments exchanged", format!("{header}.{signature}.{payload}")),
        ("of the payload alone", format!("{second}.{payload}.{}", of(payload))),
        ("of the header alone", format!("{second}.{payload}.{}", of(&second))),
        (
            "of the payload that is not encoded (RFC 7797)",
            format!("{second}.{payload}.{}", of(&format!("{second}.{}", String::from_utf8_lossy(&bytes(payload))))),
        ),
        ("of header and payload without a dot", format!("{second}.{payload}.{}", of(&format!("{second}{payload}")))),
        ("of header and payload with a dot after", format!("{second}.{payload}.{}", of(&format!("{second}.{payload}.")))),
        ("of nothing", format!("{second}.{payload}.{}", of(""))),
    ])
}

/// The claims are not evaluated before the signature is verified.
fn before_the_claims(forge: &Forge<'_>) -> Named {
    let unsigned = |token: &str| signed_by(token, &[7; 256]);
    named([
        ("wrong, and a payload that is not JSON", unsigned(&forge.claims_of("{"))),
        ("wrong, and an empty payload", unsigned(&forge.claims_of(""))),
        ("wrong, and another issuer", unsigned(&forge.claims_with("iss", &json!("https://attacker.test")))),
        ("wrong, and expired", unsigned(&forge.token(&[], &[("iat", json!(0)), ("exp", json!(600))]))),
    ])
}
