//! The access token with which a service calls others in its own name. It is renewed in the background.

use std::{convert::Infallible, fmt, path::PathBuf, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tonic::{Code, Request, Status, metadata::AsciiMetadataValue, service::Interceptor, transport::Channel};

use crate::{
    SecretFileError,
    error::{Reason, status},
    proto::auth::v1::{
        IssueServiceTokenRequest, IssueServiceTokenResponse, issue_service_token_request::Credential,
        token_service_client::TokenServiceClient,
    },
    read_secret_file,
    trace::TracedChannel,
};

/// The delay after the first failed request for a token. It doubles up to the longest.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// The shortest time between two tokens, also if a renewal is requested.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The credentials with which a service requests its tokens.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// Its id, as `auth-service clients list` shows it.
    pub client_id: String,
    /// The file that holds its secret. It is read for each token, so that a rotated secret needs no restart.
    pub secret_file: PathBuf,
}

/// The access token of a service, which all clones share. As an interceptor, it adds the token to every call.
///
/// ```no_run
/// # use access::token::{ClientCredentials, ServiceToken, auth_channel};
/// # use access::proto::auth::v1::token_service_client::TokenServiceClient;
/// # async fn connect(auth_url: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let token = ServiceToken::default();
/// let credentials = ClientCredentials { client_id: "billing".to_owned(), secret_file: "billing.secret".into() };
/// let (renewal, channel) = (token.clone(), auth_channel(auth_url)?);
/// tokio::spawn(async move { renewal.keep_fresh(channel, credentials).await });
/// token.ready().await;
/// let tokens = TokenServiceClient::with_interceptor(auth_channel(auth_url)?, token);
/// # drop(tokens);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ServiceToken(Arc<Token>);

#[derive(Default)]
struct Token {
    held: watch::Sender<Option<Held>>,
    renewal_requested: Notify,
    /// The reason why the last request failed.
    failure: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Held {
    header: AsciiMetadataValue,
    expires: Instant,
}

/// The reason why there is no new token.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The file of the secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The auth service refuses the credentials, or cannot be reached.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(#[from] Status),
    /// The auth service has answered with something else than a token.
    #[error("the auth service has answered with something else than a token")]
    Malformed,
}

impl ServiceToken {
    /// Gets tokens from the auth service behind `channel`: one at once, and another when two thirds of its lifetime have passed.
    /// While the requests fail, the last token is used until it expires. A failed request is repeated after 0.2 to 10 seconds. It
    /// never returns.
    pub async fn keep_fresh(&self, channel: Channel, credentials: ClientCredentials) -> Infallible {
        let mut client = TokenServiceClient::new(TracedChannel::new(channel));
        let mut delays = backoff();
        loop {
            let wait = match renew(&mut client, &credentials).await {
                Ok((header, lifetime)) => {
                    *self.0.failure.lock() = None;
                    self.0.held.send_replace(Some(Held { header, expires: Instant::now() + lifetime }));
                    delays = backoff();
                    lifetime * 2 / 3
                }
                Err(error) => {
                    *self.0.failure.lock() = Some(error.to_string());
                    tracing::warn!(%error, client_id = credentials.client_id, "cannot get an access token for this service; retrying");
                    delays.next().unwrap_or(MAX_RETRY_DELAY)
                }
            };
            let least = MIN_INTERVAL.min(wait);
            tokio::time::sleep(least).await;
            // A requested renewal ends the wait early.
            let _ = tokio::time::timeout(wait.saturating_sub(least), self.0.renewal_requested.notified()).await;
        }
    }

    /// Returns the reason why the last request for a token failed, such as a wrong secret.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.lock().clone()
    }

    /// Waits until there is a token that has not expired. It waits without a limit; [`failure`](Self::failure) tells why there is
    /// none.
    pub async fn ready(&self) {
        let mut held = self.0.held.subscribe();
        // This cannot fail, because `self` owns the sender.
        let _ = held.wait_for(|held| held.as_ref().is_some_and(Held::is_good)).await;
    }

    /// Waits until there is a token, and returns it as the value of the header `authorization`.
    pub async fn authorization(&self) -> AsciiMetadataValue {
        let mut held = self.0.held.subscribe();
        loop {
            let good = held.wait_for(|held| held.as_ref().is_some_and(Held::is_good)).await;
            if let Some(held) = good.ok().and_then(|held| held.clone()) {
                return held.header;
            }
        }
    }

    /// Requests another token, after a service has answered UNAUTHENTICATED to this one, and waits for it without a limit. At
    /// most one a second is fetched.
    pub async fn renew(&self) {
        let mut held = self.0.held.subscribe();
        held.mark_unchanged();
        self.0.renewal_requested.notify_one();
        // This cannot fail, because `self` owns the sender.
        let _ = held.changed().await;
    }
}

impl Held {
    fn is_good(&self) -> bool {
        self.expires > Instant::now()
    }
}

impl Interceptor for ServiceToken {
    /// Adds the token, or returns UNAVAILABLE while there is none.
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

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(MIN_RETRY_DELAY).with_max_delay(MAX_RETRY_DELAY).without_max_times().build()
}

/// The issuer and the time of a token that the auth service has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `iat`.
    pub issue_time: DateTime<Utc>,
}

/// Requests one token, to check the credentials. The signature of the token is not verified.
///
/// # Errors
///
/// Returns an error if the secret cannot be read, or if the auth service refuses it or cannot be reached.
pub async fn issue_service_token(channel: Channel, credentials: &ClientCredentials) -> Result<IssuedToken, RenewError> {
    let answer = request_token(&mut TokenServiceClient::new(TracedChannel::new(channel)), credentials).await?;
    let claims = answer.access_token.split('.').nth(1).and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Option<UnverifiedClaims> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let claims = claims.ok_or(RenewError::Malformed)?;
    let issue_time = DateTime::from_timestamp(claims.iat, 0).ok_or(RenewError::Malformed)?;
    Ok(IssuedToken { issuer: claims.iss, issue_time })
}

#[derive(serde::Deserialize)]
struct UnverifiedClaims {
    iss: String,
    iat: i64,
}

async fn request_token(
    client: &mut TokenServiceClient<TracedChannel>,
    credentials: &ClientCredentials,
) -> Result<IssueServiceTokenResponse, RenewError> {
    let secret = read_secret_file(&credentials.secret_file)?;
    let request = IssueServiceTokenRequest {
        client_id: credentials.client_id.clone(),
        scope: String::new(),
        credential: Some(Credential::ClientSecret(secret)),
    };
    Ok(client.issue_service_token(request).await?.into_inner())
}

async fn renew(
    client: &mut TokenServiceClient<TracedChannel>,
    credentials: &ClientCredentials,
) -> Result<(AsciiMetadataValue, Duration), RenewError> {
    let answer = request_token(client, credentials).await?;
    let mut header: AsciiMetadataValue = format!("Bearer {}", answer.access_token).parse().map_err(|_| RenewError::Malformed)?;
    header.set_sensitive(true);
    Ok((header, Duration::from_secs(u64::try_from(answer.expires_in).unwrap_or_default())))
}
