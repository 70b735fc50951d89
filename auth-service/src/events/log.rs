//! The events of one database, as one process reads and writes them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use access::{
    Clock, Error, Result, UserId,
    error::{self, Violation},
    token::{Claims, Revocation, Verifier},
};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Db, Executor, Tx};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Event, EventId, OutboxTransaction, Position, Recorded, What};
use crate::proto::Reason;

/// How often the events of other processes are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How many events are read at a time, and what they weigh together at most, in bytes. Clients commonly refuse an answer of
/// more than 4 MiB.
const PAGE: i64 = 500;
const PAGE_WEIGHT: usize = 1 << 20;
/// How often at least the verifier of this process is told.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How far the clocks of replicas may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(1);

/// The event log of a database. Its clones are woken together.
#[derive(Debug, Clone)]
pub struct EventLog {
    db: Db,
    clock: Clock,
    state: Arc<watch::Sender<State>>,
    /// What this process verifies tokens with.
    verifier: Option<Arc<Verifier>>,
}

/// What a process knows of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    epoch: Option<Uuid>,
    last: i64,
    /// Whether the process stops.
    closed: bool,
}

/// The row.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct Row {
    epoch: Uuid,
    last: i64,
    floor: i64,
    token_life: i64,
}

/// Why events can't be read from a position on: the reader takes a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// Events after it were deleted.
    Gone,
    /// It is of another history.
    Unknown,
}

impl From<CursorError> for Error {
    fn from(lost: CursorError) -> Self {
        match lost {
            CursorError::Gone => Error::out_of_range(
                Reason::PositionGone,
                Violation::new("after", "position.kept", "events after this position were deleted: take a snapshot"),
            ),
            CursorError::Unknown => Error::precondition(
                Reason::PositionUnknown,
                Violation::new("after", "position.known", "this position is of another history: take a snapshot"),
            ),
        }
    }
}

