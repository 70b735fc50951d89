//! Calls in a service's own name: an access token of its own, kept fresh in the background.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue, service::Interceptor, transport::Channel};

use crate::{
    SecretFileError,
    error::{Reason, status},
    proto::auth::v1::{
        IssueServiceTokenRequest, issue_service_token_request::Credential, token_service_client::TokenServiceClient,
    },
    read_secret_file,
};

/// The first wait after a token that could not be had. It doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How long a token is kept at least, however often another is asked for.
const SHORTEST_USE: Duration = Duration::from_secs(1);

/// The credentials with which a service requests its tokens.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// Its id, as `auth-service clients list` shows it.
    pub client_id: String,
    /// The file that holds its secret. It is read anew for each token, so that a rotated secret needs no restart.
    pub secret_file: PathBuf,
}

/// The access token of a service. Its clones share it. As an interceptor it puts the token into every call.
#[derive(Clone, Default)]
pub struct ServiceToken(Arc<Token>);

#[derive(Default)]
struct Token {
    held: watch::Sender<Option<Held>>,
    wanted: Notify,
}

#[derive(Clone)]
struct Held {
    header: AsciiMetadataValue,
    expires: Instant,
}

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Status),
    #[error("the token can't stand in a header")]
    Malformed,
}

impl ServiceToken {
    /// Gets tokens of the auth service behind `channel`: one at once, and another when two thirds of its life have passed. While
    /// none can be had, the last one is used until it expires. It never returns.
    pub async fn keep_fresh(&self, channel: Channel, credentials: ClientCredentials) -> Infallible {
        let mut client = TokenServiceClient::new(channel);
        let mut retry = FIRST_RETRY;
        loop {
            let wait = match renew(&mut client, &credentials).await {
                Ok((header, life)) => {
                    self.0.held.send_replace(Some(Held { header, expires: Instant::now() + life }));
                    retry = FIRST_RETRY;
                    life * 2 / 3
                }
                Err(error) => {
                    tracing::warn!(%error, client_id = credentials.client_id, "no access token for this service; it is asked for again");
                    let wait = retry;
                    retry = (wait * 2).min(LONGEST_RETRY);
                    wait
                }
            };
            let least = SHORTEST_USE.min(wait);
            tokio::time::sleep(least).await;
            // Dropping the sleep when somebody asks is what makes it come early.
            let _ = tokio::time::timeout(wait.saturating_sub(least), self.0.wanted.notified()).await;
        }
    }

    /// Waits until there is a token.
    pub async fn ready(&self) {
        let mut held = self.0.held.subscribe();
        // The sender lives as long as this.
        let _ = held.wait_for(|held| held.as_ref().is_some_and(Held::is_good)).await;
    }

    /// Waits until there is a token, and answers the `authorization` that it makes.
    pub async fn authorization(&self) -> AsciiMetadataValue {
        let mut held = self.0.held.subscribe();
        loop {
            let good = held.wait_for(|held| held.as_ref().is_some_and(Held::is_good)).await;
            if let Some(held) = good.ok().and_then(|held| held.clone()) {
                return held.header;
            }
        }
    }

    /// Asks for another token, where one was answered UNAUTHENTICATED before its time, and waits for it. At most one a second
    /// is got.
    pub async fn renew(&self) {
        let mut held = self.0.held.subscribe();
        held.mark_unchanged();
        self.0.wanted.notify_one();
        // The sender lives as long as this.
        let _ = held.changed().await;
    }
}

impl Held {
    fn is_good(&self) -> bool {
        self.expires > Instant::now()
    }
}

impl Interceptor for ServiceToken {
    /// UNAVAILABLE while there is no token.
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let held = self.0.held.borrow().clone();
        let Some(held) = held.filter(Held::is_good) else {
            return Err(status(Code::Unavailable, Reason::Unavailable, "the calling service has no access token of its own now"));
        };
        request.metadata_mut().insert("authorization", held.header);
        Ok(request)
    }
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken")
    }
}

async fn renew(
    client: &mut TokenServiceClient<Channel>,
    credentials: &ClientCredentials,
) -> Result<(AsciiMetadataValue, Duration), RenewError> {
    let secret = read_secret_file(&credentials.secret_file)?;
    let request =
        IssueServiceTokenRequest { client_id: credentials.client_id.clone(), credential: Some(Credential::ClientSecret(secret)) };
    let answer = client.issue_service_token(request).await?.into_inner();
    let mut header: AsciiMetadataValue = format!("Bearer {}", answer.access_token).parse().map_err(|_| RenewError::Malformed)?;
    header.set_sensitive(true);
    Ok((header, Duration::from_secs(u64::try_from(answer.expires_in).unwrap_or_default())))
}
