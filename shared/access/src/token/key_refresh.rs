//! Fetches a verifier's keys in the background.

use std::{convert::Infallible, error::Error, future::Future, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tonic::transport::Channel;

use super::{KeySet, Verifier};
use crate::{
    error::error_chain,
    proto::auth::v1::{GetJwksRequest, Jwk, key_service_client::KeyServiceClient},
    trace::TracedChannel,
};

/// The time limit of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// The delay after the first failed fetch. It doubles up to the interval.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Sets the verifier's keys to those that `fetch` returns: at once, then every `interval`, and when an unknown key id requests a
/// refresh. While the fetch fails, the current keys stay in use. The function never returns.
pub async fn follow<E, F>(verifier: Arc<Verifier>, interval: Duration, fetch: impl Fn() -> F) -> Infallible
where
    E: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = Result<Vec<Jwk>, E>>,
{
    let mut requests = verifier.keys().refresh_requests();
    let backoff = || {
        let delays = ExponentialBuilder::new().with_min_delay(FIRST_RETRY.min(interval)).with_max_delay(interval);
        delays.without_max_times().build()
    };
    let mut delays = backoff();
    loop {
        let request = *requests.borrow_and_update();
        let fetched = match tokio::time::timeout(FETCH_TIMEOUT, fetch()).await {
            Ok(Ok(jwks)) => usable_keys(&jwks),
            Ok(Err(error)) => Err(error_chain(error.into().as_ref())),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let wait = match fetched {
            Ok(keys) => {
                verifier.set_keys(keys);
                delays = backoff();
                interval
            }
            Err(error) => {
                tracing::warn!(error, "cannot fetch the signing keys; retrying, and using the keys that are loaded");
                delays.next().unwrap_or(interval)
            }
        };
        verifier.keys().complete_refresh(request);
        // A request ends the wait early.
        let _ = tokio::time::timeout(wait, requests.changed()).await;
    }
}

/// Returns the keys that can verify a signature. It returns an error for a key set without such a key, so that the current keys
/// stay in use.
fn usable_keys(jwks: &[Jwk]) -> Result<KeySet, String> {
    let (keys, rejected) = KeySet::from_jwks(jwks);
    for reason in rejected {
        tracing::warn!(%reason, "a published key is not accepted");
    }
    if keys.is_empty() { Err("no key that can verify is published".to_owned()) } else { Ok(keys) }
}

/// Keeps the verifier's keys equal to those of the auth service behind `channel`. The function never returns.
pub async fn follow_auth_service(verifier: Arc<Verifier>, interval: Duration, channel: Channel) -> Infallible {
    let client = KeyServiceClient::new(TracedChannel::new(channel));
    follow(verifier, interval, || {
        let mut client = client.clone();
        async move {
            let answer = client.get_jwks(GetJwksRequest {}).await;
            answer
                .map(|response| response.into_inner().keys)
                .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
        }
    })
    .await
}
