//! Protects a tonic service: one server stack, local verification of access tokens, guards generated from the protos, and a
//! database that keeps what it acknowledged.
//!
//! The way of a request: [`server`] → [`authenticate`] → [`guard`] (called by generated code) → the service's handlers.
//!
//! `examples/greeter` in the workspace is a whole protected service.

pub mod authenticate;
pub mod batch;
pub mod clock;
pub mod config;
pub mod contract;
pub mod db;
pub mod django;
pub mod error;
pub mod events;
pub mod explorer;
pub mod gateway;
pub mod guard;
pub mod health;
mod http_rule;
pub mod id;
pub mod migrations;
pub mod openapi;
pub mod origin;
pub mod page;
pub mod server;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod update;
pub mod validate;

pub use authenticate::Caller;
pub use clock::Clock;
pub use db::{Db, Tx};
pub use error::{Error, Result};
pub use id::{SessionId, UserId};
pub use origin::Origin;

/// The generated messages that every service shares.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    /// The access rules and the reasons of refusals.
    pub mod access {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("access.v1");
        }
    }
    /// What the verifier asks of the auth service.
    pub mod auth {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("auth.v1");
        }
    }
    /// Google's common types.
    pub mod google {
        tonic::include_proto!("google.r#type");
    }
}
