//! The event log of one database, as one process reads and writes it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use access::{
    AuditRecorder, AuditedCall, Clock, Error, Result,
    error::{self, Violation},
    events::VerifierEffect,
    token::{Claims, Verifier},
};
use audit::{Actor, AuditLog, Entry};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Db, Executor, Tx};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Event, EventId, EventReader, OutboxTransaction, Position};
use crate::proto::Reason;

/// The interval at which a process looks for events of other processes.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which this process's verifier learns at least that its revocations are up to date.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The largest difference between the clocks of two replicas.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);

/// The event log of a database. Its clones share one signal for new events.
#[derive(Debug, Clone)]
pub struct EventLog {
    pub(super) db: Db,
    clock: Clock,
    signal: Arc<watch::Sender<Signal>>,
    audit_log: AuditLog,
    /// The verifier of this process.
    verifier: Option<Arc<Verifier>>,
}

/// The newest state of the log that this process knows of. A change wakes the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Signal {
    pub(super) epoch: Option<Uuid>,
    last: i64,
    /// Whether the process stops.
    pub(super) is_closed: bool,
}

/// The row of the table `feed`.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(super) struct LogRow {
    pub(super) epoch: Uuid,
    /// The position of the last event.
    pub(super) last: i64,
    /// The lowest position from which the log can be read.
    #[sqlx(rename = "floor")]
    pub(super) low_watermark: i64,
    /// The longest lifetime of an access token, in seconds.
    pub(super) token_life: i64,
}

/// The reason why events cannot be read from a position on. The reader needs a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorError {
    /// Events after the position were deleted.
    Gone,
    /// The position belongs to another history, for example to one from before a restore.
    Unknown,
}

impl From<CursorError> for Error {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Gone => Error::out_of_range(
                Reason::PositionGone,
                Violation::new("after", "position.kept", "events after this position were deleted: read a snapshot"),
            ),
            CursorError::Unknown => Error::precondition(
                Reason::PositionUnknown,
                Violation::new("after", "position.known", "this position belongs to another history: read a snapshot"),
            ),
        }
    }
}

impl EventLog {
    /// Returns the event log of a database.
    pub fn new(db: Db, clock: Clock) -> Self {
        let audit_log = AuditLog::new(db.clone(), clock.clone());
        Self { db, clock, signal: Arc::default(), audit_log, verifier: None }
    }

