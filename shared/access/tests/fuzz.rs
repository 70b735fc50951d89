//! Arbitrary input to what reads tokens: access tokens, page tokens, and the JSON within.

#![allow(missing_docs)]

use std::{collections::HashSet, fmt::Write, sync::LazyLock};
use testing::TestClock;
use testing::token_corpus;

use access::token::{KeySet, TokenError, Verifier};
use chrono::DateTime;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};
use testing::Issuer;

use testing::token_corpus::{Forge, base64};

/// One case takes microseconds, but for those that sign.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
    Issuer::new("https://auth.example.test", "profile-service", TestClock::new(now))
});

/// It has verified the good token, so that its cache is not empty.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let verifier = Verifier::new(&ISSUER.name, &ISSUER.audience[0], ISSUER.clock.clock());
    verifier.set_keys(KeySet::from_jwks(&ISSUER.jwks()).0);
    verifier.verify(&GOOD).expect("a good token");
    verifier
});

static GOOD: LazyLock<String> = LazyLock::new(|| Forge::new(&ISSUER).good());

fn refusal(token: &str) -> Option<TokenError> {
    VERIFIER.verify(token).err()
}

mod tokens {
    use super::*;

    /// A character that might be mistaken for another, or any.
    fn character() -> impl Strategy<Value = char> {
        prop_oneof!["[A-Za-z0-9_.=+/ -]".prop_map(|text| text.chars().next().unwrap_or('A')), any::<char>()]
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
            "RS256|none|at\\+jwt|the-key-of-the-tests|profile-service|https://auth.example.test".prop_map(Value::from),
            (1_789_000_000_i64..1_791_000_000).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec(("[a-z]{0,3}", inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(cases(2000))]

        #[test]
        fn arbitrary_text_is_refused(token in any::<String>()) {
            prop_assert!(refusal(&token).is_some());
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in vec(any::<u8>(), 0..600)) {
            prop_assert!(refusal(&String::from_utf8_lossy(&bytes)).is_some());
            prop_assert!(refusal(&base64(&bytes)).is_some());
        }

        #[test]
        fn what_looks_like_a_token_is_refused(token in r"[A-Za-z0-9_-]{0,80}(\.[A-Za-z0-9_=-]{0,400}){0,5}") {
            prop_assert!(matches!(refusal(&token), Some(TokenError::Malformed | TokenError::Header)));
        }

        #[test]
        fn three_segments_of_arbitrary_bytes_are_refused(segments in [vec(any::<u8>(), 0..99), vec(any::<u8>(), 0..99), vec(any::<u8>(), 0..300)]) {
            let token = segments.map(base64).join(".");
            prop_assert!(matches!(refusal(&token), Some(TokenError::Malformed | TokenError::Header)), "{:?}", refusal(&token));
        }

        #[test]
        fn the_good_header_with_an_arbitrary_rest_is_refused(payload in vec(any::<u8>(), 0..300), signature in vec(any::<u8>(), 1..600)) {
            let token = format!("{}.{}.{}", GOOD.split('.').next().unwrap_or_default(), base64(payload), base64(signature));
            prop_assert_eq!(refusal(&token), Some(TokenError::Signature));
        }

        #[test]
        fn another_character_is_refused(at in any::<Index>(), character in character()) {
            let mut characters: Vec<_> = GOOD.chars().collect();
            let at = at.index(characters.len());
            prop_assume!(characters[at] != character);
            characters[at] = character;
            prop_assert!(refusal(&String::from_iter(characters)).is_some());
        }

        #[test]
        fn a_character_more_is_refused(at in any::<Index>(), character in character()) {
            let mut token = GOOD.clone();
            token.insert(at.index(GOOD.len() + 1), character);
            prop_assert!(refusal(&token).is_some());
        }

        #[test]
        fn a_piece_taken_away_is_refused(from in any::<Index>(), length in 1..400_usize) {
            let from = from.index(GOOD.len());
            let mut token = GOOD.clone();
            token.drain(from..GOOD.len().min(from + length));
            prop_assert!(refusal(&token).is_some());
        }

        #[test]
        fn two_characters_exchanged_are_refused(one in any::<Index>(), other in any::<Index>()) {
            let mut characters: Vec<_> = GOOD.chars().collect();
            let (one, other) = (one.index(characters.len()), other.index(characters.len()));
            prop_assume!(characters[one] != characters[other]);
            characters.swap(one, other);
            prop_assert!(refusal(&String::from_iter(characters)).is_some());
        }

        #[test]
        fn a_flipped_bit_of_what_is_encoded_is_refused(segment in 0..3_usize, bit in any::<Index>()) {
            let mut segments = token_corpus::parts(&GOOD).map(token_corpus::bytes);
            let bit = bit.index(segments[segment].len() * 8);
            segments[segment][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(refusal(&segments.map(base64).join(".")).is_some());
        }
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_signed_payload_of_arbitrary_bytes_is_refused(payload in vec(any::<u8>(), 0..300)) {
            prop_assert!(matches!(refusal(&Forge::new(&ISSUER).claims_of(payload)), Some(TokenError::Claims | TokenError::Issuer)));
        }

        #[test]
        fn a_signed_header_of_arbitrary_bytes_is_refused(header in vec(any::<u8>(), 0..300)) {
            prop_assert!(matches!(refusal(&Forge::new(&ISSUER).header_of(header)), Some(TokenError::Header | TokenError::Algorithm)));
        }

        /// Every accepted token has all required claims, with the required types.
        #[test]
        fn a_signed_token_that_gets_in_is_right(
            parameter in prop_oneof!["alg|typ|kid|crit|b64|zip|enc|cty|jwk|jku|x5u|x5c", ".{0,8}"],
            parameter_value in json_value(),
            claim in prop_oneof!["iss|aud|exp|iat|nbf|sub|jti|client_id|scope|groups|sid|ver|actor", ".{0,8}"],
            claim_value in json_value(),
            changes in 1..4_u8,
        ) {
            let forge = Forge::new(&ISSUER);
            let header = (parameter.as_str(), parameter_value.clone());
            let payload = (claim.as_str(), claim_value.clone());
            let token = forge.token(if changes & 1 == 0 { &[] } else { std::slice::from_ref(&header) }, if changes & 2 == 0 { &[] } else { std::slice::from_ref(&payload) });
            if let Ok(verified) = VERIFIER.verify(&token) {
                let (claims, now) = (&verified.claims, forge.now);
                prop_assert_eq!(&claims.iss, &ISSUER.name);
                prop_assert!(claims.aud.contains(&ISSUER.audience[0]));
                prop_assert!(claims.iat <= now + 30 && now - 30 <= claims.exp && claims.exp - claims.iat <= 86_400);
                for identity in [&claims.sub, &claims.jti, &claims.client_id] {
                    prop_assert!((1..=255).contains(&identity.len()) && !identity.chars().any(char::is_control));
                }
                if changes & 1 != 0 {
                    let is_right = match parameter.as_str() {
                        "alg" => parameter_value == json!("RS256"),
                        "typ" => parameter_value == json!("at+jwt"),
                        "kid" => parameter_value == json!(Issuer::KID),
                        name => !["crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"].contains(&name),
                    };
                    prop_assert!(is_right, "{parameter}: {parameter_value}");
                }
            }
        }
    }
}

mod duplicates {
    use super::*;

    /// JSON that may have members twice.
    #[derive(Debug, Clone)]
    enum Node {
        Leaf(&'static str),
        Array(Vec<Node>),
        Object(Vec<(Name, Node)>),
    }

    /// The name of a member, and which of its characters are written as escapes.
    #[derive(Debug, Clone)]
    struct Name {
        name: String,
        escapes: u8,
    }

    impl Node {
        fn has_duplicates(&self) -> bool {
            match self {
                Self::Leaf(_) => false,
                Self::Array(items) => items.iter().any(Self::has_duplicates),
                Self::Object(members) => {
                    let names: HashSet<_> = members.iter().map(|(name, _)| &name.name).collect();
                    names.len() < members.len() || members.iter().any(|(_, value)| value.has_duplicates())
                }
            }
        }

        fn write(&self, json: &mut String) {
            match self {
                Self::Leaf(text) => json.push_str(text),
                Self::Array(items) => {
                    for (n, item) in items.iter().enumerate() {
                        json.push(if n == 0 { '[' } else { ',' });
                        item.write(json);
                    }
                    json.push_str(if items.is_empty() { "[]" } else { "]" });
                }
                Self::Object(members) => {
                    for (n, (name, value)) in members.iter().enumerate() {
                        json.push(if n == 0 { '{' } else { ',' });
                        name.write(json);
                        json.push(':');
                        value.write(json);
                    }
                    json.push_str(if members.is_empty() { "{}" } else { "}" });
                }
            }
        }
    }

    impl Name {
        fn write(&self, json: &mut String) {
            json.push('"');
            for (n, character) in self.name.chars().enumerate() {
                if self.escapes & (1 << n) == 0 {
                    json.push(character);
                } else {
                    let _ = write!(json, "\\u{:04x}", u32::from(character));
                }
            }
            json.push('"');
        }
    }

    fn name() -> impl Strategy<Value = Name> {
        // Few names, so that some come twice: among them one in two normalization forms, which are two names.
        ("[abé]{0,2}|e\u{301}", any::<u8>()).prop_map(|(name, escapes)| Name { name, escapes })
    }

    fn object() -> impl Strategy<Value = Node> {
        let leaf =
            proptest::sample::select(vec!["null", "true", "0", "-1.5e3", "\"\"", "\"a\"", "[]", "{}"]).prop_map(Node::Leaf);
        let inner = leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![vec(inner.clone(), 0..4).prop_map(Node::Array), vec((name(), inner), 0..3).prop_map(Node::Object)]
        });
        vec((name(), inner), 0..4).prop_map(Node::Object)
    }

    proptest! {
        #![proptest_config(cases(4000))]

        #[test]
        fn a_header_is_refused_where_a_member_stands_twice(header in object()) {
            let mut json = String::new();
            header.write(&mut json);
            // None of the names is `alg`: what has no duplicate is refused for that.
            let expected = if header.has_duplicates() { TokenError::Header } else { TokenError::Algorithm };
            prop_assert_eq!(refusal(&format!("{}.e30.AAAA", base64(&json))), Some(expected), "{}", json);
        }
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn claims_are_refused_where_a_member_stands_twice(extra in object()) {
            let mut json = String::new();
            extra.write(&mut json);
            let token = Forge::new(&ISSUER).claims_and(&format!("\"extra\":{json}"));
            let expected = extra.has_duplicates().then_some(TokenError::Claims);
            prop_assert_eq!(refusal(&token), expected, "{}", json);
        }
    }
}
