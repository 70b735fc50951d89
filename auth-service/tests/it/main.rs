//! The auth service, through the front door, on both engines.
#![allow(missing_docs, reason = "a test's name is its documentation")]

mod administration;
mod app;
mod crash;
mod gateway;
mod guards;
mod guessing;
mod keys;
mod keys_command;
mod migrating;
mod opener;
mod outage;
mod refresh_model;
mod revocation;
mod sessions;
mod starting;
mod users;
