//! An audit log in the database of a service: who did what to whom, when, from where, and with what outcome.
//!
//! An entry is a row that is written in the transaction of the change that it describes ([`AuditLog::record`]), so that no change is acknowledged
//! without its entry. Every few seconds one replica moves the entries that were committed since to the table with the indexes, and seals them
//! ([`seal`]): an HMAC over the batch and over the seal before it. [`verify`] finds every sealed entry that was altered, inserted or removed since.
//!
//! # Use it in a service
//!
//! 1. Copy the tables of [`SCHEMA`] into the `schema.sql` of the service and run `makemigrations`. A test compares the two texts. For logical
//!    replication of PostgreSQL, add `ALTER TABLE audit_new_event REPLICA IDENTITY FULL` to the migration, because the table has no key.
//! 2. Create one [`AuditLog`] and run [`AuditLog::keep`] beside the server. It writes the counting entries of floods, seals, publishes the
//!    newest seal in the log, and applies the retention. It needs an [`AuditKey`], which is derived from a secret of at least 32 bytes.
//! 3. Set `audit: true` in the access rule of a method, with `audit_target` if a field of the request names what the method acts on. The
//!    generated `Handlers` trait then has a method `audit`, which returns the [`AuditLog`]: the guard reports refused calls to it. The
//!    handler finds its call with [`AuditedCall::get`], writes [`Entry::of_call`] with [`AuditLog::record`] in its transaction, and calls
//!    [`AuditedCall::mark_recorded`] after the commit. The guard reports an audited call that succeeds without an entry as a fault, and
//!    panics in a debug build. It is best to do this in the one function with which every handler commits.
//! 4. Run each command of the command line in [`AuditedCall::scope`] of [`AuditedCall::command`]: the same function then writes its entry,
//!    with the operating-system user as the actor. Pass [`record_migrations`] to the migration commands.
//! 5. Call [`erase`] where a user is deleted, and again a few minutes later, because a call of the user may have been in flight.
//! 6. Serve [`list`] as an RPC, and [`list`], [`Event::to_json`] and [`verify`] as the commands `audit list`, `audit export` and
//!    `audit verify`, with [`command`].
//!
//! An entry never contains a value that was changed: it names fields, and ids of targets.
//!
//! [`AuditedCall::get`]: access::AuditedCall::get
//! [`AuditedCall::mark_recorded`]: access::AuditedCall::mark_recorded
//! [`AuditedCall::command`]: access::AuditedCall::command
//! [`AuditedCall::scope`]: access::AuditedCall::scope

pub mod command;
mod encoding;
mod entry;
mod erasure;
mod event;
mod floods;
mod key;
mod list;
mod log;
mod migrations;
mod moving;
mod publication;
mod retention;
mod seal;
mod verification;

pub use self::{
    entry::{Actor, Entry, Target},
    erasure::{erase, erase_users},
    event::{Event, EventId},
    key::{AuditKey, AuditKeys},
    list::{Filter, Order, list, list_in_order},
    log::AuditLog,
    migrations::record_migrations,
    publication::{PublishedSeal, PublishedSealError, newest_in_log},
    retention::prune,
    seal::{BATCH_SIZE, Seal, newest_seal, seal},
    verification::{Finding, Verification, verify},
};

/// The declarations of the tables, for the `schema.sql` of a service.
pub const SCHEMA: &str = include_str!("../schema.sql");
