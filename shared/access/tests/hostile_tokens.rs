//! The verifier rejects the hostile tokens of the corpus, and caches only accepted ones.

#![allow(missing_docs)]

use std::{
    collections::HashSet,
    sync::{Arc, Barrier},
    thread,
};
use testing::TestClock;
use testing::token_corpus;

use access::{
    UserId,
    token::{ACCESS_TOKEN_TYPE, KeySet, TokenError, Verifier, decode_and_verify},
};
use aws_lc_rs::rsa::KeySize;
use chrono::{DateTime, TimeDelta};
use serde_json::json;
use testing::Issuer;

use testing::token_corpus::{Forge, Key, SECOND_KEY};

fn issuer() -> Issuer {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
    Issuer::new("https://auth.example.test", "profile-service", TestClock::new(now))
}

/// A verifier with the keys of the corpus.
fn verifier(issuer: &Issuer) -> Verifier {
    let verifier = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
    verifier.set_keys(keys(issuer));
    verifier
}

fn keys(issuer: &Issuer) -> KeySet {
    let (keys, refused) = KeySet::from_jwks(&token_corpus::jwks(issuer));
    assert_eq!(refused, []);
    keys
}

fn refusal(verifier: &Verifier, token: &str) -> Option<TokenError> {
    verifier.verify(token).err()
}

#[test]
fn every_hostile_token_is_refused_for_its_reason() {
    let issuer = issuer();
    let (verifier, hostile) = (verifier(&issuer), token_corpus::hostile(&issuer));
    let wrong: Vec<_> = hostile
        .iter()
        .map(|hostile| (&hostile.name, refusal(&verifier, &hostile.token), Some(hostile.error)))
        .filter(|(_, found, expected)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "(name, found, expected): {wrong:#?}");
}

#[tokio::test]
async fn no_token_makes_the_verifier_call_anybody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
    let issuer = issuer();
    let (verifier, forge) = (verifier(&issuer), Forge::new(&issuer));
    let headers = ["jku", "x5u", "kid", "jwk", "x5c", "cty"].map(|name| forge.header_with(name, &json!(url)));
    let claims = ["iss", "sub", "jku", "aud"].map(|name| forge.claims_with(name, &json!(url)));
    let mut good = 0;
    for token in headers.iter().chain(&claims) {
        good += usize::from(verifier.authenticate(token).await.is_ok());
    }
    assert_eq!(good, 2, "a URL may be a subject, and a claim that nobody reads");
    let called = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(called, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn every_good_token_gets_in() {
    let issuer = issuer();
    let (verifier, good) = (verifier(&issuer), token_corpus::good(&issuer));
    assert!(good.len() >= 12);
    let wrong: Vec<_> = good.iter().filter_map(|good| Some((good.name, refusal(&verifier, &good.token)?))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_corpus_is_large_distinct_and_covers_every_refusal() {
    let issuer = issuer();
    let hostile = token_corpus::hostile(&issuer);
    let names: HashSet<_> = hostile.iter().map(|hostile| &hostile.name).collect();
    let tokens: HashSet<_> = hostile.iter().map(|hostile| &hostile.token).collect();
    assert_eq!((names.len(), tokens.len()), (hostile.len(), hostile.len()));
    assert!(hostile.iter().filter(|hostile| hostile.travels()).count() >= 150);
    for refusal in [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Header,
        TokenError::Algorithm,
        TokenError::Type,
        TokenError::HeaderParameter,
        TokenError::KeyId,
        TokenError::UnknownKey,
        TokenError::Signature,
        TokenError::Claims,
        TokenError::Issuer,
        TokenError::Audience,
        TokenError::Times,
        TokenError::NotYetValid,
        TokenError::Expired,
        TokenError::Identity,
    ] {
        assert!(hostile.iter().filter(|hostile| hostile.error == refusal).count() >= 5, "{refusal:?}");
    }
}

#[test]
fn a_verifier_without_keys_or_for_another_service_lets_nobody_in() {
    let issuer = issuer();
    let good = Forge::new(&issuer).good();
    let without_keys = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
    assert!(!without_keys.has_keys());
    assert_eq!(refusal(&without_keys, &good), Some(TokenError::UnknownKey));
    for (name, audience, expected) in [
        ("https://other.example.test", "profile-service", TokenError::Issuer),
        ("https://auth.example.test", "other-service", TokenError::Audience),
        ("https://auth.example.test", "", TokenError::Audience),
        ("", "profile-service", TokenError::Issuer),
    ] {
        let verifier = Verifier::new(name, audience, issuer.clock.clock());
        verifier.set_keys(keys(&issuer));
        assert_eq!(refusal(&verifier, &good), Some(expected), "{name:?} {audience:?}");
    }
}

#[test]
fn a_refresh_token_opens_as_one_and_is_no_access_token() {
    let issuer = issuer();
    let forge = Forge::new(&issuer);
    let (access, refresh) = (forge.good(), forge.header_with("typ", &json!("rt+jwt")));
    let keys = keys(&issuer);
    assert_eq!(decode_and_verify(&refresh, "rt+jwt", &keys).expect("claims")["iss"], json!(issuer.name));
    assert_eq!(decode_and_verify(&refresh, ACCESS_TOKEN_TYPE, &keys), Err(TokenError::Type));
    assert_eq!(decode_and_verify(&access, "rt+jwt", &keys), Err(TokenError::Type));
}

#[test]
fn the_claims_and_permissions_are_those_of_the_token() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let mut claims = issuer.claims(UserId::new(&issuer.clock), "alice");
    claims.scope = "notes.read notes.write".to_owned();
    let token = verifier.verify(&issuer.token(&claims)).expect("a good token");
    assert_eq!(token.claims, claims);
    for (permission, expected) in [
        ("notes.read", true),
        ("notes.write", true),
        ("notes", false),
        ("notes.read notes.write", false),
        ("NOTES.READ", false),
        ("", false),
    ] {
        assert_eq!(token.may(permission), expected, "{permission:?}");
    }
}

#[test]
fn each_key_verifies_its_own_tokens() {
    let issuer = issuer();
    let forge = Forge::new(&issuer);
    let verifier = verifier(&issuer);
    let payload = token_corpus::base64(serde_json::to_vec(&forge.claims).expect("JSON"));
    let second = SECOND_KEY.sign(&format!("{}.{payload}", token_corpus::base64(SECOND_KEY.header())));
    assert!(verifier.verify(&second).is_ok());
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    assert_eq!(refusal(&verifier, &second), Some(TokenError::UnknownKey));
}

#[test]
fn a_refused_token_stays_refused_with_good_ones_in_the_cache() {
    let issuer = issuer();
    let (verifier, hostile) = (verifier(&issuer), token_corpus::hostile(&issuer));
    let good = Forge::new(&issuer).good();
    for hostile in &hostile {
        let before = refusal(&verifier, &hostile.token);
        assert!(verifier.verify(&good).is_ok(), "after {}", hostile.name);
        assert_eq!(refusal(&verifier, &hostile.token), before, "{}", hostile.name);
    }
}

#[test]
fn a_refusal_is_not_remembered() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let now = issuer.clock.now().timestamp();
    let early = Forge::new(&issuer).claims_with("nbf", &json!(now + 40));
    assert_eq!(refusal(&verifier, &early), Some(TokenError::NotYetValid));
    verifier.set_keys(KeySet::default());
    assert_eq!(refusal(&verifier, &early), Some(TokenError::UnknownKey));
    verifier.set_keys(keys(&issuer));
    assert_eq!(refusal(&verifier, &early), Some(TokenError::NotYetValid));
    issuer.clock.advance(TimeDelta::seconds(10));
    assert!(verifier.verify(&early).is_ok());
}

#[test]
fn a_cached_token_expires_to_the_microsecond() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = Forge::new(&issuer).good();
    assert!(verifier.verify(&good).is_ok());
    issuer.clock.advance(TimeDelta::seconds(630) - TimeDelta::microseconds(1));
    assert!(verifier.verify(&good).is_ok());
    issuer.clock.advance(TimeDelta::microseconds(1));
    for _ in 0..3 {
        assert_eq!(refusal(&verifier, &good), Some(TokenError::Expired));
    }
    issuer.clock.advance(TimeDelta::days(365));
    assert_eq!(refusal(&verifier, &good), Some(TokenError::Expired));
}

