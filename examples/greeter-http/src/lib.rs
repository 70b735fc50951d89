//! The greeter behind the server that all services here use: gRPC, gRPC-Web and HTTP on one port, with health, reflection, an `OpenAPI`
//! document, the API page and metrics.

use std::{error::Error, sync::Arc};

use access::token::Verifier;
use gateway::ApiDocs;
use server::Server;

/// Returns the server. The API page signs in at `auth_url`.
///
/// # Errors
///
/// Returns an error if the descriptors are not valid.
pub fn server(verifier: Arc<Verifier>, auth_url: &str) -> Result<Server, Box<dyn Error>> {
    let api_docs = ApiDocs { auth_url: auth_url.to_owned() };
    let server = Server::new(verifier, greeter::DESCRIPTORS)?;
    Ok(server.add(greeter::guarded()).with_openapi("Greeter", env!("CARGO_PKG_VERSION"), Some(&api_docs)))
}
