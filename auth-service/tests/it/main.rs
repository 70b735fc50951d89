//! Integration tests of auth-service through its public API, on both database engines.
#![allow(missing_docs, reason = "the test names document the tests")]

mod administration;
mod administration_commands;
mod app;
mod check_command;
mod clients;
mod clients_command;
mod crash;
mod described;
mod django;
mod django_tokens;
mod events;
mod explain;
mod gateway;
mod groups;
mod guards;
mod guessing;
mod keys;
mod keys_command;
mod logging;
mod metrics;
mod migrating;
mod oauth;
mod outage;
mod permissions;
mod pooler;
mod refresh_model;
mod revocation;
mod schema;
mod session_factory;
mod sessions;
mod simplejwt;
mod starting;
mod superusers;
mod users;
