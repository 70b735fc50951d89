//! Starts the server of a service: one port for gRPC, gRPC-Web and HTTP, with health, reflection, logs, configuration and shutdown.
//!
//! Use it for a service whose handlers have the guards that `access-build` generates. A service that only needs gRPC can serve
//! [`access::Routes`] with tonic's own server instead.
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
//! // `descriptors` is the file `descriptors.bin` that `access-build` writes.
//! let server = Server::new(Arc::clone(&verifier), descriptors)?;
//! // server.add(order_service::guarded(Orders)) adds a service.
//! let check_health = || async { Health::new().require(verifier.has_keys(), "there are no keys") };
//! server.serve(listener, check_health, server::stop_signal()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it adds to a guarded service
//!
//! * **Protocols**: gRPC, gRPC-Web, and HTTP with JSON or XML on one port. [`Server::with_openapi`] describes the HTTP API, and
//!   [`Server::merge_http`] adds routes of its own.
//! * **Limits** ([`ServerLimits`]): connections, headers, concurrent calls and unread responses.
//! * **Operation**: [`Health`] for probes and `grpc.health.v1`, [`metrics`] for Prometheus, [`telemetry`] for the log, and [`tls`].
//! * **Settings** ([`ServerSettings`], [`config`]): each is a flag, an environment variable and a key of a TOML file.
//! * **Commands** ([`command`], [`check`]): tables, JSON, confirmation and checks for the command line of a service.
//!
//! On a stop signal the server becomes not ready, waits at most 20 seconds for the calls in progress, and returns.

mod accept;
mod access_log;
mod admission;
mod call_span;
mod call_status;
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
mod joined_writes;
mod limits;
mod log_format;
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
mod token_calls;
pub mod traces;
mod unread;

pub use tonic_reflection::server::Error as ReflectionError;

pub use self::{
    cors_origin::CorsOrigin,
    health_service::{Health, REVOCATIONS, WRITES},
    limits::ServerLimits,
    server::{Server, ServerError},
    settings::ServerSettings,
    stop_signal::stop_signal,
};
