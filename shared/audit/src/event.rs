//! A stored entry.

use access::Id;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{encoding::Encoder, moving::SealedColumns};

/// The id of an entry.
pub type EventId = Id<Event>;

/// A row of the table `audit_event`, or of `audit_new_event` without `sealed_columns`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "`schema.sql` documents the columns")]
pub struct Event {
    pub event_id: EventId,
    pub seal_id: Option<i64>,
    pub time: DateTime<Utc>,
    pub actor_type: String,
    pub actor_id: String,
    pub method: String,
    pub target_type: String,
    pub target_id: String,
    pub outcome: String,
    pub reason: String,
    pub(crate) fields: String,
    pub request_id: String,
    pub trace_id: String,
    pub occurrences: i64,
    pub(crate) actor_digest: Option<Vec<u8>>,
    pub(crate) target_digest: Option<Vec<u8>>,
    pub(crate) actor_salt: Option<Vec<u8>>,
    pub actor_name: Option<String>,
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub(crate) target_salt: Option<Vec<u8>>,
    pub target_name: Option<String>,
}

/// The columns that `audit_event` and `audit_new_event` both have.
macro_rules! columns {
    () => {
        "event_id, time, actor_type, actor_id, method, target_type, target_id, outcome, reason, fields, request_id, trace_id, \
         occurrences, actor_digest, target_digest, actor_salt, actor_name, address, user_agent, target_salt, target_name"
    };
}
pub(crate) use columns;

/// The state of the personal data of an actor or of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PersonalData {
    /// The entry never had any.
    Absent,
    /// It is as it was recorded.
    Intact,
    /// It was erased completely.
    Erased,
    /// It is not what was recorded, or was erased in part.
    Altered,
}

impl Event {
    /// Returns the names of the changed fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.split(' ').filter(|field| !field.is_empty())
    }

    /// Returns true if personal data of the entry was erased.
    pub fn is_erased(&self) -> bool {
        [self.actor_data(), self.target_data()].contains(&PersonalData::Erased)
    }

    /// Returns the entry in JSON. Empty fields are left out.
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut add = |name: &str, value: Value| {
            if !value.is_null() && value != "" {
                json.insert(name.to_owned(), value);
            }
        };
        add("eventId", self.event_id.to_string().into());
        add("time", self.time.to_rfc3339_opts(SecondsFormat::Micros, true).into());
        add("actorType", self.actor_type.as_str().into());
        add("actorId", self.actor_id.as_str().into());
        add("actorName", json!(self.actor_name));
        add("method", self.method.as_str().into());
        add("targetType", self.target_type.as_str().into());
        add("targetId", self.target_id.as_str().into());
        add("targetName", json!(self.target_name));
        add("outcome", self.outcome.as_str().into());
        add("reason", self.reason.as_str().into());
        add("fields", self.fields().collect::<Vec<_>>().into());
        add("requestId", self.request_id.as_str().into());
        add("traceId", self.trace_id.as_str().into());
        add("address", json!(self.address));
        add("userAgent", json!(self.user_agent));
        add("occurrences", self.occurrences.into());
        add("isErased", self.is_erased().into());
        add("sealId", json!(self.seal_id));
        json.into()
    }

    /// Returns the sealed columns as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let encoder = Encoder::default()
            .bytes(Uuid::from(self.event_id).as_bytes())
            .number(self.time.timestamp_micros())
            .text(&self.actor_type)
            .text(&self.actor_id)
            .text(&self.method)
            .text(&self.target_type)
            .text(&self.target_id)
            .text(&self.outcome)
            .text(&self.reason)
            .text(&self.fields)
            .text(&self.request_id)
            .text(&self.trace_id)
            .number(self.occurrences);
        encoder.optional(self.actor_digest.as_deref()).optional(self.target_digest.as_deref()).finish()
    }

    /// Returns the sealed columns with the id.
    pub(crate) fn sealed_columns(&self) -> SealedColumns {
        (self.event_id.into(), self.encode())
    }

    pub(crate) fn actor_data(&self) -> PersonalData {
        let values = [&self.actor_name, &self.address, &self.user_agent].map(Option::as_deref);
        personal_data(self.actor_digest.as_deref(), self.actor_salt.as_deref(), &values)
    }

    pub(crate) fn target_data(&self) -> PersonalData {
        personal_data(self.target_digest.as_deref(), self.target_salt.as_deref(), &[self.target_name.as_deref()])
    }
}

/// Returns the digest of personal data.
pub(crate) fn personal_digest(salt: &[u8], values: &[Option<&str>]) -> Vec<u8> {
    let encoder = Encoder::default().bytes(salt);
    values.iter().fold(encoder, |encoder, value| encoder.optional(value.map(str::as_bytes))).digest()
}

fn personal_data(digest: Option<&[u8]>, salt: Option<&[u8]>, values: &[Option<&str>]) -> PersonalData {
    let is_empty = values.iter().all(Option::is_none);
    match (digest, salt) {
        (None, None) if is_empty => PersonalData::Absent,
        (Some(_), None) if is_empty => PersonalData::Erased,
        (Some(digest), Some(salt)) if personal_digest(salt, values) == digest => PersonalData::Intact,
        _ => PersonalData::Altered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that an earlier version has sealed must stay verifiable.
    #[test]
    fn the_bytes_of_an_entry_never_change() {
        let entry = Event {
            event_id: EventId::parse("event_id", "0193c2b0-5c00-7000-8000-000000000001").expect("an id"),
            seal_id: Some(1),
            time: DateTime::from_timestamp_micros(1_764_000_000_123_456).expect("a time"),
            actor_type: "user".into(),
            actor_id: "a".into(),
            method: "m".into(),
            target_type: "t".into(),
            target_id: String::new(),
            outcome: "OK".into(),
            reason: String::new(),
            fields: "x y".into(),
            request_id: "r".into(),
            trace_id: "\u{fc}".into(),
            occurrences: 3,
            actor_digest: Some(vec![1, 2]),
            target_digest: None,
            actor_salt: Some(vec![3]),
            actor_name: Some("name".into()),
            address: None,
            user_agent: None,
            target_salt: None,
            target_name: None,
        };
        let text = |bytes: &[u8]| [&[0, 0, 0, 0, 0, 0, 0, u8::try_from(bytes.len()).expect("a short text")], bytes].concat();
        let mut expected = text(&[0x01, 0x93, 0xc2, 0xb0, 0x5c, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend(1_764_000_000_123_456_i64.to_be_bytes());
        for value in ["user", "a", "m", "t", "", "OK", "", "x y", "r", "\u{fc}"] {
            expected.extend(text(value.as_bytes()));
        }
        expected.extend(3_i64.to_be_bytes());
        expected.extend([&[1], text(&[1, 2]).as_slice(), &[0]].concat());
        assert_eq!(entry.encode(), expected);
    }
}
