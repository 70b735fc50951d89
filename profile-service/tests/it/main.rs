//! The service through its front door, on both engines.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod administration_commands;
mod app;
mod audit;
mod cancellation;
mod compression;
mod described;
mod django;
mod export;
mod favorites;
mod friends;
pub mod gateway;
mod gateway_parity;
mod grpc_gateway;
mod guards;
mod metrics;
mod note_lists;
mod notes;
mod outage;
mod pooler;
mod profiles;
mod quotas;
mod readers;
mod schema;
mod starting;
mod traces;
