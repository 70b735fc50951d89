//! Which keys of a JWK Set the verifier takes, and how it keeps them fresh.

#![allow(missing_docs)]

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use testing::TestClock;
use testing::token_corpus;

use access::{
    Clock,
    proto::auth::v1::Jwk,
    token::{JwkError, KeySet, TokenError, VerifiedToken, Verifier, follow},
};
use aws_lc_rs::rsa::KeySize;
use chrono::{DateTime, TimeDelta};
use serde_json::json;
use testing::Issuer;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use testing::token_corpus::{Forge, Key, SECOND_KEY, base64};

const INTERVAL: Duration = Duration::from_mins(5);

fn issuer() -> Issuer {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
    Issuer::new("https://auth.example.test", "profile-service", TestClock::new(now))
}

mod ingestion {
    use super::*;

    /// A JWK whose modulus is these bytes.
    fn with_modulus(modulus: impl AsRef<[u8]>) -> Jwk {
        Jwk { n: base64(modulus), ..SECOND_KEY.jwk() }
    }

    /// A modulus of exactly this many bits.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        modulus
    }

    fn refused(jwk: Jwk) -> Vec<JwkError> {
        KeySet::from_jwks(&[jwk]).1
    }

    #[test]
    fn only_rsa_keys_for_rs256_signatures_are_taken() {
        let good = || SECOND_KEY.jwk();
        assert_eq!(refused(good()), []);
        assert_eq!(refused(Jwk { alg: String::new(), r#use: String::new(), ..good() }), []);
        for kty in ["", "EC", "oct", "OKP", "rsa", "Rsa", "RSA ", " RSA", "RSA\0", "RSA-PSS"] {
            assert_eq!(refused(Jwk { kty: kty.to_owned(), ..good() }), [JwkError::Type], "{kty:?}");
        }
        for alg in ["RS384", "RS512", "PS256", "HS256", "ES256", "RSA-OAEP", "none", "rs256", "RS256 ", "RS256\0"] {
            assert_eq!(refused(Jwk { alg: alg.to_owned(), ..good() }), [JwkError::Algorithm], "{alg:?}");
        }
        for r#use in ["enc", "Sig", "SIG", "sig ", "sig,enc", "verify"] {
            assert_eq!(refused(Jwk { r#use: r#use.to_owned(), ..good() }), [JwkError::Use], "{use:?}");
        }
        for e in ["", "AQ", "Aw", "EQ", "AAEAAQ", "AQABAA", "AQAC", "AQAA", "AQAB=", "AQAB ", "aqab", "65537", "AQABAQAB", "AAAA"]
        {
            assert_eq!(refused(Jwk { e: e.to_owned(), ..good() }), [JwkError::Exponent], "{e:?}");
        }
    }

    #[test]
    fn a_modulus_has_2048_to_4096_bits() {
        for (bits, taken) in [
            (8, false),
            (512, false),
            (1024, false),
            (2040, false),
            (2047, false),
            (2048, true),
            (2049, true),
            (2056, true),
            (3072, true),
            (4095, true),
            (4096, true),
            (4097, false),
            (4104, false),
            (8192, false),
            (65_536, false),
        ] {
            let expected: &[_] = if taken { &[] } else { &[JwkError::Modulus] };
            assert_eq!(refused(with_modulus(modulus(bits))), expected, "{bits} bits");
        }
    }

    #[test]
    fn a_modulus_has_no_zero_before_it_and_one_encoding() {
        let modulus = modulus(2048);
        for zeros in [1, 2, 100] {
            assert_eq!(
                refused(with_modulus([vec![0; zeros], modulus.clone()].concat())),
                [JwkError::Modulus],
                "{zeros} zero bytes"
            );
        }
        assert_eq!(refused(with_modulus(vec![0; 256])), [JwkError::Modulus]);
        assert_eq!(refused(with_modulus([])), [JwkError::Modulus]);
        let n = base64(&modulus);
        let (first, rest) = n.split_at(10);
        // The last character stands for two bits of the modulus and four that must be zero.
        let spare = n.strip_suffix('w').expect("two bits").to_owned() + "x";
        for n in [
            format!("{n}=="),
            format!("{n}="),
            format!("{n}\n"),
            format!(" {n}"),
            format!("{first}\n{rest}"),
            n.replace('_', "/"),
            format!("0x{}", "ff".repeat(256)),
            spare,
        ] {
            assert_eq!(refused(Jwk { n: n.clone(), ..SECOND_KEY.jwk() }), [JwkError::Modulus], "{n}");
        }
    }

    #[test]
    fn a_key_id_is_there_and_is_unique() {
        let one = |kid: &str| Jwk { kid: kid.to_owned(), ..SECOND_KEY.jwk() };
        assert_eq!(refused(one("")), [JwkError::Id]);
        let (keys, refused) = KeySet::from_jwks(&[one("a"), one("b"), one("a"), one(""), one("A")]);
        assert_eq!(refused, [JwkError::Id, JwkError::Id, JwkError::Id]);
        assert_eq!(format!("{keys:?}").matches('"').count(), 4, "{keys:?}");
        // Even one that is not taken makes an id ambiguous.
        let (keys, refused) = KeySet::from_jwks(&[one("a"), Jwk { kty: "EC".to_owned(), ..one("a") }]);
        assert_eq!((format!("{keys:?}").as_str(), refused), ("{}", vec![JwkError::Id, JwkError::Type]));
    }

    #[test]
    fn the_good_keys_of_a_bad_set_are_taken() {
        let issuer = issuer();
        let bad = Jwk { kid: "bad".to_owned(), kty: "EC".to_owned(), ..SECOND_KEY.jwk() };
        let (keys, refused) = KeySet::from_jwks(&[[bad].as_slice(), &issuer.jwks()].concat());
        assert_eq!(refused, [JwkError::Type]);
        let verifier = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
        verifier.set_keys(keys);
        assert!(verifier.verify(&Forge::new(&issuer).good()).is_ok());
    }

    #[test]
    fn no_keys_are_no_keys() {
        let (keys, refused) = KeySet::from_jwks(&[]);
        assert_eq!(refused, []);
        let verifier = Verifier::new("https://auth.example.test", "profile-service", Clock::system());
        verifier.set_keys(keys);
        assert!(!verifier.has_keys());
    }

    #[test]
    fn keys_of_every_size_verify() {
        let issuer = issuer();
        let payload = payload(&issuer);
        for size in [KeySize::Rsa2048, KeySize::Rsa3072, KeySize::Rsa4096] {
            let key = Key::generate("a-key", size);
            let verifier = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
            verifier.set_keys(KeySet::from_jwks(&[key.jwk()]).0);
            assert!(verifier.verify(&signed_by(&key, &payload)).is_ok(), "{size:?}");
        }
    }
}

/// The claims of a good token in base64url.
fn payload(issuer: &Issuer) -> String {
    base64(serde_json::to_vec(&Forge::new(issuer).claims).expect("JSON"))
}

/// A token of another key than the issuer's.
fn signed_by(key: &Key, payload: &str) -> String {
    key.sign(&format!("{}.{payload}", base64(key.header())))
}

mod following {
    use super::*;

    /// A verifier whose keys are followed, and the service that publishes them.
    struct Followed {
        issuer: Issuer,
        verifier: Arc<Verifier>,
        published: Arc<Published>,
        following: JoinHandle<Infallible>,
    }

    struct Published {
        keys: watch::Sender<Vec<Jwk>>,
        is_up: AtomicBool,
        /// Whether a fetch is answered at once, or waits until it is.
        answers: watch::Sender<bool>,
        fetches: AtomicUsize,
    }

    impl Published {
        async fn fetch(&self) -> Result<Vec<Jwk>, &'static str> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            let keys = self.keys.borrow().clone();
            let mut answers = self.answers.subscribe();
            let _ = answers.wait_for(|answers| *answers).await;
            if self.is_up.load(Ordering::Relaxed) { Ok(keys) } else { Err("the auth service is down") }
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::Relaxed)
        }
    }

    impl Followed {
        /// Follows the keys of an issuer, and has fetched them once.
        async fn start() -> Self {
            let followed = Self::before_the_first_fetch(true);
            sleep(Duration::from_millis(1)).await;
            assert_eq!(followed.published.fetches(), 1);
            followed
        }

        fn before_the_first_fetch(is_up: bool) -> Self {
            let issuer = issuer();
            let verifier = Arc::new(Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock()));
            let published = Arc::new(Published {
                keys: watch::Sender::new(issuer.jwks()),
                is_up: AtomicBool::new(is_up),
                answers: watch::Sender::new(true),
                fetches: AtomicUsize::new(0),
            });
            let following = tokio::spawn({
                let (verifier, published) = (Arc::clone(&verifier), Arc::clone(&published));
                async move {
                    let fetch = || {
                        let published = Arc::clone(&published);
                        async move { published.fetch().await }
                    };
                    follow(verifier, INTERVAL, fetch).await
                }
            });
            Self { issuer, verifier, published, following }
        }

        fn good(&self) -> String {
            Forge::new(&self.issuer).good()
        }

        async fn refusal(&self, token: &str) -> Option<TokenError> {
            self.verifier.authenticate(token).await.err()
        }

        /// Lets `time` pass, for the clock and for the timers.
        async fn pass(&self, time: Duration) {
            self.issuer.clock.advance(TimeDelta::from_std(time).expect("a time"));
            sleep(time).await;
        }

        /// Sends this many tokens at once, each with a key id of its own that nobody knows.
        fn send_bogus(&self, count: usize) -> JoinSet<Option<TokenError>> {
            let forge = Forge::new(&self.issuer);
            let payload = payload(&self.issuer);
            let mut calls = JoinSet::new();
            for n in 0..count {
                let mut header = forge.header.clone();
                header.insert("kid".to_owned(), json!(format!("bogus-{n}")));
                let token = format!("{}.{payload}.AAAA", base64(serde_json::to_vec(&header).expect("JSON")));
                let verifier = Arc::clone(&self.verifier);
                calls.spawn(async move { verifier.authenticate(&token).await.err() });
            }
            calls
        }

        async fn assert_all_unknown(&self, count: usize) {
            assert_eq!(self.send_bogus(count).join_all().await, vec![Some(TokenError::UnknownKey); count]);
        }
    }

    /// Returns the result of a future that must be ready at once.
    fn at_once(call: impl Future<Output = Result<Arc<VerifiedToken>, TokenError>>) -> Result<Arc<VerifiedToken>, TokenError> {
        match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_keys_are_fetched_at_once_and_then_at_every_interval() {
        let followed = Followed::before_the_first_fetch(true);
        assert!(!followed.verifier.has_keys());
        sleep(Duration::from_millis(1)).await;
        assert!(followed.verifier.has_keys());
        for fetches in 1..10 {
            assert_eq!(followed.published.fetches(), fetches);
            followed.pass(INTERVAL).await;
        }
        assert!(!followed.following.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_unknown_key_ids_cause_one_fetch_in_30_seconds() {
        let followed = Followed::start().await;
        followed.assert_all_unknown(1000).await;
        assert_eq!(followed.published.fetches(), 2);
        // The answer is known now, and nobody waits for another.
        followed.pass(Duration::from_micros(29_999_999)).await;
        let before = Instant::now();
        followed.assert_all_unknown(1000).await;
        assert_eq!((followed.published.fetches(), before.elapsed()), (2, Duration::ZERO));
        followed.pass(Duration::from_micros(1)).await;
        followed.assert_all_unknown(1000).await;
        assert_eq!(followed.published.fetches(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_key_ids_cause_no_more_fetches_while_they_fail() {
        let followed = Followed::start().await;
        followed.published.is_up.store(false, Ordering::Relaxed);
        followed.assert_all_unknown(1000).await;
        assert_eq!(followed.published.fetches(), 2);
        // From now on the timer's own fetches come as well. Without the tokens there would be as many.
        let quiet = Followed::start().await;
        quiet.published.is_up.store(false, Ordering::Relaxed);
        quiet.assert_all_unknown(1).await;
        for _ in 0..29 {
            followed.assert_all_unknown(100).await;
            followed.pass(Duration::from_secs(1)).await;
            quiet.issuer.clock.advance(TimeDelta::seconds(1));
        }
        assert_eq!(followed.published.fetches(), quiet.published.fetches());
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_waits_for_nothing_while_a_fetch_hangs() {
        let followed = Followed::start().await;
        followed.published.answers.send_replace(false);
        let mut bogus = followed.send_bogus(1000);
        tokio::task::yield_now().await;
        // Neither one from the cache nor one that is new.
        let (cached, new) = (followed.good(), Forge::new(&followed.issuer).claims_with("n", &json!(1)));
        for token in [&cached, &cached, &new] {
            assert!(at_once(followed.verifier.authenticate(token)).is_ok());
        }
        assert!(bogus.try_join_next().is_none());
        // Those who wait lose their patience, and are refused.
        while let Some(refusal) = bogus.join_next().await {
            assert_eq!(refusal.expect("a refusal"), Some(TokenError::UnknownKey));
        }
        assert_eq!(followed.published.fetches(), 2);
        assert!(at_once(followed.verifier.authenticate(&cached)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn known_keys_stay_while_none_can_be_fetched() {
        let followed = Followed::start().await;
        followed.published.is_up.store(false, Ordering::Relaxed);
        for _ in 0..20 {
            followed.pass(Duration::from_secs(30)).await;
            // Issued just now, so that the cache does not know it.
            let good = followed.good();
            assert!(at_once(followed.verifier.authenticate(&good)).is_ok());
            followed.assert_all_unknown(10).await;
            assert!(at_once(followed.verifier.authenticate(&followed.good())).is_ok());
        }
        // Back up: what was published meanwhile is taken, with nobody asking.
        followed.published.keys.send_replace(vec![SECOND_KEY.jwk()]);
        followed.published.is_up.store(true, Ordering::Relaxed);
        followed.pass(INTERVAL + Duration::from_millis(1)).await;
        assert_eq!(followed.verifier.verify(&followed.good()).err(), Some(TokenError::UnknownKey));
        assert!(followed.verifier.verify(&signed_by(&SECOND_KEY, &payload(&followed.issuer))).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_retried_more_often_than_the_interval_but_not_without_end() {
        let followed = Followed::before_the_first_fetch(false);
        followed.pass(INTERVAL).await;
        let fetches = followed.published.fetches();
        assert!((3..=15).contains(&fetches), "{fetches}");
        assert!(!followed.verifier.has_keys());
        followed.published.is_up.store(true, Ordering::Relaxed);
        followed.pass(INTERVAL + Duration::from_millis(1)).await;
        assert!(followed.verifier.has_keys());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_a_new_key_waits_for_it() {
        let followed = Followed::start().await;
        followed.published.keys.send_modify(|keys| keys.push(SECOND_KEY.jwk()));
        let token = signed_by(&SECOND_KEY, &payload(&followed.issuer));
        assert_eq!(followed.verifier.verify(&token).err(), Some(TokenError::UnknownKey));
        let before = Instant::now();
        assert_eq!(followed.refusal(&token).await, None);
        assert_eq!((followed.published.fetches(), before.elapsed()), (2, Duration::ZERO));
        // The old key is there still.
        assert!(at_once(followed.verifier.authenticate(&followed.good())).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn all_tokens_of_a_new_key_wait_for_the_same_fetch() {
        let followed = Followed::start().await;
        followed.published.answers.send_replace(false);
        followed.published.keys.send_modify(|keys| keys.push(SECOND_KEY.jwk()));
        let payload = payload(&followed.issuer);
        let token = signed_by(&SECOND_KEY, &payload);
        let mut calls = JoinSet::new();
        for n in 0..1000 {
            let (verifier, token) = (Arc::clone(&followed.verifier), token.clone());
            calls.spawn(async move {
                sleep(Duration::from_micros(n)).await;
                verifier.authenticate(&token).await.err()
            });
        }
        let bogus = followed.send_bogus(1000);
        sleep(Duration::from_secs(1)).await;
        followed.published.answers.send_replace(true);
        assert_eq!(calls.join_all().await, vec![None; 1000]);
        assert_eq!(bogus.join_all().await, vec![Some(TokenError::UnknownKey); 1000]);
        assert_eq!(followed.published.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_began_before_the_question_is_not_its_answer() {
        let followed = Followed::before_the_first_fetch(true);
        followed.published.answers.send_replace(false);
        sleep(Duration::from_millis(1)).await;
        // The first fetch is under way without the new key, and the next one finds it.
        followed.published.keys.send_modify(|keys| keys.push(SECOND_KEY.jwk()));
        let token = signed_by(&SECOND_KEY, &payload(&followed.issuer));
        let waiting = tokio::spawn({
            let verifier = Arc::clone(&followed.verifier);
            async move { verifier.authenticate(&token).await.err() }
        });
        sleep(Duration::from_millis(1)).await;
        assert_eq!(followed.published.fetches(), 1);
        followed.published.answers.send_replace(true);
        assert_eq!(waiting.await.expect("an answer"), None);
        assert_eq!(followed.published.fetches(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_withdrawn_key_takes_its_cached_tokens_with_it() {
        let followed = Followed::start().await;
        let good = followed.good();
        assert_eq!(followed.refusal(&good).await, None);
        followed.published.keys.send_replace(vec![SECOND_KEY.jwk()]);
        followed.pass(INTERVAL).await;
        assert_eq!(followed.refusal(&good).await, Some(TokenError::UnknownKey));
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_unknown_key_id_asks_for_keys() {
        let followed = Followed::start().await;
        let corpus = token_corpus::hostile(&followed.issuer);
        // The corpus's second key is not published here: its tokens ask, too, and are left out.
        let mut found: HashMap<_, usize> = HashMap::new();
        for hostile in
            corpus.iter().filter(|hostile| followed.verifier.verify(&hostile.token).err() != Some(TokenError::UnknownKey))
        {
            let refusal = at_once(followed.verifier.authenticate(&hostile.token)).err();
            *found.entry(format!("{refusal:?}")).or_default() += 1;
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(followed.published.fetches(), 1, "{found:?}");
        assert!(found.len() >= 15, "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_verifier_that_nobody_follows_refuses_an_unknown_key() {
        let issuer = issuer();
        let verifier = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
        assert_eq!(verifier.authenticate(&Forge::new(&issuer).good()).await.err(), Some(TokenError::UnknownKey));
    }
}
