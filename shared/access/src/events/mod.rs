//! The events of the auth service: their kinds, and a client that follows them.
//!
//! A service that only verifies tokens needs [`follow_revocations`]. A service that stores data about users implements
//! [`EventConsumer`], and [`watch`] keeps it up to date.
//!
//! ```no_run
//! use access::events::{
//!     Batch, EventConsumer, EventKind, EventSource, Position, StartFrom, WatchError, WatchProgress, watch,
//! };
//!
//! #[derive(Default)]
//! struct DeletedUsers {
//!     count: usize,
//!     position: Option<Position>,
//! }
//!
//! impl EventConsumer for DeletedUsers {
//!     const KINDS: &'static [EventKind] = &[EventKind::UserDeleted];
//!
//!     async fn position(&mut self) -> Result<StartFrom, WatchError> {
//!         Ok(self.position.clone().map_or(StartFrom::RevocationWindow, StartFrom::Position))
//!     }
//!
//!     async fn apply(&mut self, batch: Batch) -> Result<bool, WatchError> {
//!         self.count += batch.events.len();
//!         self.position = Some(batch.through);
//!         Ok(true)
//!     }
//!
//!     async fn resync(&mut self, _: &EventSource) -> Result<(), WatchError> {
//!         self.position = None;
//!         Ok(())
//!     }
//! }
//!
//! # fn follow(source: EventSource) {
//! tokio::spawn(watch(source, DeletedUsers::default(), WatchProgress::default()));
//! # }
//! ```
//!
//! A consumer that writes to a database stores the position in the same transaction as the data, so that each event has its
//! effect once.

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
