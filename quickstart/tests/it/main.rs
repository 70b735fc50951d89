//! Tests both services together: the profile service applies the changes that the auth service publishes.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod cascade;
mod checked;
mod killed;
mod load;
mod metrics;
mod mistaken;
mod pair;
mod process;
mod restored;
mod revocation;
mod tombstone;
mod traces;
mod writers;
