//! A transaction, and what others have to be told of it.

use std::{
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

use access::{Result, SessionId, UserId};
use chrono::TimeDelta;
use store::{Executor, Tx};

use super::{Event, EventId, EventLog, SESSIONS, What};

/// How many events one statement writes.
const ROWS: usize = 16;

/// A transaction that tells what it changes. It queries as a [`Tx`] does. Dropped without a commit, it never happened.
///
/// Whatever changes a user, the validity of a session, a permission, a key or a client takes a `OutboxTransaction` and tells it, so that no caller
/// can forget to.
#[must_use]
pub struct OutboxTransaction {
    tx: Tx,
    event_log: EventLog,
    events: Vec<Event>,
}

impl OutboxTransaction {
    pub(super) fn new(tx: Tx, event_log: EventLog) -> Self {
        Self { tx, event_log, events: Vec::new() }
    }

    /// Tells what happened to a user, whose version it has made this.
    pub fn record(&mut self, user_id: UserId, version: i64, what: What) {
        self.events.push(Event { user: Some((user_id, version)), what });
    }

    /// Tells what happened to a key.
    pub fn record_key(&mut self, what: What) {
        self.events.push(Event { user: None, what });
    }

    /// Tells that a client has lost something, which has made its version this.
    pub fn record_client(&mut self, client_id: &str, version: i64) {
        self.events.push(Event { user: None, what: What::ClientRestricted { client_id: client_id.to_owned(), version } });
    }

    /// Tells that sessions have ended.
    pub fn record_ended_sessions(&mut self, session_ids: &[SessionId]) {
        for session_ids in session_ids.chunks(SESSIONS) {
            self.events.push(Event { user: None, what: What::SessionsEnded { session_ids: session_ids.to_vec() } });
        }
    }

    /// Adds what was told to the events, and makes all of it durable at once.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn commit(self) -> Result<()> {
        let Self { mut tx, event_log, events } = self;
        if events.is_empty() {
            return Ok(tx.commit().await?);
        }
        let (last, token_life) = append(&mut tx, &event_log, &events).await?;
        tx.commit().await?;
        event_log.notify_committed(last, token_life, &events);
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

/// Writes the events at the next positions, and answers the last of them, and how long an access token lives. From its first
/// statement on whoever else adds events waits for the end of this transaction, so nothing may come after it but the commit.
async fn append(tx: &mut Tx, event_log: &EventLog, events: &[Event]) -> Result<(i64, TimeDelta)> {
    static INSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=ROWS).map(insert).collect());
    let rows = events.iter().map(|event| event.what.columns()).collect::<Result<Vec<_>>>()?;
    let now = tx.now(event_log.clock()).await?;
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let (last, token_life) = event_log.advance(tx, count).await?;

    let mut pos = last - count;
    for (events, rows) in events.chunks(ROWS).zip(rows.chunks(ROWS)) {
        let mut query = tx.query(&INSERTS[events.len() - 1]);
        for (event, (kind, payload)) in events.iter().zip(rows) {
            pos += 1;
            let (user_id, version) = event.user.unzip();
            query = query.bind(pos).bind(EventId::new(event_log.clock())).bind(user_id).bind(version);
            query = query.bind(kind).bind(payload).bind(now);
        }
        query.execute().await?;
    }
    Ok((last, token_life))
}

/// The statement that writes so many rows.
fn insert(rows: usize) -> String {
    let row = |row: usize| {
        let parameters: Vec<_> = (1..=7).map(|column| format!("${}", row * 7 + column)).collect();
        format!("({})", parameters.join(", "))
    };
    let rows: Vec<_> = (0..rows).map(row).collect();
    format!("INSERT INTO outbox (pos, event_id, user_id, user_version, kind, payload, time) VALUES {}", rows.join(", "))
}
