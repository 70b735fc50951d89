//! A tonic service that is protected by the guard which `access-build` generates. A handler is called only for a caller that the
//! access rule allows, with a valid request.

use std::sync::Arc;

use access::{Caller, Guarded, Result, Routes, token::Verifier};
use proto::{GreetRequest, GreetResponse, greeter_service};

/// The messages, clients and guards of `greeter.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("greeter.v1");
}

/// The descriptors of `greeter.v1`, for reflection and `OpenAPI`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The name of this service in the audience of tokens.
pub const NAME: &str = "greeter";

struct Greeter;

impl greeter_service::Handlers for Greeter {
    async fn greet(&self, caller: Caller, request: GreetRequest) -> Result<GreetResponse> {
        let from = caller.username().unwrap_or("a service");
        Ok(GreetResponse { greeting: format!("Hello {}, says {from}", request.name) })
    }
}

/// Returns the service behind its guard.
pub fn guarded() -> Guarded {
    greeter_service::guarded(Greeter)
}

/// Returns the routes that tonic's own server serves: authentication, then the guard, then the handler.
pub fn routes(verifier: Arc<Verifier>) -> Routes {
    Routes::new(verifier).add(guarded())
}
