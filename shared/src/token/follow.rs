//! Keeps a verifier's keys fresh, in the background.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use tonic::transport::Channel;

use super::{KeySet, Verifier};
use crate::proto::auth::v1::{GetJwksRequest, Jwk, key_service_client::KeyServiceClient};

/// The first wait after a fetch that failed. It doubles up to the interval.
const FIRST_RETRY: Duration = Duration::from_millis(200);

/// Gives the verifier the keys that `fetch` answers: at once, then every `interval`, and when an unknown key id asks for
/// them. Keys that are known stay while none can be fetched. It never returns.
pub async fn follow<E, F>(verifier: Arc<Verifier>, interval: Duration, fetch: impl Fn() -> F) -> Infallible
where
    E: std::fmt::Display,
    F: Future<Output = Result<Vec<Jwk>, E>>,
{
    let mut wanted = verifier.wanted.subscribe();
    let mut retry = FIRST_RETRY;
    loop {
        let asked = *wanted.borrow_and_update();
        let wait = match fetch().await {
            Ok(jwks) => {
                let (keys, refused) = KeySet::from_jwks(&jwks);
                for refusal in refused {
                    tracing::warn!(%refusal, "a published key is not taken");
                }
                verifier.set_keys(keys);
                retry = FIRST_RETRY;
                interval
            }
            Err(error) => {
                tracing::warn!(%error, "the keys could not be fetched; those that are known stay in use");
                retry = (retry * 2).min(interval);
                retry
            }
        };
        verifier.answered.send_replace(asked);
        // Dropping the sleep when somebody asks is what makes it come early.
        let _ = tokio::time::timeout(wait, wanted.changed()).await;
    }
}

/// Follows the keys of the auth service behind `channel`. It never returns.
pub async fn follow_auth_service(verifier: Arc<Verifier>, interval: Duration, channel: Channel) -> Infallible {
    let client = KeyServiceClient::new(channel);
    follow(verifier, interval, || {
        let mut client = client.clone();
        async move {
            let answer = client.get_jwks(GetJwksRequest {}).await;
            answer.map(|response| response.into_inner().keys).map_err(|status| format!("{:?}: {}", status.code(), status.message()))
        }
    })
    .await
}
