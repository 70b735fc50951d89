//! Reads the stream of events, and gives them to a consumer.

use std::{
    convert::Infallible,
    future::Future,
    time::{Duration, SystemTime},
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, TimeDelta, Utc};
use tonic::{Code, Status};

use super::{Event, EventKind, EventSource, Position, WatchProgress};
use crate::{
    Error, UserId,
    error::error_chain,
    proto::auth::v1::{self as proto, WatchEventsResponse},
};

/// The server sends at least a checkpoint every second. A stream that is silent for longer than this is closed.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// The shortest delays before the stream is opened again. A random part of up to the same length is added.
const MIN_DELAY: Duration = Duration::from_millis(25);
const MAX_DELAY: Duration = Duration::from_millis(2500);

/// The reason why a stream of events was closed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no access token.
    #[error("no access token: {0}")]
    Token(Box<dyn std::error::Error + Send + Sync>),
    /// The auth service rejected the call, or cannot be reached.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Call(#[from] Box<Status>),
    /// The auth service sent nothing for too long.
    #[error("the auth service has sent nothing for {} seconds", SILENCE_LIMIT.as_secs())]
    Silent,
    /// A required field of a message is missing.
    #[error("the auth service sent an incomplete message")]
    Malformed,
    /// The consumer cannot continue from its position now, and tries again later.
    #[error("{0}")]
    Paused(&'static str),
    /// The consumer failed.
    #[error(transparent)]
    Consumer(#[from] Error),
}

/// The position from which a consumer needs events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFrom {
    /// The first event that revokes tokens which may still be valid.
    RevocationWindow,
    /// The event after this position.
    Position(Position),
    /// A snapshot: [`EventConsumer::resync`].
    Snapshot,
}

/// Events in the order of their positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events of the kinds that the consumer asked for. It may be empty.
    pub events: Vec<ReceivedEvent>,
    /// The position after the batch. It also moves past events of other kinds.
    pub through: Position,
    /// Whether this was the end of the events when the batch was sent.
    pub is_at_end: bool,
    /// The longest lifetime of an access token. A revocation matters for this long after its event.
    pub token_life: TimeDelta,
    /// The auth service's time when it sent the batch.
    pub time: Option<DateTime<Utc>>,
}

/// An event and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// The time at which it happened.
    pub time: DateTime<Utc>,
    /// The event.
    pub event: Event,
}

impl TryFrom<WatchEventsResponse> for Batch {
    type Error = WatchError;

    fn try_from(message: WatchEventsResponse) -> Result<Self, WatchError> {
        Ok(Self {
            events: message.events.into_iter().filter_map(received_event).collect::<Result<_, _>>()?,
            through: message.through.ok_or(WatchError::Malformed)?,
            is_at_end: message.at_end,
            token_life: TimeDelta::seconds(message.token_life.map_or(0, |life| life.seconds)),
            time: message.time.and_then(time),
        })
    }
}

/// Returns none if this version of the crate does not know the kind of the event.
fn received_event(message: proto::Event) -> Option<Result<ReceivedEvent, WatchError>> {
    let what = message.what?;
    let parse = || {
        let user = match message.user_id.as_str() {
            "" => None,
            user_id => Some((UserId::parse("user_id", user_id)?, message.user_version)),
        };
        let time = message.time.and_then(time).ok_or(WatchError::Malformed)?;
        Ok(ReceivedEvent { time, event: Event { user, payload: what.try_into()? } })
    };
    Some(parse())
}

fn time(timestamp: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    SystemTime::try_from(timestamp).ok().map(DateTime::from)
}

/// Applies events, for example to a database.
pub trait EventConsumer: Send {
    /// The kinds of events that it needs.
    const KINDS: &'static [EventKind];

    /// Returns the position from which it needs events. It is called before a stream is opened, also after every failure.
    fn position(&mut self) -> impl Future<Output = Result<StartFrom, WatchError>> + Send;

