//! The events that other services need: how they are stored, and how they are read. Their kinds are declared in `access::events`.
//!
//! An [`OutboxTransaction`] collects events. Its last statement before the commit locks the one row of the table `feed` and gives
//! the events the next positions, so that positions are in commit order and have no gaps (transactional outbox).

mod log;
mod outbox;
mod reader;

use access::Id;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use access::events::{Event, EventPayload};

pub use self::{
    log::{CursorError, EventLog},
    outbox::OutboxTransaction,
    reader::EventReader,
};

/// The id of an event.
pub type EventId = Id<Event>;

/// A position in the event log: the one after the event with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The history of events that the position belongs to. A restored database has the same epoch.
    pub epoch: Uuid,
    /// The number of the event. 0 before the first event.
    pub pos: i64,
    /// The id of the event with this number. None at position 0.
    pub event_id: Option<EventId>,
}

/// An event in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its position.
    pub pos: i64,
    /// Its id.
    pub event_id: EventId,
    /// The time at which it happened.
    pub time: DateTime<Utc>,
    /// The event.
    pub event: Event,
}
