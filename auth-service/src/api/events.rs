//! `auth.v1.EventService`.

use std::{
    collections::HashSet,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use access::{Caller, Clock, Error, Result, UserId, guard::Streaming};
use chrono::TimeDelta;
use store::Db;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::Stream;
use tracing::Instrument;
use uuid::Uuid;

use super::timestamp;
use crate::{
    events::{EventLog, Position, Reader, Recorded, What},
    proto::{
        self, ClientVersion, EventKind, KeyId, Nothing, SessionsEnded, SnapshotUsersRequest, SnapshotUsersResponse, UserState,
        Username, WatchEventsRequest, WatchEventsResponse, event::What as Told, event_service,
    },
    users::{self, User},
};

/// How often at least something is sent.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// How many answers wait for a reader, and how long a reader that takes none is waited for.
const WAITING: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);
/// How many users one answer of a snapshot holds.
const USERS: i64 = 1000;

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
        let ends = Instant::now() + remaining;
        let (answers, stream) = mpsc::channel(WAITING);
        let watch = Watch { caller, event_log: self.event_log.clone(), reader, kinds, answers, clock: self.clock.clone() };
        Ok(spawn(watch.run(ends), stream))
    }

    async fn snapshot_users(&self, _: Caller, _: SnapshotUsersRequest) -> Result<Streaming<SnapshotUsersResponse>> {
        // Before the first user is read: what changes from here on comes as an event again.
        let position = self.event_log.end().await?;
        let (answers, stream) = mpsc::channel(WAITING);
        Ok(spawn(snapshot(self.db.clone(), position, answers), stream))
    }
}

struct Watch {
    caller: Caller,
    event_log: EventLog,
    reader: Reader,
    kinds: HashSet<EventKind>,
    answers: mpsc::Sender<WatchEventsResponse>,
    clock: Clock,
}

impl Watch {
    /// Sends events until `ends`.
    async fn run(mut self, ends: Instant) -> Result<()> {
        // At once, so that a reader that stands at the end knows it.
        let mut checkpoint = Instant::now();
        loop {
            let events = self.reader.next().await?;
            let is_over = events.iter().any(|recorded| self.may_revoke(&recorded.event.what));
            let events: Vec<_> = events.into_iter().map(event_message).filter(|event| self.is_wanted(event)).collect();
            if !events.is_empty() || checkpoint <= Instant::now() {
                send(&self.answers, self.answer(events)).await?;
                checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
            }
            // It may have been opened before this replica had heard of the revocation.
            if is_over || self.event_log.has_revoked(self.caller.claims()) {
                return Ok(());
            }
            if !self.reader.is_at_end() {
                continue;
            }
            tokio::select! {
                goes_on = self.reader.woken() => if !goes_on {
                    return Err(Error::Unavailable("the service stops".into()));
                },
                () = tokio::time::sleep_until(checkpoint) => {}
                () = tokio::time::sleep_until(ends) => return Ok(()),
                () = self.answers.closed() => return Ok(()),
            }
        }
    }

    /// True where the token that opened the stream may be good for nothing any more. Whoever has a good one opens it again.
    fn may_revoke(&self, what: &What) -> bool {
        match what {
            What::KeyWithdrawn { .. } => true,
            What::ClientRestricted { client_id, version } => {
                client_id == self.caller.subject() && self.caller.version() < *version
            }
            _ => false,
        }
    }

    fn is_wanted(&self, event: &proto::Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind(event))
    }

    fn answer(&self, events: Vec<proto::Event>) -> WatchEventsResponse {
        WatchEventsResponse {
            events,
            through: Some(position_message(self.reader.position())),
            time: Some(timestamp(self.clock.now())),
            token_life: Some(duration(self.reader.token_life())),
            at_end: self.reader.is_at_end(),
        }
    }
}

async fn snapshot(db: Db, position: Position, answers: mpsc::Sender<SnapshotUsersResponse>) -> Result<()> {
    let mut after = UserId::from(Uuid::nil());
    loop {
        let page = users::all(&db, after, USERS).await?;
        let is_last = page.len() < usize::try_from(USERS).unwrap_or_default();
        after = page.last().map_or(after, |user| user.user_id);
        let users = page.into_iter().map(state_message).collect();
        send(&answers, SnapshotUsersResponse { users, position: Some(position_message(position)) }).await?;
        if is_last {
            return Ok(());
        }
    }
}

