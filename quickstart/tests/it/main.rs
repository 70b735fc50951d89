//! Both services together: what the auth service knows, the profile service learns.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod cascade;
mod killed;
mod load;
mod pair;
mod process;
mod restored;
mod revocation;
mod tombstone;
mod writers;
