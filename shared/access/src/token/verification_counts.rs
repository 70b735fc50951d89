//! The number of verified tokens by outcome.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::TokenError;

/// How a token was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acceptance {
    /// Its signature was verified before.
    Cached,
    /// Its signature was verified now.
    Verified,
}

/// The outcomes: the two kinds of acceptance, then the reasons of a refusal in the order of [`TokenError`].
const OUTCOMES: [&str; 19] = [
    "cached",
    "verified",
    "too_long",
    "malformed",
    "header",
    "algorithm",
    "type",
    "header_parameter",
    "key_id",
    "unknown_key",
    "signature",
    "claims",
    "issuer",
    "audience",
    "times",
    "not_yet_valid",
    "expired",
    "identity",
    "revoked",
];

/// The number of verified tokens by outcome.
#[derive(Debug)]
pub(super) struct VerificationCounts([AtomicU64; OUTCOMES.len()]);

impl Default for VerificationCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; OUTCOMES.len()])
    }
}

impl VerificationCounts {
    /// Counts an outcome.
    pub(super) fn add(&self, outcome: Result<Acceptance, TokenError>) {
        self.0[index(outcome)].fetch_add(1, Relaxed);
    }

    /// Returns the name and the number of each outcome.
    pub(super) fn by_outcome(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }
}

fn index(outcome: Result<Acceptance, TokenError>) -> usize {
    match outcome {
        Ok(acceptance) => acceptance as usize,
        Err(error) => error as usize + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_name() {
        for (outcome, name) in [
            (Ok(Acceptance::Cached), "cached"),
            (Ok(Acceptance::Verified), "verified"),
            (Err(TokenError::TooLong), "too_long"),
            (Err(TokenError::UnknownKey), "unknown_key"),
            (Err(TokenError::NotYetValid), "not_yet_valid"),
            (Err(TokenError::Revoked), "revoked"),
        ] {
            assert_eq!(OUTCOMES[index(outcome)], name);
        }
    }
}
