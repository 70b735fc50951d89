//! Project Wycheproof's vectors of RSASSA-PKCS1-v1_5 with SHA-256, through the call that the verifier makes.

#![allow(missing_docs)]

use access::token::PublicKey;
use wycheproof::{
    TestResult,
    rsa_pkcs1_verify::{TestName, TestSet},
};

/// How many vectors of each expectation were tried.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tried {
    valid: usize,
    invalid: usize,
    acceptable: usize,
}

/// Tries the vectors of a set.
fn run(name: TestName) -> Tried {
    let set = TestSet::load(name).expect("vectors");
    let (mut tried, mut wrong) = (Tried::default(), Vec::new());
    for group in &set.test_groups {
        // As `KeySet` reads a JWK: without the zero byte that a DER integer may begin with.
        let modulus: Vec<u8> = group.key.n.iter().copied().skip_while(|byte| *byte == 0).collect();
        let exponent: Vec<u8> = group.key.e.iter().copied().skip_while(|byte| *byte == 0).collect();
        let key = PublicKey::from_components(&modulus, &exponent).expect("a key");
        for vector in &group.tests {
            let fits = key.has_signed(&vector.msg, &vector.sig);
            let expected = match vector.result {
                TestResult::Valid => {
                    tried.valid += 1;
                    Some(true)
                }
                TestResult::Invalid => {
                    tried.invalid += 1;
                    Some(false)
                }
                TestResult::Acceptable => {
                    tried.acceptable += 1;
                    None
                }
            };
            if expected.is_some_and(|expected| expected != fits) {
                wrong.push((vector.tc_id, &vector.comment, fits));
            }
        }
    }
    assert!(wrong.is_empty(), "{name:?}: {wrong:#?}");
    assert_eq!(tried.valid + tried.invalid + tried.acceptable, set.number_of_tests);
    tried
}

#[test]
fn keys_of_2048_bits() {
    let tried = run(TestName::Rsa2048Sha256);
    assert!(tried.valid > 0 && tried.invalid > 200, "{tried:?}");
}

#[test]
fn keys_of_3072_bits() {
    let tried = run(TestName::Rsa3072Sha256);
    assert!(tried.valid > 0 && tried.invalid > 200, "{tried:?}");
}

#[test]
fn keys_of_4096_bits() {
    let tried = run(TestName::Rsa4096Sha256);
    assert!(tried.valid > 0 && tried.invalid > 200, "{tried:?}");
}

/// A right signature over another digest than that of SHA-256.
#[test]
fn other_hashes_do_not_fit() {
    for name in [
        TestName::Rsa2048Sha224,
        TestName::Rsa2048Sha384,
        TestName::Rsa2048Sha512,
        TestName::Rsa2048Sha512_256,
        TestName::Rsa2048Sha3_256,
    ] {
        let set = TestSet::load(name).expect("vectors");
        for group in &set.test_groups {
            let modulus: Vec<u8> = group.key.n.iter().copied().skip_while(|byte| *byte == 0).collect();
            let key = PublicKey::from_modulus(&modulus).expect("a key");
            for vector in &group.tests {
                // One vector of each set says that SHA-256 signed it.
                let is_sha_256 = vector.comment.contains("hashed with SHA-256 instead");
                let fits = key.has_signed(&vector.msg, &vector.sig);
                assert_eq!(fits, is_sha_256, "{name:?} {} {}", vector.tc_id, vector.comment);
            }
        }
    }
}
