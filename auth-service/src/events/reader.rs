//! Reads events in the order of their positions.

use access::{Result, UserId};
use chrono::{DateTime, TimeDelta, Utc};
use store::Executor;
use tokio::sync::watch;

use super::{
    CursorError, Event, EventId, EventLog, EventPayload, Position, RecordedEvent,
    log::{LogRow, Signal, event_at},
};

/// The number of events that are read at a time, and the size of their payloads together in bytes. gRPC clients commonly reject a
/// message of more than 4 MiB.
const PAGE_SIZE: i64 = 500;
const PAGE_BYTES: usize = 1 << 20;

/// Reads events in the order of their positions.
#[derive(Debug)]
pub struct EventReader {
    log: EventLog,
    position: Position,
    is_at_end: bool,
    token_life: TimeDelta,
    signal: watch::Receiver<Signal>,
}

impl EventReader {
    pub(super) async fn open(log: EventLog, position: Position, row: LogRow, signal: watch::Receiver<Signal>) -> Result<Self> {
        let event_id = event_at(&log.db, position.pos).await?;
        if position.pos < row.low_watermark || position.pos > row.last || event_id != position.event_id {
            return Err(cursor_error(position, row).into());
        }
        let token_life = TimeDelta::seconds(row.token_life);
        Ok(Self { log, position, is_at_end: false, token_life, signal })
    }

    /// Returns the position up to which it has read.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns true if the last read reached the end of the log.
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Returns the longest lifetime of an access token.
    pub fn token_life(&self) -> TimeDelta {
        self.token_life
    }

    /// Reads the next events. Returns none if there are none yet.
    ///
    /// # Errors
    ///
    /// Returns a [`CursorError`] if the position is no longer valid, because events were deleted or the database was restored.
    pub async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        let epoch = self.signal.borrow_and_update().epoch;
        if epoch.is_some_and(|epoch| epoch != self.position.epoch) {
            return Err(CursorError::Unknown.into());
        }
        // The event at the position is read again: after a restore of the database another one may be there.
        let query = self.log.db.query(
            "SELECT pos, event_id, user_id, user_version, kind, payload, time FROM outbox WHERE pos >= $1 ORDER BY pos LIMIT $2",
        );
        let rows: Vec<OutboxRow> = query.bind(self.position.pos).bind(PAGE_SIZE + 1).all().await?;
        let mut rows = rows.into_iter().peekable();
        let current = rows.next_if(|row| row.pos == self.position.pos);
        let is_same = current.map(|row| row.event_id) == self.position.event_id;
        if !is_same || rows.peek().is_some_and(|row| row.pos != self.position.pos + 1) {
            let row = self.log.row().await?;
            return Err(cursor_error(self.position, row).into());
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        self.is_at_end = i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE_SIZE);
        for row in rows {
            bytes += row.payload.len();
            if bytes > PAGE_BYTES && !events.is_empty() {
                self.is_at_end = false;
                break;
            }
            events.push(row.parse()?);
        }
        if let Some(last) = events.last() {
            self.position = Position { epoch: self.position.epoch, pos: last.pos, event_id: Some(last.event_id) };
        }
        Ok(events)
    }

    /// Waits until there may be more events. Returns false if the process stops.
    pub async fn notified(&mut self) -> bool {
        !self.signal.borrow().is_closed && self.signal.changed().await.is_ok() && !self.signal.borrow().is_closed
    }
}

fn cursor_error(position: Position, row: LogRow) -> CursorError {
    if position.epoch == row.epoch && position.pos < row.low_watermark { CursorError::Gone } else { CursorError::Unknown }
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
    fn parse(self) -> Result<RecordedEvent> {
        let payload = EventPayload::from_columns(&self.kind, &self.payload)?;
        let event = Event { user: self.user_id.zip(self.user_version), payload };
        Ok(RecordedEvent { pos: self.pos, event_id: self.event_id, time: self.time, event })
    }
}
