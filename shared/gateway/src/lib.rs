//! Serves the gRPC services of a server over HTTP with JSON or XML, in process, and describes them with `OpenAPI` and an API page.
//!
//! ```
//! // The routes come from the `google.api.http` options in the descriptors.
//! let bindings = gateway::read(access::proto::DESCRIPTORS)?;
//! assert!(bindings.iter().any(|binding| binding.grpc_path() == "/auth.v1.TokenService/Login"));
//! # Ok::<(), String>(())
//! ```
//!
//! A [`Gateway`] builds one request message from the path, the query and the body, and calls the gRPC services in the same process
//! ([`InProcess`]), so that authentication, the guard and the handler are those of gRPC. The response becomes JSON, XML, lines or
//! server-sent events. An [`HttpError`] is an error of HTTP itself, with a `google.rpc.Status` as its body.
//!
//! [`openapi`] derives the `OpenAPI` 3.1 document from the same descriptors, and [`ApiDocs`] serves a page that shows it.
//! Services do not call a [`Gateway`] directly: `server` contains one. They use [`InProcess`] in the HTTP routes that they add,
//! [`ApiDocs`] for the settings of the page, and [`MessageJson`] to print messages.

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
