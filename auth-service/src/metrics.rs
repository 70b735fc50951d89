//! Metrics of sign-ins, signing keys, the hashing queue and the event log.

use std::{fmt, sync::Arc};

use access::{Clock, Error, Result, error::ErrorReason};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use server::metrics::{counters, gauge, gauges};

use crate::{events::EventLog, keys::KeyRing, passwords::Passwords, proto::Reason};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignInLabels {
    grant: &'static str,
    outcome: &'static str,
}

/// Counts the sign-ins by their outcome. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignInMetrics {
    sign_ins: Family<SignInLabels, Counter>,
    reuses: Counter,
}

impl SignInMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "The attempts to get tokens, by the kind of credential and the outcome";
        registry.register("auth_sign_ins", help, metrics.sign_ins.clone());
        let help = "The sessions that ended because a spent refresh token was presented";
        registry.register("auth_refresh_token_reuses", help, metrics.reuses.clone());
        metrics
    }

    /// Counts an attempt, and returns its outcome.
    pub(crate) fn count<T>(&self, grant: &'static str, outcome: Result<T>) -> Result<T> {
        self.sign_ins.get_or_create(&SignInLabels { grant, outcome: name(&outcome) }).inc();
        outcome
    }

    /// Counts a session that ended because of a spent refresh token.
    pub(crate) fn count_reuse(&self) {
        self.reuses.inc();
    }
}

fn name<T>(outcome: &Result<T>) -> &'static str {
    let throttled = ErrorReason::from(Reason::TooManyAttempts);
    match outcome {
        Ok(_) => "success",
        Err(Error::Unauthenticated(..)) => "rejected",
        Err(Error::Exhausted { reason, .. }) if *reason == throttled => "throttled",
        Err(Error::Exhausted { .. }) => "overloaded",
        Err(Error::Invalid(..)) => "invalid",
        Err(_) => "failed",
    }
}

/// Reads the state of the keys, the hashing queue and the event log.
pub(crate) struct StateMetrics {
    pub(crate) clock: Clock,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) passwords: Passwords,
    pub(crate) event_log: EventLog,
}

impl fmt::Debug for StateMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMetrics").finish_non_exhaustive()
    }
}

impl Collector for StateMetrics {
    #[expect(clippy::cast_precision_loss, reason = "the values are far below 2^53")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (keys, encoder) = (self.keys.keys(), &mut encoder);
        let states = keys.states().map(|(state, count)| (state, count as f64));
        gauges(encoder, "auth_signing_keys", "The signing keys.", "state", states)?;
        let age = keys.active_since().map_or(f64::INFINITY, |since| (self.clock.now() - since).as_seconds_f64());
        gauge(encoder, "auth_signing_key_age_seconds", "The time since the active key was activated.", age)?;
        let loaded = keys.age().map_or(f64::INFINITY, |age| age.as_secs_f64());
        gauge(encoder, "auth_signing_keys_loaded_age_seconds", "The time since the keys were read from the database.", loaded)?;
        let usage = self.passwords.usage().map(|(purpose, usage)| (purpose.name(), usage));
        let waiting = usage.map(|(purpose, usage)| (purpose, usage.waiting as f64));
        gauges(encoder, "auth_password_hashes_waiting", "The password hashes that wait for a thread.", "purpose", waiting)?;
        let free = usage.map(|(purpose, usage)| (purpose, usage.free_slots as f64));
        gauges(encoder, "auth_password_hash_slots_free", "The free places in the hashing queue.", "purpose", free)?;
        let refused = usage.map(|(purpose, usage)| (purpose, usage.refused));
        let help = "The password hashes that were refused, because the queue had no place for the client.";
        counters(encoder, "auth_password_hashes_refused", help, "purpose", refused)?;
        let last = self.event_log.last_known() as f64;
        gauge(encoder, "auth_events_position", "The position of the last event in the log.", last)
    }
}
