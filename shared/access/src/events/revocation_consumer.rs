//! Keeps a verifier's list of revocations up to date.

use std::{convert::Infallible, sync::Arc};

use chrono::TimeDelta;

use super::{
    Batch, EventConsumer, EventKind, EventSource, Position, ReceivedEvent, StartFrom, VerifierEffect, WatchError, WatchProgress,
    kind::VERIFIER_KINDS, watch,
};
use crate::token::Verifier;

/// The largest difference between the clocks of two machines.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

/// Applies every event that concerns token verifiers to `verifier`. It never returns.
///
/// It starts with the events that revoke tokens which may still be valid.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use access::{events::{EventSource, follow_revocations}, token::{ServiceToken, Verifier, auth_channel}};
/// # fn follow(verifier: &Arc<Verifier>, token: ServiceToken, auth_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let source = EventSource::with_service_token(auth_channel(auth_url)?, token);
/// tokio::spawn(follow_revocations(Arc::clone(verifier), source));
/// # Ok(())
/// # }
/// ```
pub async fn follow_revocations(verifier: Arc<Verifier>, source: EventSource) -> Infallible {
    watch(source, RevocationConsumer { verifier, position: None }, WatchProgress::default()).await
}

struct RevocationConsumer {
    verifier: Arc<Verifier>,
    position: Option<Position>,
}

impl EventConsumer for RevocationConsumer {
    const KINDS: &'static [EventKind] = VERIFIER_KINDS;

    async fn position(&mut self) -> Result<StartFrom, WatchError> {
        Ok(self.position.clone().map_or(StartFrom::RevocationWindow, StartFrom::Position))
    }

    async fn apply(&mut self, batch: Batch) -> Result<bool, WatchError> {
        for ReceivedEvent { time, event } in batch.events {
            match event.verifier_effect().ok_or(WatchError::Malformed)? {
                VerifierEffect::RefreshKeys => self.verifier.keys().request_refresh(),
                VerifierEffect::Revoke(revocation) => {
                    self.verifier.revoke(revocation, time + batch.token_life + CLOCK_SKEW);
                }
            }
        }
        self.position = Some(batch.through);
        if batch.is_at_end {
            self.verifier.revocations().mark_synced();
        }
        Ok(true)
    }

    async fn resync(&mut self, _: &EventSource) -> Result<(), WatchError> {
        self.position = None;
        Ok(())
    }
}
