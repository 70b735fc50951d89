//! Watches the events of the auth service, from any service: what happens to users, sessions, permissions, keys and
//! clients.
//!
//! [`follow_revocations`] is all that a service needs whose verifier is to know of revocations. One that keeps users of its own
//! implements [`Consumer`], and is kept up by [`watch`].

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tonic::{Code, Request, Response, Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};

pub use crate::proto::auth::v1::{Event, EventKind, Position, UserState, WatchEventsResponse as Batch, event::What};
use crate::{
    Error, Result, SessionId, UserId,
    error::error_chain,
    proto::auth::v1::{
        SnapshotUsersRequest, SnapshotUsersResponse, WatchEventsRequest, event_service_client::EventServiceClient,
    },
    token::{Revocation, ServiceToken, Verifier},
};

/// The server sends something every second. A stream that is silent for longer is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// The first wait after a failure. It doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How far the clocks of two machines may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(1);

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Authorization = Pin<Box<dyn Future<Output = Result<AsciiMetadataValue, AnyError>> + Send>>;

/// Where events come from: a connection to the auth service, and access tokens that let a service watch.
#[derive(Clone)]
pub struct Source {
    channel: Channel,
    /// Answers what stands in `authorization`, and is told whether the last was refused.
    authorization: Arc<dyn Fn(bool) -> Authorization + Send + Sync>,
    refused: Arc<AtomicBool>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Why a stream of events ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no access token.
    #[error("there is no access token: {0}")]
    Token(AnyError),
    /// The auth service refuses, or can't be reached.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Call(#[from] Box<Status>),
    /// Nothing was sent for too long.
    #[error("the stream is silent")]
    Silent,
    /// What was sent makes no sense.
    #[error("an answer without a position")]
    Malformed,
    /// The consumer can't do its part.
    #[error(transparent)]
    Consumer(#[from] Error),
}

impl Source {
    /// Events from the auth service behind `channel`. `token` answers an access token of a service that holds
    /// `auth.watch_event`, whenever a stream is opened.
    pub fn new<E, F>(channel: Channel, token: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        E: Into<AnyError>,
        F: Future<Output = Result<String, E>> + Send + 'static,
    {
        let authorization = move |_| -> Authorization {
            let token = token();
            Box::pin(async move { Ok(format!("Bearer {}", token.await.map_err(Into::into)?).parse()?) })
        };
        Self { channel, authorization: Arc::new(authorization), refused: Arc::default() }
    }

    /// The same, with the access tokens of a service account.
    pub fn of_service(channel: Channel, token: ServiceToken) -> Self {
        let authorization = move |refused| -> Authorization {
            let token = token.clone();
            Box::pin(async move {
                let got = async {
                    if refused {
                        token.renew().await;
                    }
                    token.authorization().await
                };
                Ok(tokio::time::timeout(SILENCE, got).await?)
            })
        };
        Self { channel, authorization: Arc::new(authorization), refused: Arc::default() }
    }

    /// Every user, page by page, as [`Consumer::start_over`] needs them.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn snapshot(&self) -> Result<Streaming<SnapshotUsersResponse>, WatchError> {
        let request = self.request(SnapshotUsersRequest {}).await?;
        let mut client = EventServiceClient::new(self.channel.clone());
        let answer = client.snapshot_users(request).await;
        self.answered(answer)
    }

    async fn watch(&self, after: Position, kinds: &[EventKind]) -> Result<Streaming<Batch>, WatchError> {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        let Position { epoch, pos, event_id } = after;
        let request = self.request(WatchEventsRequest { epoch, after: pos, after_event_id: event_id, kinds }).await?;
        let mut client = EventServiceClient::new(self.channel.clone());
        let answer = client.watch_events(request).await;
        self.answered(answer)
    }

    fn answered<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, WatchError> {
        let refused = answer.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated);
        self.refused.store(refused, Ordering::Relaxed);
        Ok(answer.map_err(Box::new)?.into_inner())
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, WatchError> {
        let authorization = (self.authorization)(self.refused.load(Ordering::Relaxed));
        let value = authorization.await.map_err(WatchError::Token)?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// Where a consumer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Nowhere: it needs no more than what revokes tokens that may still be alive.
    Recent,
    /// Behind this position.
    After(Position),
    /// Nowhere: it needs everything.
    Over,
}

/// Who makes something of events.
pub trait Consumer: Send {
    /// The kinds of events that it takes.
    const KINDS: &'static [EventKind];

    /// Where it stands.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from knowing. It is asked again.
    fn position(&mut self) -> impl Future<Output = Result<Start, WatchError>> + Send;

    /// Takes the events of a batch, and moves on to its `through`. False where it does not stand where the batch begins: then
    /// it is asked where it does.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that. It is asked where it stands, and given the events again.
    fn apply(&mut self, batch: Batch, through: Position) -> impl Future<Output = Result<bool, WatchError>> + Send;

    /// Forgets where it stood, since the auth service has deleted the events after it, or has another history.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from that. It is asked where it stands.
    fn start_over(&mut self, source: &Source) -> impl Future<Output = Result<(), WatchError>> + Send;
}

/// How far a consumer is, for whoever wants to know.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

/// See [`Progress`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Whether a stream is open.
    pub is_connected: bool,
    /// Whether there was nothing more when the last batch was sent.
    pub is_at_end: bool,
    /// The position that it has come to.
    pub position: Option<Position>,
    /// The auth service's time when the last batch was sent.
    pub time: Option<DateTime<Utc>>,
    /// How often a stream was opened.
    pub connects: u64,
    /// How often it started over.
    pub starts_over: u64,
}

impl Progress {
    /// How far it is now.
    pub fn state(&self) -> State {
        self.0.lock().clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock());
    }
}

