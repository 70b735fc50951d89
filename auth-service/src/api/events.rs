//! `auth.v1.EventService`.

use std::{
    collections::HashSet,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use access::{Caller, Clock, CurrentCall, Error, Result, UserId, events::VerifierEffect, guard::Streaming, token::Revocation};
use chrono::TimeDelta;
use store::Db;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::Stream;
use uuid::Uuid;

use super::timestamp;
use crate::{
    events::{Event, EventLog, EventReader, Position, RecordedEvent},
    proto::{
        self, EventKind, SnapshotUsersRequest, SnapshotUsersResponse, UserState, WatchEventsRequest, WatchEventsResponse,
        event_service,
    },
    users::{self, User},
};

/// The longest time between two messages of a stream of events.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// The number of messages that wait for a slow reader, and the time after which the stream ends if the reader takes none of them.
const QUEUE_LENGTH: usize = 8;
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of users in one message of a snapshot.
const SNAPSHOT_PAGE_SIZE: i64 = 1000;

pub(crate) struct EventApi {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) event_log: EventLog,
}

impl event_service::Handlers for EventApi {
    async fn watch_events(&self, caller: Caller, request: WatchEventsRequest) -> Result<Streaming<WatchEventsResponse>> {
        let after = match request.epoch.as_str() {
            "" => None,
            epoch => Some(Position {
                epoch: uuid("epoch", epoch)?,
                pos: request.after,
                event_id: match request.after_event_id.as_str() {
                    "" => None,
                    event_id => Some(uuid("after_event_id", event_id)?.into()),
                },
            }),
        };
        let reader = self.event_log.reader(after).await?;
        let kinds = request.kinds().collect();
        let remaining = (caller.expires() - self.clock.now()).to_std().unwrap_or_default();
        let deadline = Instant::now() + remaining;
        let (responses, stream) = mpsc::channel(QUEUE_LENGTH);
        let event_log = self.event_log.clone();
        let watch = EventStream { caller, event_log, reader, kinds, responses, clock: self.clock.clone() };
        Ok(spawn(watch.run(deadline), stream))
    }

    async fn snapshot_users(&self, caller: Caller, _: SnapshotUsersRequest) -> Result<Streaming<SnapshotUsersResponse>> {
        // The position is read before the first user, so that later changes also arrive as events.
        let position = self.event_log.last_position().await?;
        let (responses, stream) = mpsc::channel(QUEUE_LENGTH);
        Ok(spawn(send_snapshot(self.db.clone(), self.event_log.clone(), caller, position, responses), stream))
    }
}

struct EventStream {
    caller: Caller,
    event_log: EventLog,
    reader: EventReader,
    kinds: HashSet<EventKind>,
    responses: mpsc::Sender<WatchEventsResponse>,
    clock: Clock,
}

impl EventStream {
    /// Sends events until the deadline.
    async fn run(mut self, deadline: Instant) -> Result<()> {
        // The first checkpoint is due immediately, so that a reader at the end of the log knows that it is there.
        let mut checkpoint = Instant::now();
        loop {
            let events = self.reader.next().await?;
            let revocations: Vec<_> = events.iter().filter_map(|recorded| self.revocation_of_caller(&recorded.event)).collect();
            let events: Vec<_> = events.into_iter().filter(|recorded| self.is_wanted(&recorded.event)).collect();
            if !events.is_empty() || checkpoint <= Instant::now() {
                send(&self.responses, self.response(events)).await?;
                checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
            }
            let is_key = |revocation: &Revocation| matches!(revocation, Revocation::Key(_));
            // The stream may have been opened before this replica knew of the revocation.
            if self.event_log.has_revoked(self.caller.claims()) || revocations.iter().any(|revocation| !is_key(revocation)) {
                return Err(Error::access_token_invalid());
            }
            if !revocations.is_empty() {
                // Another key may have signed the token. Then the client opens the stream again.
                return Ok(());
            }
            if !self.reader.is_at_end() {
                continue;
            }
            tokio::select! {
                is_open = self.reader.notified() => if !is_open {
                    return Ok(());
                },
                () = tokio::time::sleep_until(checkpoint) => {}
                () = tokio::time::sleep_until(deadline) => return Ok(()),
                () = self.responses.closed() => return Ok(()),
            }
        }
    }