impl EventLog {
    /// The event log of a database.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, state: Arc::default(), verifier: None }
    }

    /// The event log, which revokes at this verifier whatever it is told, before anybody is answered.
    #[must_use]
    pub fn with_verifier(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// Remembers that access tokens may live so long from now on, which must be before one is issued that does.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn allow_token_life(&self, life: TimeDelta) -> Result<()> {
        let mut tx = self.db.begin().await?;
        make(&mut tx, &self.clock).await?;
        let query = tx.query("UPDATE feed SET token_life = $1 WHERE token_life < $1");
        query.bind(life.num_seconds()).execute().await?;
        Ok(tx.commit().await?)
    }

    /// Begins a transaction that tells what it changes.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn begin(&self) -> Result<OutboxTransaction> {
        Ok(OutboxTransaction::new(self.db.begin().await?, self.clone()))
    }

    /// Reads the events after a position; those that matter to whoever verifies tokens where there is none.
    ///
    /// # Errors
    ///
    /// OUT_OF_RANGE and FAILED_PRECONDITION, as [`CursorError`] says, and those of the database.
    pub async fn reader(&self, after: Option<Position>) -> Result<Reader> {
        let woken = self.state.subscribe();
        let row = self.row().await?;
        let at = match after {
            Some(position) if position.epoch != row.epoch => return Err(CursorError::Unknown.into()),
            Some(position) => position,
            None => self.recent(row).await?,
        };
        let mut reader =
            Reader { event_log: self.clone(), at, at_end: false, token_life: TimeDelta::seconds(row.token_life), woken };
        reader.check(row).await?;
        Ok(reader)
    }

    /// The position of the last event.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn end(&self) -> Result<Position> {
        let Row { epoch, last, .. } = self.row().await?;
        Ok(Position { epoch, pos: last, event_id: event_at(&self.db, last).await? })
    }

    /// Wakes the readers when another process has added events. It never returns.
    pub async fn poll(&self) -> Infallible {
        loop {
            match self.row().await {
                Ok(row) => self.set(|state| (state.epoch, state.last) = (Some(row.epoch), row.last)),
                Err(error) => tracing::debug!(error = error::error_chain(&error), "the event log can't be read"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Revokes at the verifier of this process what other processes have told. It never returns.
    pub async fn follow_revocations(&self) -> Infallible {
        loop {
            let Err(error) = self.try_follow_revocations().await;
            tracing::debug!(error = error::error_chain(&error), "news of revocations can't be read");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn try_follow_revocations(&self) -> Result<Infallible> {
        let mut reader = self.reader(None).await?;
        loop {
            for recorded in reader.next().await? {
                self.revoke(&recorded.event, recorded.time + reader.token_life() + SKEW);
            }
            if reader.is_at_end() {
                if let Some(verifier) = &self.verifier {
                    verifier.revocations().mark_synced();
                }
                // Nothing new is news too.
                let _ = tokio::time::timeout(SYNC_INTERVAL, reader.woken()).await;
            }
        }
    }

    /// True where the verifier of this process knows that tokens with these claims are revoked.
    pub fn has_revoked(&self, claims: &Claims) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.revocations().contains(claims))
    }

    fn revoke(&self, event: &Event, until: DateTime<Utc>) {
        let Some(verifier) = &self.verifier else { return };
        let revocation = match (&event.what, event.user) {
            (What::SessionsEnded { session_ids }, _) => Revocation::Sessions(session_ids.clone()),
            (What::UserDeactivated | What::PermissionsChanged, Some((user_id, version))) => {
                Revocation::OlderThan(user_id, version)
            }
            (What::UserDeleted, Some((user_id, _))) => Revocation::User(user_id),
            (What::ClientRestricted { client_id, version }, _) => Revocation::Client(client_id.clone(), *version),
            (What::KeyWithdrawn { kid }, _) => Revocation::Key(kid.clone()),
            _ => return,
        };
        verifier.revoke(revocation, until);
    }

    /// Ends every stream of events: the process stops.
    pub fn close(&self) {
        self.set(|state| state.closed = true);
    }

    /// Deletes the events that are older than `retention`, but none that revokes tokens which may still be alive.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn purge_expired(&self, retention: TimeDelta) -> Result<()> {
        let Row { token_life, .. } = self.row().await?;
        let before = self.clock.now() - retention.max(TimeDelta::seconds(token_life) + SKEW * 2);
        let query = self.db.query("SELECT MAX(pos) FROM outbox WHERE time < $1").bind(before);
        let (Some(floor),) = query.one::<(Option<i64>,)>().await? else { return Ok(()) };
        let mut tx = self.db.begin().await?;
        tx.query("UPDATE feed SET floor = $1 WHERE floor < $1").bind(floor).execute().await?;
        tx.commit().await?;
        // Apart, since nobody adds events while the row of the event log is locked.
        let mut tx = self.db.begin().await?;
        tx.query("DELETE FROM outbox WHERE pos < (SELECT floor FROM feed)").execute().await?;
        Ok(tx.commit().await?)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Moves the event log on, and answers its new end. Nobody else does until the transaction ends.
    pub(super) async fn advance(&self, tx: &mut Tx, by: i64) -> Result<(i64, TimeDelta)> {
        const ADVANCE: &str = "UPDATE feed SET last = last + $1 RETURNING last, token_life";
        let advanced = if let Some(advanced) = tx.query(ADVANCE).bind(by).optional::<(i64, i64)>().await? {
            advanced
        } else {
            make(tx, &self.clock).await?;
            tx.query(ADVANCE).bind(by).one().await?
        };
        Ok((advanced.0, TimeDelta::seconds(advanced.1)))
    }

    /// To be called when the events are durable, of which the last has this position.
    pub(super) fn notify_committed(&self, last: i64, token_life: TimeDelta, events: &[Event]) {
        let until = self.clock.now() + token_life + SKEW;
        for event in events {
            self.revoke(event, until);
        }
        self.set(|state| state.last = state.last.max(last));
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            *state != before
        });
    }

    async fn row(&self) -> Result<Row> {
        const ROW: &str = "SELECT epoch, last, floor, token_life FROM feed";
        if let Some(row) = self.db.query(ROW).optional().await? {
            return Ok(row);
        }
        let mut tx = self.db.begin().await?;
        make(&mut tx, &self.clock).await?;
        tx.commit().await?;
        Ok(self.db.query(ROW).one().await?)
    }

    /// The position before the first event that may still matter to whoever verifies tokens.
    async fn recent(&self, row: Row) -> Result<Position> {
        let from = self.clock.now() - TimeDelta::seconds(row.token_life) - SKEW;
        let query = self.db.query("SELECT MIN(pos) FROM outbox WHERE time >= $1").bind(from);
        let first = query.one::<(Option<i64>,)>().await?.0.unwrap_or(row.last + 1);
        let pos = (first - 1).max(row.floor);
        Ok(Position { epoch: row.epoch, pos, event_id: event_at(&self.db, pos).await? })
    }
}

/// Makes the row, where there is none.
async fn make(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let query = tx.query(
        "INSERT INTO feed (feed_id, epoch, last, floor, token_life) VALUES (1, $1, 0, 0, 0) ON CONFLICT (feed_id) DO NOTHING",
    );
    query.bind(EventId::new(clock)).execute().await?;
    Ok(())
}

async fn event_at(on: impl Executor<'_>, pos: i64) -> Result<Option<EventId>> {
    let query = on.query("SELECT event_id FROM outbox WHERE pos = $1").bind(pos);
    Ok(query.optional::<(EventId,)>().await?.map(|(event_id,)| event_id))
}

/// Reads events in the order of their positions.
#[derive(Debug)]
pub struct Reader {
    event_log: EventLog,
    at: Position,
    at_end: bool,
    token_life: TimeDelta,
    woken: watch::Receiver<State>,
}

impl Reader {
    /// How far it has read.
    pub fn position(&self) -> Position {
        self.at
    }

    /// True where there was nothing more when it last read.
    pub fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The longest that an access token lives.
    pub fn token_life(&self) -> TimeDelta {
        self.token_life
    }

    /// The next events; none where there are none yet.
    ///
    /// # Errors
    ///
    /// OUT_OF_RANGE and FAILED_PRECONDITION, as [`CursorError`] says, and those of the database.
    pub async fn next(&mut self) -> Result<Vec<Recorded>> {
        let epoch = self.woken.borrow_and_update().epoch;
        if epoch.is_some_and(|epoch| epoch != self.at.epoch) {
            return Err(CursorError::Unknown.into());
        }
        // The event that it stands at is read again: after a restore of the database another may be there.
        let query = self.event_log.db.query(
            "SELECT pos, event_id, user_id, user_version, kind, payload, time FROM outbox WHERE pos >= $1 ORDER BY pos LIMIT $2",
        );
        let rows: Vec<OutboxRow> = query.bind(self.at.pos).bind(PAGE + 1).all().await?;
        let mut rows = rows.into_iter().peekable();
        let here = rows.next_if(|row| row.pos == self.at.pos);
        if here.map(|row| row.event_id) != self.at.event_id || rows.peek().is_some_and(|row| row.pos != self.at.pos + 1) {
            let row = self.event_log.row().await?;
            return Err(self.lost(row).into());
        }
        let (mut events, mut weight) = (Vec::new(), 0);
        self.at_end = i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE);
        for row in rows {
            weight += row.payload.len();
            if weight > PAGE_WEIGHT && !events.is_empty() {
                self.at_end = false;
                break;
            }
            events.push(row.read()?);
        }
        if let Some(last) = events.last() {
            self.at = Position { epoch: self.at.epoch, pos: last.pos, event_id: Some(last.event_id) };
        }
        Ok(events)
    }

    /// Waits until there may be more. False where the process stops.
    pub async fn woken(&mut self) -> bool {
        !self.woken.borrow().closed && self.woken.changed().await.is_ok() && !self.woken.borrow().closed
    }

    /// Fails where the position is none to go on from.
    async fn check(&mut self, row: Row) -> Result<()> {
        let there = event_at(&self.event_log.db, self.at.pos).await?;
        if self.at.pos < row.floor || self.at.pos > row.last || there != self.at.event_id {
            return Err(self.lost(row).into());
        }
        Ok(())
    }

    fn lost(&self, row: Row) -> CursorError {
        if self.at.epoch == row.epoch && self.at.pos < row.floor { CursorError::Gone } else { CursorError::Unknown }
    }
}

#[derive(sqlx::FromRow)]
struct OutboxRow {
    pos: i64,
    event_id: EventId,
    user_id: Option<UserId>,
    user_version: Option<i64>,
    kind: String,
    payload: String,
    time: DateTime<Utc>,
}

impl OutboxRow {
    fn read(self) -> Result<Recorded> {
        let what = What::read(&self.kind, &self.payload)?;
        let event = Event { user: self.user_id.zip(self.user_version), what };
        Ok(Recorded { pos: self.pos, event_id: self.event_id, time: self.time, event })
    }
}