/// Gives events to a consumer: each at least once, in the order of their positions. It goes on after every failure, and never
/// returns.
pub async fn watch<C: Consumer>(source: Source, mut consumer: C, progress: Progress) -> Infallible {
    let mut failures = 0;
    loop {
        let outcome = stream(&source, &mut consumer, &progress, &mut failures).await;
        progress.set(|state| (state.is_connected, state.is_at_end) = (false, false));
        if let Err(error) = outcome {
            tracing::warn!(error = error_chain(&error), "the stream of events ends; it is opened again");
            failures += 1;
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

async fn stream<C: Consumer>(
    source: &Source,
    consumer: &mut C,
    progress: &Progress,
    failures: &mut u32,
) -> Result<(), WatchError> {
    let after = match consumer.position().await? {
        Start::Recent => Position::default(),
        Start::After(position) => position,
        Start::Over => return start_over(source, consumer, progress).await,
    };
    let mut stream = match source.watch(after, C::KINDS).await {
        Err(WatchError::Call(status)) if is_lost(&status) => return start_over(source, consumer, progress).await,
        stream => stream?,
    };
    progress.set(|state| (state.is_connected, state.connects) = (true, state.connects + 1));
    loop {
        let answer = tokio::time::timeout(SILENCE, stream.message()).await.map_err(|_| WatchError::Silent)?;
        let batch = match answer {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(status) if is_lost(&status) => return start_over(source, consumer, progress).await,
            Err(status) => return Err(Box::new(status).into()),
        };
        let through = batch.through.clone().ok_or(WatchError::Malformed)?;
        let (is_at_end, sent) = (batch.at_end, batch.time.and_then(time));
        if !consumer.apply(batch, through.clone()).await? {
            return Ok(());
        }
        *failures = 0;
        progress.set(|state| {
            (state.is_at_end, state.position) = (is_at_end, Some(through));
            state.time = sent.or(state.time);
        });
    }
}

async fn start_over<C: Consumer>(source: &Source, consumer: &mut C, progress: &Progress) -> Result<(), WatchError> {
    tracing::info!("the events begin anew");
    progress.set(|state| state.starts_over += 1);
    consumer.start_over(source).await
}

/// The two answers that a position gets which events can't go on from.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::FailedPrecondition)
}

/// Longer after each failure, and scattered, so that many that were cut off together don't come back together.
fn pause(failures: u32) -> Duration {
    let mut byte = [0];
    // Without randomness the pauses are merely less spread.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    let longest = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(failures.min(10)));
    longest / 2 + longest / 2 * u32::from(byte[0]) / 256
}

/// The time of a message.
pub fn time(timestamp: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    SystemTime::try_from(timestamp).ok().map(DateTime::from)
}

/// Tells the verifier of every revocation, as soon as the auth service has told of it. It never returns.
///
/// One that has just started is told of those that still matter.
pub async fn follow_revocations(verifier: Arc<Verifier>, source: Source) -> Infallible {
    watch(source, Revoker { verifier, at: None }, Progress::default()).await
}

struct Revoker {
    verifier: Arc<Verifier>,
    at: Option<Position>,
}

impl Consumer for Revoker {
    const KINDS: &'static [EventKind] = &[
        EventKind::UserDeactivated,
        EventKind::UserDeleted,
        EventKind::SessionsEnded,
        EventKind::PermissionsChanged,
        EventKind::ClientRestricted,
        EventKind::KeyCreated,
        EventKind::KeyActivated,
        EventKind::KeyWithdrawn,
    ];

    async fn position(&mut self) -> Result<Start, WatchError> {
        Ok(self.at.clone().map_or(Start::Recent, Start::After))
    }

    async fn apply(&mut self, batch: Batch, through: Position) -> Result<bool, WatchError> {
        let life = TimeDelta::seconds(batch.token_life.map_or(0, |life| life.seconds)) + SKEW;
        for event in batch.events {
            let happened = event.time.and_then(time).ok_or(WatchError::Malformed)?;
            match event.what {
                Some(What::KeyCreated(_) | What::KeyActivated(_)) => self.verifier.keys().request_refresh(),
                Some(what) => {
                    if let Some(revocation) = revocation(&event.user_id, event.user_version, what)? {
                        self.verifier.revoke(revocation, happened + life);
                    }
                }
                None => {}
            }
        }
        self.at = Some(through);
        if batch.at_end {
            self.verifier.revocations().mark_synced();
        }
        Ok(true)
    }

    async fn start_over(&mut self, _: &Source) -> Result<(), WatchError> {
        self.at = None;
        Ok(())
    }
}

fn revocation(user_id: &str, version: i64, what: What) -> Result<Option<Revocation>> {
    let user_id = || UserId::parse("user_id", user_id);
    Ok(match what {
        What::UserDeactivated(_) | What::PermissionsChanged(_) => Some(Revocation::OlderThan(user_id()?, version)),
        What::UserDeleted(_) => Some(Revocation::User(user_id()?)),
        What::SessionsEnded(ended) => {
            let session_ids = ended.session_ids.iter().map(|id| SessionId::parse("session_ids", id)).collect::<Result<_>>()?;
            Some(Revocation::Sessions(session_ids))
        }
        What::KeyWithdrawn(key) => Some(Revocation::Key(key.key_id)),
        What::ClientRestricted(client) => Some(Revocation::Client(client.client_id, client.version)),
        _ => None,
    })
}