    /// Returns the same log, which also applies revocations to this verifier before the call that caused them is answered.
    #[must_use]
    pub fn with_verifier(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// Stores that access tokens live at most this long, unless a longer lifetime is stored. Must be called before a token with this
    /// lifetime is issued.
    pub async fn raise_token_life(&self, life: TimeDelta) -> Result<()> {
        let mut tx = self.db.begin().await?;
        insert_row(&mut tx, &self.clock).await?;
        let query = tx.query("UPDATE feed SET token_life = $1 WHERE token_life < $1");
        query.bind(life.num_seconds()).execute().await?;
        Ok(tx.commit().await?)
    }

    /// Begins a transaction that records events about its changes.
    pub async fn begin(&self) -> Result<OutboxTransaction> {
        Ok(OutboxTransaction::new(self.db.begin().await?, self.clone()))
    }

    /// Writes the entry in the audit log of the current call, which changes nothing else. `actor` is the one who acts.
    pub async fn record_call(&self, actor: Actor) -> Result<()> {
        let Some(call) = AuditedCall::get() else { return Ok(()) };
        self.audit_log.record_alone(Entry { actor, ..Entry::of_call(&call) }).await?;
        call.mark_recorded();
        Ok(())
    }

    /// Returns a reader of the events after a position. Without a position it starts with the events that revoke tokens which may still
    /// be valid.
    ///
    /// # Errors
    ///
    /// Returns a [`CursorError`] if the events after the position cannot be read.
    pub async fn reader(&self, after: Option<Position>) -> Result<EventReader> {
        let signal = self.signal.subscribe();
        let row = self.row().await?;
        let position = match after {
            Some(position) if position.epoch != row.epoch => return Err(CursorError::Unknown.into()),
            Some(position) => position,
            None => self.replay_start(row).await?,
        };
        EventReader::open(self.clone(), position, row, signal).await
    }

    /// Returns the position of the last event.
    pub async fn last_position(&self) -> Result<Position> {
        let LogRow { epoch, last, .. } = self.row().await?;
        Ok(Position { epoch, pos: last, event_id: event_at(&self.db, last).await? })
    }

    /// Returns the position of the last event that this process knows of.
    pub(crate) fn last_known(&self) -> i64 {
        self.signal.borrow().last
    }

    /// Wakes the readers when another process has added events. It never returns.
    pub async fn poll(&self) -> Infallible {
        loop {
            match self.row().await {
                Ok(row) => self.send(|signal| (signal.epoch, signal.last) = (Some(row.epoch), row.last)),
                Err(error) => tracing::debug!(error = error::error_chain(&error), "cannot read the event log"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Applies the revocations of other processes to the verifier of this process. It never returns.
    pub async fn follow_revocations(&self) -> Infallible {
        loop {
            let Err(error) = self.try_follow_revocations().await;
            tracing::debug!(error = error::error_chain(&error), "cannot read revocations from the event log");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn try_follow_revocations(&self) -> Result<Infallible> {
        let mut reader = self.reader(None).await?;
        loop {
            for recorded in reader.next().await? {
                self.apply_to_verifier(&recorded.event, recorded.time + reader.token_life() + CLOCK_SKEW);
            }
            if reader.is_at_end() {
                if let Some(verifier) = &self.verifier {
                    verifier.revocations().mark_synced();
                }
                // A read without new events also proves that the revocations are up to date.
                let _ = tokio::time::timeout(SYNC_INTERVAL, reader.notified()).await;
            }
        }
    }

    /// Returns true if the verifier of this process knows that tokens with these claims are revoked.
    pub fn has_revoked(&self, claims: &Claims) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.revocations().contains(claims))
    }

    /// The key ring follows the keys by itself, so only revocations matter here.
    fn apply_to_verifier(&self, event: &Event, until: DateTime<Utc>) {
        let Some(verifier) = &self.verifier else { return };
        if let Some(VerifierEffect::Revoke(revocation)) = event.verifier_effect() {
            verifier.revoke(revocation, until);
        }
    }

    /// Ends every stream of events, because the process stops.
    pub fn close(&self) {
        self.send(|signal| signal.is_closed = true);
    }

    /// Deletes the events that are older than `retention`, except those that revoke tokens which may still be valid.
    pub async fn purge_expired(&self, retention: TimeDelta) -> Result<()> {
        let LogRow { token_life, .. } = self.row().await?;
        let before = self.clock.now() - retention.max(TimeDelta::seconds(token_life) + CLOCK_SKEW * 2);
        let query = self.db.query("SELECT MAX(pos) FROM outbox WHERE time < $1").bind(before);
        let (Some(low_watermark),) = query.one::<(Option<i64>,)>().await? else { return Ok(()) };
        self.db.write("UPDATE feed SET floor = $1 WHERE floor < $1").bind(low_watermark).execute().await?;
        // A second transaction, because nobody can add events while the row of `feed` is locked.
        self.db.write("DELETE FROM outbox WHERE pos < (SELECT floor FROM feed)").execute().await?;
        Ok(())
    }

    /// Returns the audit log of the same database.
    pub fn audit_log(&self) -> &AuditLog {
        &self.audit_log
    }

    /// Returns the audit log as the guards take it.
    pub fn recorder(&self) -> Arc<dyn AuditRecorder> {
        Arc::new(self.audit_log.clone())
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Reserves the next `count` positions. Returns the last of them, and the longest lifetime of an access token. Every other
    /// transaction that records events waits until this one ends.
    pub(super) async fn advance(&self, tx: &mut Tx, count: i64) -> Result<(i64, TimeDelta)> {
        const ADVANCE: &str = "UPDATE feed SET last = last + $1 RETURNING last, token_life";
        let advanced = if let Some(advanced) = tx.query(ADVANCE).bind(count).optional::<(i64, i64)>().await? {
            advanced
        } else {
            insert_row(tx, &self.clock).await?;
            tx.query(ADVANCE).bind(count).one().await?
        };
        Ok((advanced.0, TimeDelta::seconds(advanced.1)))
    }

    /// Applies committed events to the verifier, and wakes the readers. `last` is the position of the last event.
    pub(super) fn notify_committed(&self, last: i64, token_life: TimeDelta, events: &[Event]) {
        let until = self.clock.now() + token_life + CLOCK_SKEW;
        for event in events {
            self.apply_to_verifier(event, until);
        }
        self.send(|signal| signal.last = signal.last.max(last));
    }

    fn send(&self, change: impl FnOnce(&mut Signal)) {
        self.signal.send_if_modified(|signal| {
            let before = *signal;
            change(signal);
            *signal != before
        });
    }

    pub(super) async fn row(&self) -> Result<LogRow> {
        const ROW: &str = "SELECT epoch, last, floor, token_life FROM feed";
        if let Some(row) = self.db.query(ROW).optional().await? {
            return Ok(row);
        }
        let mut tx = self.db.begin().await?;
        insert_row(&mut tx, &self.clock).await?;
        tx.commit().await?;
        Ok(self.db.query(ROW).one().await?)
    }

    /// Returns the position before the first event that may revoke tokens which are still valid.
    async fn replay_start(&self, row: LogRow) -> Result<Position> {
        let from = self.clock.now() - TimeDelta::seconds(row.token_life) - CLOCK_SKEW;
        let query = self.db.query("SELECT MIN(pos) FROM outbox WHERE time >= $1").bind(from);
        let first = query.one::<(Option<i64>,)>().await?.0.unwrap_or(row.last + 1);
        let pos = (first - 1).max(row.low_watermark);
        Ok(Position { epoch: row.epoch, pos, event_id: event_at(&self.db, pos).await? })
    }
}

/// Inserts the row of `feed` if there is none.
async fn insert_row(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let query = tx.query(
        "INSERT INTO feed (feed_id, epoch, last, floor, token_life) VALUES (1, $1, 0, 0, 0) ON CONFLICT (feed_id) DO NOTHING",
    );
    query.bind(EventId::new(clock)).execute().await?;
    Ok(())
}

pub(super) async fn event_at(on: impl Executor<'_>, pos: i64) -> Result<Option<EventId>> {
    let query = on.query("SELECT event_id FROM outbox WHERE pos = $1").bind(pos);
    Ok(query.optional::<(EventId,)>().await?.map(|(event_id,)| event_id))
}
