//! Verifies valid and hostile tokens of a Django project, and shows that a legacy key does not change the verification of the auth
//! service's own tokens.

#![allow(missing_docs)]

use access::token::{KeySet, TokenError, Verifier};
use aws_lc_rs::{rsa::KeySize, signature};
use chrono::{DateTime, TimeDelta};
use django::tokens::{TokenArgs, TokenKeyError, TokenKeys, TokenKind};
use serde_json::{Map, Value, json};
use testing::Issuer;
use testing::TestClock;
use testing::token_corpus;

use testing::token_corpus::{Key, base64};

struct Project {
    issuer: Issuer,
    key: Key,
}

impl Project {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
        let issuer = Issuer::new("https://auth.example.test", "profile-service", TestClock::new(now));
        Self { issuer, key: Key::generate("no-kid", KeySize::Rsa2048) }
    }

    fn keys(&self) -> TokenKeys {
        let mut keys = TokenKeys::default();
        keys.add("shop", &self.key.pem()).expect("a public key");
        keys
    }

    fn verifier(&self, legacy: TokenKeys) -> Verifier {
        let verifier = Verifier::new(&self.issuer.name, &self.issuer.audience[0], self.issuer.clock.clock());
        verifier.set_keys(KeySet::from_jwks(&token_corpus::jwks(&self.issuer)).0);
        verifier.with_source(legacy)
    }

    /// Returns the claims that simplejwt gives an access token.
    fn claims(&self) -> Map<String, Value> {
        let now = self.issuer.clock.now().timestamp();
        let claims = json!({ "token_type": "access", "exp": now + 300, "iat": now, "jti": "5c9f0e", "user_id": "7" });
        claims.as_object().expect("an object").clone()
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        self.key.sign(&format!("{}.{}", base64(header), base64(claims)))
    }

    fn with_header(&self, header: &Value) -> String {
        self.sign(&header.to_string(), &Value::Object(self.claims()).to_string())
    }

    /// Returns a token with these changes of the claims. The value null removes a claim.
    fn with(&self, changes: &Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().expect("an object") {
            if value.is_null() {
                claims.remove(name)
            } else {
                claims.insert(name.clone(), value.clone())
            };
        }
        self.sign(HEADER, &Value::Object(claims).to_string())
    }

    fn good(&self) -> String {
        self.with(&json!({}))
    }
}

const HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

#[test]
fn a_token_of_django_authenticates_a_user_without_permissions_until_it_expires() {
    let project = Project::new();
    let verifier = project.verifier(project.keys());
    for (user_id, key) in
        [(json!("7"), "7"), (json!(7), "7"), (json!("3F2B8C1E0C634D579D3E5C4F6A7B8C9D"), "3f2b8c1e-0c63-4d57-9d3e-5c4f6a7b8c9d")]
    {
        let token = project.with(&json!({ "user_id": user_id, "scope": "auth.add_user", "sub": "root", "groups": ["staff"] }));
        let token = verifier.verify(&token).expect("a good token");
        assert_eq!(token.claims.sub, django::user_id("shop", key).to_string());
        assert_eq!((token.claims.scope.as_str(), token.claims.groups.len(), token.claims.sid), ("", 0, None));
        assert_eq!(token.claims.preferred_username, None);
        assert!(!token.may("auth.add_user") && !token.may(""));
    }
    let good = project.good();
    assert!(verifier.verify(&good).is_ok());
    project.issuer.clock.advance(TimeDelta::seconds(330) - TimeDelta::microseconds(1));
    assert!(verifier.verify(&good).is_ok());
    project.issuer.clock.advance(TimeDelta::microseconds(1));
    assert_eq!(verifier.verify(&good).err(), Some(TokenError::Expired));
}

#[test]
fn without_its_key_a_token_of_django_is_rejected() {
    let project = Project::new();
    assert_eq!(project.verifier(TokenKeys::default()).verify(&project.good()).err(), Some(TokenError::Type));
    let mut another = TokenKeys::default();
    another.add("shop", &Key::generate("another", KeySize::Rsa2048).pem()).expect("a public key");
    assert_eq!(project.verifier(another).verify(&project.good()).err(), Some(TokenError::Signature));
}

