//! Starts the server of a service: one port for gRPC, gRPC-Web and HTTP, with health, reflection, logs, configuration and shutdown.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use access::{Clock, token::Verifier};
//! use server::{Health, Server};
//!
//! # async fn run(descriptors: &'static [u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Arc::new(Verifier::new("https://auth.example.com", "orders", Clock::system()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:50054").await?;
//! // Server::add(order_service::guarded(Orders)) adds a service.
//! let server = Server::new(Arc::clone(&verifier), descriptors)?;
//! server.serve(listener, || async { Health::new().require(verifier.has_keys(), "there are no keys") }, server::stop_signal()).await?;
//! # Ok(())
//! # }
//! ```

mod accept;
mod access_log;
mod admission;
pub mod check;
pub mod command;
mod concurrency;
pub mod config;
mod connections;
mod cors_origin;
mod cross_origin;
mod deadline;
mod drain;
mod error_format;
pub mod health;
mod health_service;
mod limits;
mod log_writer;
pub mod metrics;
mod multiplexer;
mod protocol;
mod server;
mod settings;
mod stack;
mod stop_signal;
pub mod telemetry;
pub mod tls;
mod unread;

pub use gateway::openapi::DocumentError;
pub use tonic_reflection::server::Error as ReflectionError;

pub use self::{
    cors_origin::CorsOrigin,
    health_service::{Health, REVOCATIONS, WRITES},
    limits::ServerLimits,
    server::{Server, ServerError},
    settings::ServerSettings,
    stop_signal::stop_signal,
};
