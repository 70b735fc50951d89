//! A plain interceptor for services that anybody has generated.

use std::sync::Arc;

use http::HeaderValue;
use tonic::{Request, Status, metadata::MetadataMap};

use crate::{Caller, ClientInfo, Error, authentication::bearer_token, token::Verifier};

/// Verifies the bearer token of every call and puts a [`Caller`] into the request's extensions:
/// `GreeterServer::with_interceptor(greeter, Interceptor::new(verifier))`.
///
/// A call without a valid access token fails with UNAUTHENTICATED before its handler runs. The status is the same for every
/// reason; the log contains the reason.
///
/// An interceptor sees neither the method nor the message and cannot await. So it enforces no access rules, it does not validate,
/// and a token with an unknown key id is rejected instead of waiting for new keys. Behind a proxy, the address in
/// [`Caller::client_info`] is that of the proxy. Use `AccessLayer` or the generated guard where methods differ in who may call
/// them.
#[derive(Debug, Clone)]
pub struct Interceptor {
    verifier: Arc<Verifier>,
}

impl Interceptor {
    /// Creates an interceptor that verifies tokens with `verifier`.
    pub fn new(verifier: Arc<Verifier>) -> Self {
        Self { verifier }
    }
}

impl tonic::service::Interceptor for Interceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = request.remote_addr().map(|address| address.ip());
        let metadata = std::mem::take(request.metadata_mut());
        let headers = metadata.into_headers();
        let unauthenticated = || Status::from(Error::access_token_invalid());
        let token = bearer_token(&headers).ok_or_else(unauthenticated)?;
        let token = self.verifier.verify(token).map_err(|reason| {
            tracing::info!(%reason, "an access token is rejected");
            unauthenticated()
        })?;
        let user_agent: Option<HeaderValue> = headers.get(http::header::USER_AGENT).cloned();
        let client_info = ClientInfo::from_peer(peer, user_agent);
        let caller = Caller::new(token, self.verifier.revocations().are_fresh(), client_info);
        request.extensions_mut().insert(caller);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}
