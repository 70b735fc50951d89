//! Keeps a verifier's keys fresh, in the background.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use tonic::transport::{Channel, Endpoint};

use super::{KeySet, Verifier};
use crate::proto::auth::v1::{GetJwksRequest, Jwk, key_service_client::KeyServiceClient};

/// How long a connection may take to be made, and a call to be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the connection may be silent before it is asked whether it is still there, and how long it has to answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// The first wait after a fetch that failed. It doubles up to the interval.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Gives the verifier the keys that `fetch` answers: at once, then every `interval`, and when an unknown key id asks for
/// them. Keys that are known stay while none can be fetched. It never returns.
pub async fn follow<E, F>(verifier: Arc<Verifier>, interval: Duration, fetch: impl Fn() -> F) -> Infallible
where
    E: std::fmt::Display,
    F: Future<Output = Result<Vec<Jwk>, E>>,
{
    let mut requests = verifier.keys().refresh_requests();
    let mut retry = FIRST_RETRY;
    loop {
        let request = *requests.borrow_and_update();
        let fetched = match tokio::time::timeout(FETCH_TIMEOUT, fetch()).await {
            Ok(Ok(jwks)) => usable_keys(&jwks),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let wait = match fetched {
            Ok(keys) => {
                verifier.set_keys(keys);
                retry = FIRST_RETRY;
                interval
            }
            Err(error) => {
                tracing::warn!(error, "the keys could not be fetched; those that are known stay in use");
                let wait = retry.min(interval);
                retry = wait * 2;
                wait
            }
        };
        verifier.keys().complete_refresh(request);
        // A request ends the wait early.
        let _ = tokio::time::timeout(wait, requests.changed()).await;
    }
}

/// The keys that can verify. An answer without one is a fault of whoever answers, and no reason to forget what is known.
fn usable_keys(jwks: &[Jwk]) -> Result<KeySet, String> {
    let (keys, rejected) = KeySet::from_jwks(jwks);
    for reason in rejected {
        tracing::warn!(%reason, "a published key is not accepted");
    }
    if keys.is_empty() { Err("no key that can verify is published".to_owned()) } else { Ok(keys) }
}

/// Follows the keys of the auth service behind `channel`. It never returns.
pub async fn follow_auth_service(verifier: Arc<Verifier>, interval: Duration, channel: Channel) -> Infallible {
    let client = KeyServiceClient::new(channel);
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

/// A URL that leads to no auth service.
#[derive(Debug, thiserror::Error)]
#[error("the URL of the auth service must be like http://127.0.0.1:50051")]
pub struct AuthUrlError;

/// A connection that is made when it is first used, and again whenever it is lost.
///
/// # Errors
///
/// A URL that is of no use. Whether the auth service is there turns out later.
pub fn auth_channel(url: &str) -> Result<Channel, AuthUrlError> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| AuthUrlError)?;
    if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
        return Err(AuthUrlError);
    }
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
    // Without these a connection that a partition has cut would look open for ever.
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE_INTERVAL).keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    Ok(endpoint.keep_alive_while_idle(true).connect_lazy())
}