async fn send<T>(answers: &mpsc::Sender<T>, answer: T) -> Result<()> {
    match tokio::time::timeout(PATIENCE, answers.send(answer)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Error::Unavailable("nobody reads any more".into())),
        Err(_) => Err(Error::overloaded(Duration::ZERO)),
    }
}

/// Runs what fills the stream, whose last item is how it failed.
fn spawn<T: Send + 'static>(
    filling: impl Future<Output = Result<()>> + Send + 'static,
    answers: mpsc::Receiver<T>,
) -> Streaming<T> {
    let (end, ended) = oneshot::channel();
    let filled = async move {
        let _ = end.send(filling.await);
    };
    tokio::spawn(filled.in_current_span());
    Box::pin(Answers { answers, ended: Some(ended) })
}

struct Answers<T> {
    answers: mpsc::Receiver<T>,
    ended: Option<oneshot::Receiver<Result<()>>>,
}

impl<T> Stream for Answers<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        if let Some(answer) = std::task::ready!(self.answers.poll_recv(context)) {
            return Poll::Ready(Some(Ok(answer)));
        }
        let Some(ended) = &mut self.ended else { return Poll::Ready(None) };
        let end = std::task::ready!(Pin::new(ended).poll(context));
        self.ended = None;
        Poll::Ready(end.ok().and_then(Result::err).map(Err))
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

fn state_message(user: User) -> UserState {
    UserState {
        user_id: user.user_id.to_string(),
        user_version: user.version,
        username: user.username,
        is_active: user.is_active,
    }
}

fn event_message(recorded: Recorded) -> proto::Event {
    let what = match recorded.event.what {
        What::UserCreated { username } => Told::UserCreated(Username { username }),
        What::UserRenamed { username } => Told::UserRenamed(Username { username }),
        What::UserUpdated => Told::UserUpdated(Nothing {}),
        What::UserActivated => Told::UserActivated(Nothing {}),
        What::UserDeactivated => Told::UserDeactivated(Nothing {}),
        What::UserDeleted => Told::UserDeleted(Nothing {}),
        What::SessionsEnded { session_ids } => {
            Told::SessionsEnded(SessionsEnded { session_ids: session_ids.iter().map(ToString::to_string).collect() })
        }
        What::PermissionsChanged => Told::PermissionsChanged(Nothing {}),
        What::KeyCreated { kid } => Told::KeyCreated(KeyId { key_id: kid }),
        What::KeyActivated { kid } => Told::KeyActivated(KeyId { key_id: kid }),
        What::KeyRetired { kid } => Told::KeyRetired(KeyId { key_id: kid }),
        What::KeyWithdrawn { kid } => Told::KeyWithdrawn(KeyId { key_id: kid }),
        What::ClientRestricted { client_id, version } => Told::ClientRestricted(ClientVersion { client_id, version }),
    };
    proto::Event {
        pos: recorded.pos,
        event_id: recorded.event_id.to_string(),
        time: Some(timestamp(recorded.time)),
        user_id: recorded.event.user.map(|(user_id, _)| user_id.to_string()).unwrap_or_default(),
        user_version: recorded.event.user.map_or(0, |(_, version)| version),
        what: Some(what),
    }
}

fn kind(event: &proto::Event) -> EventKind {
    match &event.what {
        None => EventKind::Unspecified,
        Some(Told::UserCreated(_)) => EventKind::UserCreated,
        Some(Told::UserRenamed(_)) => EventKind::UserRenamed,
        Some(Told::UserUpdated(_)) => EventKind::UserUpdated,
        Some(Told::UserActivated(_)) => EventKind::UserActivated,
        Some(Told::UserDeactivated(_)) => EventKind::UserDeactivated,
        Some(Told::UserDeleted(_)) => EventKind::UserDeleted,
        Some(Told::SessionsEnded(_)) => EventKind::SessionsEnded,
        Some(Told::PermissionsChanged(_)) => EventKind::PermissionsChanged,
        Some(Told::KeyCreated(_)) => EventKind::KeyCreated,
        Some(Told::KeyActivated(_)) => EventKind::KeyActivated,
        Some(Told::KeyRetired(_)) => EventKind::KeyRetired,
        Some(Told::KeyWithdrawn(_)) => EventKind::KeyWithdrawn,
        Some(Told::ClientRestricted(_)) => EventKind::ClientRestricted,
    }
}