    /// Returns the revocation of an event if it may cover the token that opened the stream. Only that of a key is uncertain.
    fn revocation_of_caller(&self, event: &Event) -> Option<Revocation> {
        match event.verifier_effect() {
            Some(VerifierEffect::Revoke(revocation)) => Some(revocation).filter(|it| it.may_cover(self.caller.claims())),
            _ => None,
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&event.payload.kind())
    }

    fn response(&self, events: Vec<RecordedEvent>) -> WatchEventsResponse {
        WatchEventsResponse {
            events: events.into_iter().map(event_message).collect(),
            through: Some(position_message(self.reader.position())),
            time: Some(timestamp(self.clock.now())),
            token_life: Some(duration(self.reader.token_life())),
            at_end: self.reader.is_at_end(),
        }
    }
}

async fn send_snapshot(
    db: Db,
    event_log: EventLog,
    caller: Caller,
    position: Position,
    responses: mpsc::Sender<SnapshotUsersResponse>,
) -> Result<()> {
    let mut after = UserId::from(Uuid::nil());
    loop {
        if event_log.has_revoked(caller.claims()) {
            return Err(Error::access_token_invalid());
        }
        let page = users::list_by_id(&db, after, SNAPSHOT_PAGE_SIZE).await?;
        let is_last = page.len() < usize::try_from(SNAPSHOT_PAGE_SIZE).unwrap_or_default();
        after = page.last().map_or(after, |user| user.user_id);
        let users = page.into_iter().map(user_state).collect();
        send(&responses, SnapshotUsersResponse { users, position: Some(position_message(position)) }).await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn send<T>(responses: &mpsc::Sender<T>, response: T) -> Result<()> {
    match tokio::time::timeout(SEND_TIMEOUT, responses.send(response)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Error::Unavailable("the client has closed the stream".into())),
        Err(_) => Err(Error::overloaded(Duration::ZERO)),
    }
}

/// Runs the task that sends the responses. If it fails, its error is the last item of the stream.
fn spawn<T: Send + 'static>(
    task: impl Future<Output = Result<()>> + Send + 'static,
    responses: mpsc::Receiver<T>,
) -> Streaming<T> {
    let (sender, outcome) = oneshot::channel();
    let task = async move {
        let _ = sender.send(task.await);
    };
    CurrentCall::spawn(task);
    Box::pin(ResponseStream { responses, outcome: Some(outcome) })
}

struct ResponseStream<T> {
    responses: mpsc::Receiver<T>,
    outcome: Option<oneshot::Receiver<Result<()>>>,
}

impl<T> Stream for ResponseStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        if let Some(response) = std::task::ready!(self.responses.poll_recv(context)) {
            return Poll::Ready(Some(Ok(response)));
        }
        let Some(receiver) = &mut self.outcome else { return Poll::Ready(None) };
        let outcome = std::task::ready!(Pin::new(receiver).poll(context));
        self.outcome = None;
        Poll::Ready(outcome.ok().and_then(Result::err).map(Err))
    }
}

fn uuid(field: &str, text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| Error::invalid(field.to_owned(), "string.uuid", "must be a UUID"))
}

fn duration(duration: TimeDelta) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.num_seconds(), nanos: 0 }
}

fn position_message(position: Position) -> proto::Position {
    proto::Position {
        epoch: position.epoch.to_string(),
        pos: position.pos,
        event_id: position.event_id.map(|event_id| event_id.to_string()).unwrap_or_default(),
    }
}

fn user_state(user: User) -> UserState {
    UserState {
        user_id: user.user_id.to_string(),
        user_version: user.version,
        username: user.username,
        is_active: user.is_active,
    }
}

fn event_message(recorded: RecordedEvent) -> proto::Event {
    let Event { user, payload } = recorded.event;
    proto::Event {
        pos: recorded.pos,
        event_id: recorded.event_id.to_string(),
        time: Some(timestamp(recorded.time)),
        user_id: user.map(|(user_id, _)| user_id.to_string()).unwrap_or_default(),
        user_version: user.map_or(0, |(_, version)| version),
        what: Some(payload.into()),
    }
}
