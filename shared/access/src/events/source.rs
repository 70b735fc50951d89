//! The connection to the auth service, over which events are read.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tonic::{Code, Request, Response, Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};

use super::{EventKind, Position, WatchError, watch::SILENCE_LIMIT};
use crate::{
    proto::auth::v1::{
        SnapshotUsersRequest, SnapshotUsersResponse, WatchEventsRequest, WatchEventsResponse,
        event_service_client::EventServiceClient,
    },
    token::ServiceToken,
    trace::TracedChannel,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Authorization = Pin<Box<dyn Future<Output = Result<AsciiMetadataValue, AnyError>> + Send>>;

/// A connection to the auth service, with access tokens of a service that holds the permission `auth.watch_event`.
#[derive(Clone)]
pub struct EventSource {
    channel: Channel,
    /// Returns the value of the header `authorization`. The argument says whether the auth service rejected the last one.
    authorization: Arc<dyn Fn(bool) -> Authorization + Send + Sync>,
    was_rejected: Arc<AtomicBool>,
    /// The token of the service account, if the source has one.
    service_token: Option<ServiceToken>,
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl EventSource {
    /// Creates a source. `token` returns an access token, and is called for every stream and every snapshot.
    pub fn new<E, F>(channel: Channel, token: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        E: Into<AnyError>,
        F: Future<Output = Result<String, E>> + Send + 'static,
    {
        let authorization = move |_| -> Authorization {
            let token = token();
            Box::pin(async move { Ok(format!("Bearer {}", token.await.map_err(Into::into)?).parse()?) })
        };
        Self { channel, authorization: Arc::new(authorization), was_rejected: Arc::default(), service_token: None }
    }

    /// Creates a source that uses the access tokens of a service account.
    pub fn with_service_token(channel: Channel, token: ServiceToken) -> Self {
        let service_token = Some(token.clone());
        let authorization = move |was_rejected| -> Authorization {
            let token = token.clone();
            Box::pin(async move {
                let header = async {
                    if was_rejected {
                        token.renew().await;
                    }
                    token.authorization().await
                };
                Ok(tokio::time::timeout(SILENCE_LIMIT, header).await?)
            })
        };
        Self { channel, authorization: Arc::new(authorization), was_rejected: Arc::default(), service_token }
    }

    /// Returns the reason why the service account got no token at its last request, such as a wrong secret.
    pub fn token_failure(&self) -> Option<String> {
        self.service_token.as_ref().and_then(ServiceToken::failure)
    }

    /// Returns every user, page by page, as [`EventConsumer::resync`](super::EventConsumer::resync) needs them.
    ///
    /// # Errors
    ///
    /// Returns [`WatchError::Token`] without an access token, and [`WatchError::Call`] if the auth service rejects the call or
    /// cannot be reached.
    pub async fn snapshot(&self) -> Result<Streaming<SnapshotUsersResponse>, WatchError> {
        let request = self.request(SnapshotUsersRequest {}).await?;
        let mut client = EventServiceClient::new(TracedChannel::new(self.channel.clone()));
        let response = client.snapshot_users(request).await;
        self.accept(response)
    }

    pub(super) async fn watch(&self, after: Position, kinds: &[EventKind]) -> Result<Streaming<WatchEventsResponse>, WatchError> {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        let Position { epoch, pos, event_id } = after;
        let request = self.request(WatchEventsRequest { epoch, after: pos, after_event_id: event_id, kinds }).await?;
        let mut client = EventServiceClient::new(TracedChannel::new(self.channel.clone()));
        let response = client.watch_events(request).await;
        self.accept(response)
    }

    fn accept<T>(&self, response: Result<Response<T>, Status>) -> Result<T, WatchError> {
        let was_rejected = response.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated);
        self.was_rejected.store(was_rejected, Ordering::Relaxed);
        Ok(response.map_err(Box::new)?.into_inner())
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, WatchError> {
        let authorization = (self.authorization)(self.was_rejected.load(Ordering::Relaxed));
        let value = authorization.await.map_err(WatchError::Token)?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}
