//! The transaction that changes data and records the events about it.

use std::{
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

use access::{Result, SessionId, UserId, events::MAX_SESSIONS};
use chrono::TimeDelta;
use store::{Executor, Tx};

use super::{Event, EventId, EventLog, EventPayload};

/// The number of events that one statement inserts.
const ROWS: usize = 16;

/// A transaction that records events about its changes. It runs queries as a [`Tx`] does. Without a commit, nothing happens.
///
/// Functions that change a user, the validity of a session, a permission, a key or a client take an `OutboxTransaction` and record
/// the event themselves, so that no caller can forget it.
#[must_use]
pub struct OutboxTransaction {
    tx: Tx,
    log: EventLog,
    events: Vec<Event>,
}

impl OutboxTransaction {
    pub(super) fn new(tx: Tx, log: EventLog) -> Self {
        Self { tx, log, events: Vec::new() }
    }

    /// Records an event about a user. `version` is the version of the user after it.
    pub fn record(&mut self, user_id: UserId, version: i64, payload: EventPayload) {
        self.events.push(Event { user: Some((user_id, version)), payload });
    }

    /// Records an event about a key.
    pub fn record_key(&mut self, payload: EventPayload) {
        self.events.push(Event { user: None, payload });
    }

    /// Records that a client has lost a permission or a credential. `version` is the version of the client after it.
    pub fn record_client(&mut self, client_id: &str, version: i64) {
        let payload = EventPayload::ClientRestricted { client_id: client_id.to_owned(), version };
        self.events.push(Event { user: None, payload });
    }

    /// Records that sessions have ended.
    pub fn record_ended_sessions(&mut self, session_ids: &[SessionId]) {
        for session_ids in session_ids.chunks(MAX_SESSIONS) {
            self.events.push(Event { user: None, payload: EventPayload::SessionsEnded { session_ids: session_ids.to_vec() } });
        }
    }

    /// Writes the recorded events, and commits them with the changes.
    pub async fn commit(self) -> Result<()> {
        let Self { mut tx, log, events } = self;
        if events.is_empty() {
            return Ok(tx.commit().await?);
        }
        let (last, token_life) = append(&mut tx, &log, &events).await?;
        tx.commit().await?;
        log.notify_committed(last, token_life, &events);
        Ok(())
    }
}

impl Deref for OutboxTransaction {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for OutboxTransaction {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

/// Inserts the events at the next positions. Returns the last position, and the longest lifetime of an access token.
///
/// Its first statement locks the row that every other transaction with events needs, so nothing but the commit may follow.
async fn append(tx: &mut Tx, log: &EventLog, events: &[Event]) -> Result<(i64, TimeDelta)> {
    static INSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=ROWS).map(insert).collect());
    let columns = events.iter().map(|event| event.payload.to_columns()).collect::<Result<Vec<_>>>()?;
    let now = tx.now(log.clock()).await?;
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let (last, token_life) = log.advance(tx, count).await?;

    let mut pos = last - count;
    for (events, columns) in events.chunks(ROWS).zip(columns.chunks(ROWS)) {
        let mut query = tx.query(&INSERTS[events.len() - 1]);
        for (event, (kind, payload)) in events.iter().zip(columns) {
            pos += 1;
            let (user_id, version) = event.user.unzip();
            query = query.bind(pos).bind(EventId::new(log.clock())).bind(user_id).bind(version);
            query = query.bind(kind).bind(payload).bind(now);
        }
        query.execute().await?;
    }
    Ok((last, token_life))
}

/// Returns the statement that inserts this number of rows.
fn insert(rows: usize) -> String {
    let row = |row: usize| {
        let parameters: Vec<_> = (1..=7).map(|column| format!("${}", row * 7 + column)).collect();
        format!("({})", parameters.join(", "))
    };
    let rows: Vec<_> = (0..rows).map(row).collect();
    format!("INSERT INTO outbox (pos, event_id, user_id, user_version, kind, payload, time) VALUES {}", rows.join(", "))
}
