//! The auth service, through the front door, on both engines.
#![allow(missing_docs, reason = "a test's name is its documentation")]

mod administration;
mod app;
mod clients;
mod clients_command;
mod crash;
mod described;
mod django;
mod django_tokens;
mod events;
mod gateway;
mod groups;
mod guards;
mod guessing;
mod keys;
mod keys_command;
mod migrating;
mod oauth;
mod opener;
mod outage;
mod permissions;
mod refresh_model;
mod revocation;
mod schema;
mod sessions;
mod simplejwt;
mod starting;
mod users;