    /// Applies a batch, and moves to its end. Returns false if its position is no longer the one that the batch follows, for example
    /// because another replica has moved it; then [`watch`] asks for the position again. After a failure the events are delivered
    /// again.
    fn apply(&mut self, batch: Batch) -> impl Future<Output = Result<bool, WatchError>> + Send;

    /// Discards the position, because the auth service has deleted the events after it or was restored from a backup, and reads a
    /// snapshot if it needs one.
    fn resync(&mut self, source: &EventSource) -> impl Future<Output = Result<(), WatchError>> + Send;
}

/// Delivers events to a consumer, each at least once and in the order of their positions. It opens the stream again after every
/// failure, with a delay that grows up to 5 seconds, and when the auth service has sent nothing for 5 seconds. It never returns.
pub async fn watch<C: EventConsumer>(source: EventSource, consumer: C, progress: WatchProgress) -> Infallible {
    let mut watch = Watch { source, consumer, progress, backoff: backoff() };
    loop {
        let outcome = watch.run().await;
        watch.progress.update(|state| (state.is_connected, state.is_at_end) = (false, false));
        let delay = match outcome {
            Ok(()) => backoff().next(),
            Err(error) => {
                match &error {
                    WatchError::Paused(reason) => tracing::info!("the event stream is not open yet: {reason}"),
                    error => tracing::warn!(error = error_chain(error), "the event stream was closed; reconnecting"),
                }
                watch.backoff.next()
            }
        };
        tokio::time::sleep(delay.unwrap_or(MAX_DELAY)).await;
    }
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).with_jitter().without_max_times().build()
}

struct Watch<C> {
    source: EventSource,
    consumer: C,
    progress: WatchProgress,
    /// The delays after failures, since the last batch that was applied.
    backoff: ExponentialBackoff,
}

impl<C: EventConsumer> Watch<C> {
    /// Reads one stream until it ends.
    async fn run(&mut self) -> Result<(), WatchError> {
        let after = match self.consumer.position().await? {
            StartFrom::RevocationWindow => Position::default(),
            StartFrom::Position(position) => position,
            StartFrom::Snapshot => return self.resync().await,
        };
        let mut stream = match self.source.watch(after, C::KINDS).await {
            Err(WatchError::Call(status)) if is_cursor_error(&status) => return self.restart(&status).await,
            stream => stream?,
        };
        self.progress.update(|state| (state.is_connected, state.connects) = (true, state.connects + 1));
        loop {
            let message = tokio::time::timeout(SILENCE_LIMIT, stream.message()).await.map_err(|_| WatchError::Silent)?;
            let batch = match message {
                Ok(Some(message)) => Batch::try_from(message)?,
                Ok(None) => return Ok(()),
                Err(status) if is_cursor_error(&status) => return self.restart(&status).await,
                Err(status) => return Err(Box::new(status).into()),
            };
            let (through, is_at_end, time) = (batch.through.clone(), batch.is_at_end, batch.time);
            if !self.consumer.apply(batch).await? {
                return Ok(());
            }
            self.backoff = backoff();
            self.progress.update(|state| {
                (state.is_at_end, state.position) = (is_at_end, Some(through));
                state.time = time.or(state.time);
            });
        }
    }

    /// Starts again after the auth service has rejected the position.
    async fn restart(&mut self, status: &Status) -> Result<(), WatchError> {
        tracing::info!(reason = status.message(), "the auth service cannot continue from the last position");
        self.resync().await
    }

    async fn resync(&mut self) -> Result<(), WatchError> {
        self.progress.update(|state| state.resyncs += 1);
        self.consumer.resync(&self.source).await
    }
}

/// Returns true for the two answers to a position from which the auth service cannot continue.
fn is_cursor_error(status: &Status) -> bool {
    matches!(status.code(), Code::OutOfRange | Code::FailedPrecondition)
}
