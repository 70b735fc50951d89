//! The contract of a service: what its protos declare about each method and each field.
//!
//! The types of the access rules ([`AccessRule`], [`AccessPolicy`]) are always available: generated code and the guards use them.
//! With the Cargo feature `descriptors` the crate also reads the whole contract from protobuf descriptors. Build scripts, the
//! access layer, the HTTP gateway and the `OpenAPI` document all read it here, so that each option has one meaning.
//!
//! ```
//! use contract::{AccessPolicy, AccessRule, RevocationMode};
//!
//! let rule = AccessRule { policy: AccessPolicy::Authenticated, actors: (&[]).into(), revocation: RevocationMode::Local };
//! assert_eq!(rule.policy.permission(), None);
//! ```
//!
//! A declaration that contradicts itself is a `ContractError`, whose message names the method or the field. `access-build` reports it when
//! a service is built, and `AccessLayer` when a service starts.

mod access_rule;
#[cfg(feature = "descriptors")]
mod comment;
#[cfg(feature = "descriptors")]
mod declared_rule;
#[cfg(feature = "descriptors")]
mod field_behavior;
#[cfg(feature = "descriptors")]
mod field_path;
#[cfg(feature = "descriptors")]
mod field_rules;
#[cfg(feature = "descriptors")]
mod http_route;
#[cfg(feature = "descriptors")]
mod option;
#[cfg(feature = "descriptors")]
mod path_template;

#[cfg(feature = "descriptors")]
pub use self::{
    comment::comment,
    declared_rule::DeclaredRule,
    field_behavior::FieldBehavior,
    field_path::{field_at, path_of_fields},
    field_rules::{FieldRules, ValueRule, has_message_rules, oneof_is_required},
    http_route::HttpRoute,
    path_template::{Capture, PathTemplate, Segment},
};
pub use access_rule::{AccessPolicy, AccessRule, Actor, MethodRule, RevocationMode, UnknownActor, is_permission};

/// A declaration in the protos that contradicts itself or cannot be understood.
#[cfg(feature = "descriptors")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{element}: {problem}")]
pub struct ContractError {
    /// The full name of the method, message or field.
    pub element: String,
    /// A sentence that says what is wrong and what is accepted.
    pub problem: String,
}

#[cfg(feature = "descriptors")]
impl ContractError {
    /// Creates an error about the element with this full name.
    pub fn new(element: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { element: element.into(), problem: problem.into() }
    }
}
