//! The transaction that changes data, and records the events about it and its entry in the audit log.

use std::{
    borrow::Cow,
    ops::{Deref, DerefMut},
    sync::LazyLock,
};

use access::{AuditedCall, Result, SessionId, UserId, error::CODE_NAMES, events::MAX_SESSIONS};
use audit::{Actor, Entry, Target};
use chrono::TimeDelta;
use store::{Executor, Tx};

use super::{Event, EventId, EventLog, EventPayload};

/// The number of events that one statement inserts.
const ROWS: usize = 16;

/// A transaction that records events about its changes. It runs queries as a [`Tx`] does. Without a commit, nothing happens.
///
/// Functions that change a user, the validity of a session, a permission, a key or a client take an `OutboxTransaction` and record
/// the event themselves, so that no caller can forget it.
///
/// The commit writes an entry to the audit log if the transaction belongs to a call of an audited method or to a command, or if
/// [`set_entry`](Self::set_entry) was called.
#[must_use]
pub struct OutboxTransaction {
    tx: Tx,
    log: EventLog,
    events: Vec<Event>,
    audited: Audited,
}

/// The parts of the entry in the audit log that the call or the command does not determine.
#[derive(Debug, Default)]
struct Audited {
    entry: Option<Entry>,
    actor: Option<Actor>,
    target: Option<Target>,
    fields: Vec<Cow<'static, str>>,
    deleted_user: Option<UserId>,
    command: Option<&'static str>,
}

impl Audited {
    /// Returns the entry of the transaction, if it needs one.
    fn into_entry(self, call: Option<&AuditedCall>) -> Option<Entry> {
        let mut entry = self.entry.or_else(|| call.map(Entry::of_call))?;
        entry.actor = self.actor.unwrap_or(entry.actor);
        entry.method = self.command.map_or(entry.method, Cow::Borrowed);
        entry.target = self.target.or(entry.target);
        entry.fields.extend(self.fields);
        if let (Some(deleted), Actor::User { id, .. }) = (self.deleted_user, &entry.actor) {
            entry.is_actor_erased = *id == deleted.to_string();
        }
        Some(entry)
    }
}

impl OutboxTransaction {
    pub(super) fn new(tx: Tx, log: EventLog) -> Self {
        Self { tx, log, events: Vec::new(), audited: Audited::default() }
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

    /// Names the resource that the transaction changes, for the audit log. The name of a user who is deleted must be left out.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass an id of any type, or a text")]
    pub fn set_target(&mut self, kind: &'static str, id: impl ToString, name: Option<&str>) {
        self.audited.target = Some(Target { kind: kind.into(), id: id.to_string(), name: name.map(str::to_owned) });
    }

    /// Names the user whom the transaction deletes, and whose personal data the entry in the audit log must not contain.
    pub fn set_deleted_user(&mut self, user_id: UserId) {
        self.set_target("user", user_id, None);
        self.audited.deleted_user = Some(user_id);
    }

    /// Adds the name of a field that the transaction changes, for the audit log.
    pub fn add_field(&mut self, field: impl Into<Cow<'static, str>>) {
        self.audited.fields.push(field.into());
    }

    /// Names the one who acts, where a method does not need an access token.
    pub fn set_actor(&mut self, actor: Actor) {
        self.audited.actor = Some(actor);
    }

    /// Replaces the name of the command by a more precise one, such as `users create`.
    pub fn set_command(&mut self, name: &'static str) {
        self.audited.command = Some(name);
    }

    /// Sets the entry in the audit log for a transaction that does not belong to a call of an audited method.
    pub fn set_entry(&mut self, entry: Entry) {
        self.audited.entry = Some(entry);
    }

    /// Sets the entry for a change that the service makes by itself, unless a command makes it.
    pub fn set_system_entry(&mut self, method: &'static str) {
        if AuditedCall::get().is_none() {
            let outcome = CODE_NAMES[0].into();
            self.set_entry(Entry { actor: Actor::System, method: method.into(), outcome, ..Entry::default() });
        }
    }

    /// Writes the entry in the audit log and the recorded events, and commits them with the changes.
    pub async fn commit(self) -> Result<()> {
        let Self { mut tx, log, events, audited } = self;
        let call = AuditedCall::get();
        if let Some(entry) = audited.into_entry(call.as_ref()) {
            log.audit_log().record(&mut tx, entry).await?;
        }
        if events.is_empty() {
            tx.commit().await?;
        } else {
            let (last, token_life) = append(&mut tx, &log, &events).await?;
            tx.commit().await?;
            log.notify_committed(last, token_life, &events);
        }
        if let Some(call) = call {
            call.mark_recorded();
        }
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
