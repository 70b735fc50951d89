//! A hundred thousand hostile tokens leave the verifier as large as it was. A process of its own: others would be counted too.

#![allow(missing_docs)]

use access::{
    UserId,
    token::{KeySet, Verifier},
};
use chrono::DateTime;
use testing::Issuer;
use testing::TestClock;
use testing::token_corpus;

const TOKENS: usize = 100_000;
/// The memory that the allocator may use itself, in pages of 4 KiB: 4 MiB.
const SLACK: u64 = 1024;

/// The resident memory of this process, in pages.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages")
}

#[test]
fn a_hundred_thousand_hostile_tokens_leave_the_memory_as_it_was() {
    let now = DateTime::from_timestamp(1_790_000_000, 0).expect("a time");
    let issuer = Issuer::new("https://auth.example.test", "profile-service", TestClock::new(now));
    let verifier = Verifier::new(&issuer.name, &issuer.audience[0], issuer.clock.clock());
    verifier.set_keys(KeySet::from_jwks(&token_corpus::jwks(&issuer)).0);
    let good = issuer.token(&issuer.claims(UserId::new(&issuer.clock), "alice"));
    let hostile = token_corpus::hostile(&issuer);
    let refuse = |count: usize| {
        for (index, hostile) in hostile.iter().cycle().take(count).enumerate() {
            // As it is, and in a form that was never seen before.
            let token = if index % 2 == 0 { hostile.token.clone() } else { format!("{}{index}", hostile.token) };
            assert!(verifier.verify(&token).is_err(), "{}", hostile.name);
        }
    };
    refuse(TOKENS / 10);
    let before = resident();
    refuse(TOKENS);
    let after = resident();
    assert!(after <= before + SLACK, "{before} pages before, {after} after");
    assert!(verifier.verify(&good).is_ok());
}