#[test]
fn a_legacy_key_changes_nothing_for_our_own_tokens() {
    let project = Project::new();
    let (with, without) = (project.verifier(project.keys()), project.verifier(TokenKeys::default()));
    let hostile = token_corpus::hostile(&project.issuer);
    assert!(hostile.len() > 500);
    let mut changed = 0;
    for hostile in hostile {
        let (found, expected) = (with.verify(&hostile.token).err(), without.verify(&hostile.token).err());
        assert!(found.is_some(), "{}", hostile.name);
        if found != expected {
            // A token without a `kid` and with the `typ` of simplejwt is verified as a token of Django, and rejected.
            assert_eq!(expected, Some(TokenError::Type), "{}", hostile.name);
            changed += 1;
        }
    }
    assert!(changed < 20, "{changed}");
    for good in token_corpus::good(&project.issuer) {
        assert!(with.verify(&good.token).is_ok(), "{}", good.name);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one table of cases")]
fn each_hostile_token_of_django_is_rejected_for_its_reason() {
    let project = Project::new();
    let verifier = project.verifier(project.keys());
    let now = project.issuer.clock.now().timestamp();
    let good = project.good();
    let (message, mark) = good.rsplit_once('.').expect("a token");
    let pss = base64(project.key.signature(&signature::RSA_PSS_SHA256, message));
    let sha512 = base64(project.key.signature(&signature::RSA_PKCS1_SHA512, message));
    let ours = project.issuer.sign(HEADER.as_bytes(), Value::Object(project.claims()).to_string().as_bytes());
    let claims = Value::Object(project.claims()).to_string();
    let twice = format!(r#"{},"user_id":"1"}}"#, &claims[..claims.len() - 1]);
    let mut hostile = vec![
        ("another key's", ours, TokenError::Signature),
        ("PSS", format!("{message}.{pss}"), TokenError::Signature),
        ("SHA-512", format!("{message}.{sha512}"), TokenError::Signature),
        ("no signature", format!("{message}."), TokenError::Malformed),
        ("a short signature", format!("{message}.{}", &mark[..mark.len() - 2]), TokenError::Signature),
        ("four segments", format!("{good}.{mark}"), TokenError::Malformed),
        ("padding", format!("{good}=="), TokenError::Malformed),
        ("a member twice", project.sign(HEADER, &twice), TokenError::Claims),
        ("claims that are a list", project.sign(HEADER, "[]"), TokenError::Claims),
        (
            "a header with a member twice",
            project.sign(r#"{"alg":"none","alg":"RS256","typ":"JWT"}"#, &claims),
            TokenError::Header,
        ),
        ("too long", project.with(&json!({ "more": "x".repeat(9000) })), TokenError::TooLong),
    ];
    for algorithm in ["none", "None", "HS256", "HS384", "RS384", "RS512", "PS256", "ES256", "rs256", ""] {
        hostile.push(("an algorithm", project.with_header(&json!({ "alg": algorithm, "typ": "JWT" })), TokenError::Algorithm));
    }
    for name in ["crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"] {
        let header = json!({ "alg": "RS256", "typ": "JWT", name: "x" });
        hostile.push(("a parameter", project.with_header(&header), TokenError::HeaderParameter));
    }
    // A token with any `kid` is verified as a token of the auth service.
    for kid in [json!(Issuer::KID), json!("shop"), json!(""), json!(null), json!(7)] {
        let (jwt, at) =
            (json!({ "alg": "RS256", "typ": "JWT", "kid": kid }), json!({ "alg": "RS256", "typ": "at+jwt", "kid": kid }));
        hostile.push(("a key id", project.with_header(&jwt), TokenError::Type));
        let expected = match kid.as_str() {
            Some(Issuer::KID) => TokenError::Signature,
            Some(_) => TokenError::UnknownKey,
            None => TokenError::KeyId,
        };
        hostile.push(("a key id and our type", project.with_header(&at), expected));
    }
    hostile.push(("our type", project.with_header(&json!({ "alg": "RS256", "typ": "at+jwt" })), TokenError::KeyId));
    hostile.push(("no type", project.with_header(&json!({ "alg": "RS256" })), TokenError::Type));
    hostile.push((
        "the type of a refresh token",
        project.with_header(&json!({ "alg": "RS256", "typ": "rt+jwt" })),
        TokenError::Type,
    ));
    for kind in [json!(null), json!("refresh"), json!("sliding"), json!("ACCESS"), json!(["access"]), json!("access "), json!(1)]
    {
        hostile.push(("a kind", project.with(&json!({ "token_type": kind })), TokenError::Type));
    }
    for (times, refusal) in [
        (json!({ "exp": null }), TokenError::Times),
        (json!({ "iat": null }), TokenError::Times),
        (json!({ "exp": (now + 300).to_string() }), TokenError::Times),
        (json!({ "exp": now + 86_401 }), TokenError::Times),
        (json!({ "exp": now }), TokenError::Times),
        (json!({ "exp": 1e300 }), TokenError::Times),
        (json!({ "iat": -1 }), TokenError::Times),
        (json!({ "iat": now + 31 }), TokenError::NotYetValid),
        (json!({ "nbf": now + 31 }), TokenError::NotYetValid),
        (json!({ "nbf": "now" }), TokenError::Times),
        (json!({ "exp": now - 30, "iat": now - 60 }), TokenError::Expired),
    ] {
        hostile.push(("times", project.with(&times), refusal));
    }
    for user_id in [
        json!(null),
        json!(""),
        json!(1.5),
        json!(true),
        json!([7]),
        json!({ "id": 7 }),
        json!("7\u{0}"),
        json!("7\n"),
        json!("\u{202e}7"),
        json!("7".repeat(256)),
    ] {
        hostile.push(("a user", project.with(&json!({ "user_id": user_id })), TokenError::Identity));
    }
    for jti in [json!(null), json!(""), json!(7), json!("a\u{7f}"), json!("j".repeat(256))] {
        hostile.push(("a token id", project.with(&json!({ "jti": jti })), TokenError::Identity));
    }
    for issuer in [json!("https://auth.example.test"), json!(""), json!(7)] {
        hostile.push(("an issuer", project.with(&json!({ "iss": issuer })), TokenError::Issuer));
    }
    for audience in [json!("profile-service"), json!([]), json!(""), json!(["shop"])] {
        hostile.push(("an audience", project.with(&json!({ "aud": audience })), TokenError::Audience));
    }
    assert!(hostile.len() >= 70, "{}", hostile.len());
    let found = |token: &str| verifier.verify(token).err();
    let wrong: Vec<_> = hostile
        .iter()
        .map(|(name, token, expected)| (name, found(token), Some(*expected), token))
        .filter(|(_, found, expected, _)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "(name, found, expected): {wrong:#?}");
    assert!(verifier.verify(&good).is_ok(), "after all of them");
}

#[test]
fn a_refresh_token_may_be_valid_for_long_and_is_not_an_access_token() {
    let project = Project::new();
    let (keys, now) = (project.keys(), project.issuer.clock.now());
    let refresh = project.with(&json!({ "token_type": "refresh", "exp": now.timestamp() + 365 * 86_400 }));
    let token = keys.decode_and_verify(&refresh, TokenKind::Refresh, now).expect("a token of Django's").expect("a good one");
    assert_eq!((token.project.as_str(), token.user_key.as_str(), token.jti.as_str()), ("shop", "7", "5c9f0e"));
    assert_eq!(token.expires() - token.issued(), 365 * 86_400);
    assert_eq!(keys.decode_and_verify(&refresh, TokenKind::Access, now), Some(Err(TokenError::Type)));
    assert_eq!(keys.decode_and_verify(&project.good(), TokenKind::Refresh, now), Some(Err(TokenError::Type)));
    assert_eq!(keys.decode_and_verify("a.b.c", TokenKind::Refresh, now), None);
    assert_eq!(TokenKeys::default().decode_and_verify(&refresh, TokenKind::Refresh, now), None);
}

#[test]
fn a_configured_issuer_and_audience_are_required() {
    let project = Project::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), project.key.pem()).expect("a write");
    let arguments = TokenArgs {
        legacy_key: vec![format!("shop={}", file.path().display()).parse().expect("a flag")],
        legacy_issuer: vec!["shop=https://shop.example".parse().expect("a flag")],
        legacy_audience: vec!["shop=api".parse().expect("a flag")],
    };
    let verifier = project.verifier(arguments.read().expect("a key"));
    let iss = "https://shop.example";
    for good in [json!({ "iss": iss, "aud": "api" }), json!({ "iss": iss, "aud": ["other", "api"] })] {
        assert!(verifier.verify(&project.with(&good)).is_ok(), "{good}");
    }
    for (bad, refusal) in [
        (json!({}), TokenError::Issuer),
        (json!({ "iss": iss }), TokenError::Audience),
        (json!({ "iss": "https://shop.example/", "aud": "api" }), TokenError::Issuer),
        (json!({ "iss": iss, "aud": "API" }), TokenError::Audience),
        (json!({ "iss": iss, "aud": [["api"]] }), TokenError::Audience),
    ] {
        assert_eq!(verifier.verify(&project.with(&bad)).err(), Some(refusal), "{bad}");
    }
}

#[test]
fn a_key_of_django_is_an_rsa_public_key_of_one_project() {
    let project = Project::new();
    let (pem, mut keys) = (project.key.pem(), project.keys());
    let another = Key::generate("another", KeySize::Rsa2048).pem();
    assert!(matches!(keys.add("shop", &another), Err(TokenKeyError::Twice(name)) if name == "shop"));
    assert!(matches!(keys.add("shop2", &pem), Err(TokenKeyError::Twice(name)) if name == "shop2"));
    for secret in
        ["django-insecure-k3y", "", &pem[..pem.len() / 2], "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"]
    {
        let refused = keys.add("other", secret).expect_err("no key");
        assert!(refused.to_string().contains("An HS256 secret is not accepted"), "{refused}");
    }
    let private = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----";
    assert!(matches!(keys.add("other", private), Err(TokenKeyError::Private(_))));
    for name in ["b", "c", "d"] {
        keys.add(name, &Key::generate("more", KeySize::Rsa2048).pem()).expect("a key");
    }
    assert!(matches!(keys.add("e", &another), Err(TokenKeyError::TooMany)));
}