#[test]
fn a_cached_token_is_refused_once_its_key_is_gone() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = Forge::new(&issuer).good();
    let only = |jwks: &[_]| KeySet::from_jwks(jwks).0;
    assert!(verifier.verify(&good).is_ok());
    // A key less, but not that of the token.
    verifier.set_keys(only(&issuer.jwks()));
    assert!(verifier.verify(&good).is_ok());
    verifier.set_keys(only(&[SECOND_KEY.jwk()]));
    assert_eq!(refusal(&verifier, &good), Some(TokenError::UnknownKey));
    // It comes back with its key, and goes with it.
    verifier.set_keys(keys(&issuer));
    assert!(verifier.verify(&good).is_ok());
    verifier.set_keys(KeySet::default());
    assert_eq!(refusal(&verifier, &good), Some(TokenError::UnknownKey));
}

#[test]
fn a_cached_token_is_refused_once_its_key_id_stands_for_another_key() {
    let issuer = issuer();
    let verifier = verifier(&issuer);
    let good = Forge::new(&issuer).good();
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    assert!(verifier.verify(&good).is_ok());
    verifier.set_keys(KeySet::from_jwks(&[Key::generate(Issuer::KID, KeySize::Rsa2048).jwk()]).0);
    assert_eq!(refusal(&verifier, &good), Some(TokenError::Signature));
}

#[test]
fn a_token_that_is_verified_while_its_key_goes_does_not_outlive_it() {
    let issuer = issuer();
    let verifier = Arc::new(verifier(&issuer));
    let forge = Forge::new(&issuer);
    for round in 0..500 {
        verifier.set_keys(keys(&issuer));
        let token = forge.claims_with("round", &json!(round));
        let together = Arc::new(Barrier::new(2));
        let verifying = thread::spawn({
            let (verifier, together, token) = (Arc::clone(&verifier), Arc::clone(&together), token.clone());
            move || {
                together.wait();
                let _ = verifier.verify(&token);
            }
        });
        let without = KeySet::from_jwks(&[SECOND_KEY.jwk()]).0;
        together.wait();
        verifier.set_keys(without);
        verifying.join().expect("a verification that ends");
        assert_eq!(refusal(&verifier, &token), Some(TokenError::UnknownKey), "in round {round}");
    }
}
