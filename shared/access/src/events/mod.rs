//! The events of the auth service: their kinds, and a client that follows them.
//!
//! A service that only verifies tokens needs [`follow_revocations`]. A service that stores data about users implements
//! [`EventConsumer`], and [`watch`] keeps it up to date.

mod kind;
mod progress;
mod revocation_consumer;
mod source;
mod watch;

pub use self::{
    kind::{Event, EventPayload, MAX_SESSIONS, VerifierEffect},
    progress::{ProgressState, WatchProgress},
    revocation_consumer::follow_revocations,
    source::EventSource,
    watch::{Batch, EventConsumer, ReceivedEvent, StartFrom, WatchError, watch},
};
pub use crate::proto::auth::v1::{EventKind, Position, UserState};
