//! The greeter behind the server that all services here use: gRPC, gRPC-Web and HTTP on one port, with health, reflection, an `OpenAPI`
//! document, the API page and metrics.

use std::{error::Error, sync::Arc};

use access::token::Verifier;
use axum::{Router, routing::get};
use gateway::ApiDocs;
use server::Server;

/// Returns the server. The API page signs in at `auth_url`.
///
/// # Errors
///
/// Returns an error if the descriptors are not valid.
pub fn server(verifier: Arc<Verifier>, auth_url: &str) -> Result<Server, Box<dyn Error>> {
    let api_docs = ApiDocs { auth_url: auth_url.to_owned() };
    let server = Server::new(Arc::clone(&verifier), greeter::DESCRIPTORS)?;
    let server = server
        .add(greeter::guarded())
        .merge_http(Router::new().route("/metrics", get(async move || metrics(&verifier))))
        .with_openapi("Greeter", env!("CARGO_PKG_VERSION"), Some(&api_docs));
    Ok(server?)
}

/// Returns the metrics of the verifier in the text format of Prometheus.
fn metrics(verifier: &Verifier) -> String {
    let are_fresh = u8::from(verifier.revocations().are_fresh());
    format!(
        "# HELP greeter_revocations_fresh Whether the list of revocations is fresh.\n\
         # TYPE greeter_revocations_fresh gauge\n\
         greeter_revocations_fresh {are_fresh}\n"
    )
}
