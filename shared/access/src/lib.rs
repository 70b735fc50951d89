//! Protects a tonic service: it verifies access tokens (RFC 9068) locally, enforces the access rules of the protos, and validates
//! requests.
//!
//! There are three ways to use it. Each enforces more than the one before:
//!
//! 1. [`Interceptor`] verifies the bearer token and puts a [`Caller`] into the request's extensions. It works with services
//!    from any code generator, and enforces no rules.
//! 2. [`AccessLayer`] (Cargo feature `layer`) also enforces the access rules that it reads from the descriptors of any tonic service.
//! 3. The guard that `access-build` generates enforces everything: access rules, ownership and validation. A method without a rule
//!    does not compile. [`Routes`] serves guarded handlers.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//!
//! use access::{
//!     Clock, Interceptor,
//!     token::{Verifier, auth_channel, follow_auth_service},
//! };
//!
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! // Accepts the tokens of this issuer whose audience contains this service.
//! let verifier = Arc::new(Verifier::new("https://auth.example.com", "orders", Clock::system()));
//! // Fetches the public keys at once, and again every minute. Without keys every token is rejected.
//! let channel = auth_channel("http://127.0.0.1:50051")?;
//! tokio::spawn(follow_auth_service(Arc::clone(&verifier), Duration::from_secs(60), channel));
//! let interceptor = Interceptor::new(verifier);
//! // OrderServiceServer::with_interceptor(orders, interceptor)
//! # drop(interceptor);
//! # Ok(())
//! # }
//! ```
//!
//! A verifier accepts a revoked token until it expires, unless [`events::follow_revocations`] tells it about revocations.
//!
//! # The parts
//!
//! * [`token`] verifies access tokens, keeps the public keys up to date, and gets tokens for the service itself
//!   ([`token::ServiceToken`]).
//! * [`events`] follows the events of the auth service. [`events::follow_revocations`] makes a verifier reject revoked tokens before they
//!   expire, and [`events::EventConsumer`] keeps data about users up to date.
//! * [`error`] contains the errors of handlers. Each becomes a gRPC status with `google.rpc.ErrorInfo`.
//! * [`guard`] and [`validate`] are what generated guards call. A service does not call them itself.
//!
//! A handler receives a [`Caller`] and returns a [`Result`]:
//!
//! ```
//! use access::{Caller, Error, Result};
//!
//! async fn rename(caller: Caller, name: String) -> Result<String> {
//!     if name == "admin" {
//!         // INVALID_ARGUMENT, with the field and the rule in `google.rpc.BadRequest`.
//!         return Err(Error::invalid("name", "orders.reserved_name", "name must not be admin"));
//!     }
//!     Ok(format!("{} is now {name}", caller.username().unwrap_or("a service")))
//! }
//! # drop(rename);
//! ```
//!
//! # Cargo features
//!
//! * `layer`: [`AccessLayer`]
//! * `tls`: https URLs for the connection to the auth service
//! * `sqlx`: [`Id`] as a value of database columns

// Generated code refers to this crate by its public name, so that the same code also compiles inside the crate.
extern crate self as access;

mod access_rules;
mod access_rules_file;
mod audited_call;
mod authentication;
mod call_limit;
mod caller;
mod client_info;
mod client_presence;
mod clock;
mod current_call;
pub mod error;
pub mod events;
mod field_path;
pub mod guard;
mod id;
mod interceptor;
pub mod json;
mod key_counts;
#[cfg(feature = "layer")]
mod layer;
pub mod limits;
mod normalize_status;
mod resource;
mod routes;
mod secret_file;
pub mod text_size;
pub mod token;
pub mod trace;
pub mod validate;

pub use contract::{AccessPolicy, AccessRule, Actor, MethodRule, RevocationMode, is_permission};

pub use self::{
    access_rules::AccessRules,
    access_rules_file::{AccessRulesFile, AccessRulesFileError, MethodEntry, MethodPolicy},
    audited_call::{AuditRecorder, AuditedCall, CallTarget},
    authentication::{Authentication, AuthenticationLayer, OnAuthenticated},
    call_limit::CallLimit,
    caller::Caller,
    client_info::{ClientInfo, parse_network, rate_limit_key},
    client_presence::ClientPresence,
    clock::Clock,
    current_call::CurrentCall,
    error::{Error, Result},
    field_path::{FieldPath, PathStep, RuleId},
    id::{Id, IdSequence, Session, SessionId, User, UserId},
    interceptor::Interceptor,
    key_counts::KeyCounts,
    normalize_status::{NormalizeStatus, NormalizeStatusLayer},
    resource::{Resource, ResourceField},
    routes::{Guarded, GuardedRoutes, Routes},
    secret_file::{SecretFileError, read_secret_file},
};
#[cfg(feature = "layer")]
pub use self::{access_rules::AccessRulesError, layer::AccessLayer};

/// The messages and clients that every service shares.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    /// The access rules and the reasons of errors.
    pub mod access {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("access.v1");
        }
    }
    /// The auth service: keys, tokens and events.
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

    /// The descriptors of the protos above, with their comments.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
