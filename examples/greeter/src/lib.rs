//! A tonic service of your own, protected by `shared`: a handler is reached by whom the proto lets in, with a valid request.

use std::sync::Arc;

use proto::{GreetRequest, GreetResponse, greeter_service};
use shared::{
    Caller, Result,
    server::{ReflectionError, Server},
    token::Verifier,
};

/// The messages, clients and guards of `greeter.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("greeter.v1");
}

/// The name of this service in the audience of tokens.
pub const NAME: &str = "greeter";

struct Greeter;

impl greeter_service::Handlers for Greeter {
    async fn greet(&self, caller: Caller, request: GreetRequest) -> Result<GreetResponse> {
        let from = caller.username().unwrap_or("a service");
        Ok(GreetResponse { greeting: format!("Hello {}, says {from}", request.name) })
    }
}

/// The server, behind its guard.
///
/// # Errors
///
/// Descriptors that are none.
pub fn server(verifier: Arc<Verifier>) -> Result<Server, ReflectionError> {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    Ok(Server::new(verifier, descriptors)?.add(greeter_service::guarded(Greeter)))
}
