//! Starts the server of a service: one port for gRPC, gRPC-Web and HTTP, with health, reflection, logs, configuration and shutdown.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use access::{Clock, token::Verifier};
//! use server::Server;
//!
//! # async fn run(descriptors: &'static [u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Arc::new(Verifier::new("https://auth.example.com", "orders", Clock::system()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:50054").await?;
//! // Server::add(order_service::guarded(Orders)) adds a service.
//! let server = Server::new(Arc::clone(&verifier), descriptors)?;
//! server.serve(listener, || async { verifier.has_keys() }, server::stop_signal()).await?;
//! # Ok(())
//! # }
//! ```

mod accept;
pub mod config;
mod cors_origin;
pub mod health;
mod multiplexer;
mod protocol;
mod request_log;
mod server;
mod stack;
mod stop_signal;
pub mod telemetry;

pub use gateway::openapi::DocumentError;
pub use tonic_reflection::server::Error as ReflectionError;

pub use self::{
    cors_origin::CorsOrigin,
    server::{REVOCATIONS, Server},
    stop_signal::stop_signal,
};
