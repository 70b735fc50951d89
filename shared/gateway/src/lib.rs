//! Serves the gRPC services of a server over HTTP with JSON or XML, in process, and describes them with `OpenAPI` and an API page.
//!
//! ```
//! // The routes come from the `google.api.http` options in the descriptors.
//! let bindings = gateway::read(access::proto::DESCRIPTORS)?;
//! assert!(bindings.iter().any(|binding| binding.grpc_path() == "/auth.v1.TokenService/Login"));
//! # Ok::<(), String>(())
//! ```

mod api_docs;
mod body;
mod codec;
mod conditions;
mod error;
mod format;
mod gateway;
mod in_process;
mod json;
mod json_to_message;
mod matched_route;
mod message_json;
mod metadata;
pub mod openapi;
mod parameters;
mod response;
mod routes;
mod update_mask;
mod xml;

pub use self::{
    api_docs::{ApiDocs, routes as api_docs_routes},
    error::HttpError,
    format::Format,
    gateway::{CachePolicy, Gateway},
    in_process::InProcess,
    matched_route::MatchedRoute,
    message_json::MessageJson,
    routes::{Binding, read},
};

#[cfg(test)]
mod tests;
