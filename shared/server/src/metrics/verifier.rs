//! The verification of access tokens.

use std::{fmt::Error, sync::Arc};

use access::token::Verifier;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::write::{counters, gauge};

/// Reads the state of a verifier.
#[derive(Debug)]
pub(crate) struct VerifierMetrics(pub(crate) Arc<Verifier>);

impl Collector for VerifierMetrics {
    #[expect(clippy::cast_precision_loss, reason = "there are less than 2^53 keys and revocations")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (verifier, encoder) = (&self.0, &mut encoder);
        let help = "The access tokens that were checked: `cached` and `verified` were accepted, every other outcome is the reason of the refusal.";
        counters(encoder, "token_verifications", help, "outcome", verifier.verification_counts())?;
        gauge(encoder, "token_keys", "The keys that verify access tokens.", verifier.keys().get().len() as f64)?;
        let age = |age: Option<std::time::Duration>| age.map_or(f64::INFINITY, |age| age.as_secs_f64());
        let help = "The time since the keys were last fetched.";
        gauge(encoder, "token_keys_age_seconds", help, age(verifier.keys().age()))?;
        let revocations = verifier.revocations();
        gauge(encoder, "revocations", "The revocations that are kept.", revocations.len() as f64)?;
        let help = "1 if the list of revocations is fresh. While it is 0, methods that require fresh revocations fail.";
        gauge(encoder, "revocations_fresh", help, f64::from(u8::from(revocations.are_fresh())))?;
        let help = "The time since the list of revocations was last known to be complete.";
        gauge(encoder, "revocations_age_seconds", help, age(revocations.age()))
    }
}
