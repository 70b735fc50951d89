//! What others have to be told: the events, how they are added, and how they are read.
//!
//! A [`OutboxTransaction`] is a transaction that collects events. Its commit gives them the next positions as the very last thing, with
//! the lock on the one row of `feed`: so the order of positions is the order of commits, without a gap.

mod log;
mod outbox;

use access::{Error, Id, Result, SessionId, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

pub use log::{CursorError, EventLog, Reader};
pub use outbox::OutboxTransaction;

/// How many sessions one event tells of. Whoever reads events keeps them in memory.
const SESSIONS: usize = 500;

/// The id of an event.
pub type EventId = Id<Event>;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The user whom it happened to, and the version of the user after it.
    pub user: Option<(UserId, i64)>,
    /// What it was.
    pub what: What,
}

/// What has happened: the column `kind`, and the column `payload` where there is more to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the kinds, as the proto documents them")]
pub enum What {
    UserCreated { username: String },
    UserRenamed { username: String },
    UserUpdated,
    UserActivated,
    UserDeactivated,
    UserDeleted,
    SessionsEnded { session_ids: Vec<SessionId> },
    PermissionsChanged,
    KeyCreated { kid: String },
    KeyActivated { kid: String },
    KeyRetired { kid: String },
    KeyWithdrawn { kid: String },
    ClientRestricted { client_id: String, version: i64 },
}

impl What {
    /// The columns.
    fn columns(&self) -> Result<(String, String)> {
        let mut value = serde_json::to_value(self).map_err(Error::internal)?;
        let payload = value.get_mut("payload").map_or(Value::Null, Value::take);
        Ok((value["kind"].as_str().unwrap_or_default().to_owned(), payload.to_string()))
    }

    fn read(kind: &str, payload: &str) -> Result<Self> {
        let payload: Value = serde_json::from_str(payload).map_err(Error::internal)?;
        let value = if payload.is_null() { json!({ "kind": kind }) } else { json!({ "kind": kind, "payload": payload }) };
        serde_json::from_value(value).map_err(Error::internal)
    }
}

/// A place in the events: behind the event with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The history that it belongs to.
    pub epoch: Uuid,
    /// 0 before the first event.
    pub pos: i64,
    /// The event there; none at position 0.
    pub event_id: Option<EventId>,
}

/// An event that has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its position.
    pub pos: i64,
    /// Its own id.
    pub event_id: EventId,
    /// When it happened.
    pub time: DateTime<Utc>,
    /// What happened.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let kid = || "k".to_owned();
        let username = || "alice \"o'\u{1F600}\"".to_owned();
        for (what, kind) in [
            (What::UserCreated { username: username() }, "USER_CREATED"),
            (What::UserRenamed { username: username() }, "USER_RENAMED"),
            (What::UserUpdated, "USER_UPDATED"),
            (What::UserActivated, "USER_ACTIVATED"),
            (What::UserDeactivated, "USER_DEACTIVATED"),
            (What::UserDeleted, "USER_DELETED"),
            (What::SessionsEnded { session_ids: vec![Uuid::from_u128(7).into()] }, "SESSIONS_ENDED"),
            (What::PermissionsChanged, "PERMISSIONS_CHANGED"),
            (What::KeyCreated { kid: kid() }, "KEY_CREATED"),
            (What::KeyActivated { kid: kid() }, "KEY_ACTIVATED"),
            (What::KeyRetired { kid: kid() }, "KEY_RETIRED"),
            (What::KeyWithdrawn { kid: kid() }, "KEY_WITHDRAWN"),
            (What::ClientRestricted { client_id: kid(), version: 7 }, "CLIENT_RESTRICTED"),
        ] {
            let (written, payload) = what.columns().expect("columns");
            assert_eq!(written, kind);
            assert_eq!(What::read(&written, &payload).expect("an event"), what, "{payload}");
        }
    }
}
