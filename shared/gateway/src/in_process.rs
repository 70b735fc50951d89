//! Calls the server's own gRPC services in process: the same authentication, guards and handlers, without a socket.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use access::{ClientInfo, GuardedRoutes, NormalizeStatus};
use axum::extract::FromRequestParts;
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri, header, request::Parts};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

/// The server's own services, for calls on behalf of one HTTP request. A generated client accepts it as a channel:
///
/// ```text
/// async fn token(grpc: InProcess, Form(form): Form<TokenRequest>) -> Response {
///     let answer = TokenServiceClient::new(grpc).refresh(form.into()).await;
///     …
/// }
/// ```
///
/// An axum handler that a service adds with `Server::merge_http` takes it as an argument. The calls have the client information of
/// the HTTP request and are part of it: they share its request id and its deadline, and write no separate log line. They carry only
/// the credentials that the handler puts into their metadata.
#[derive(Debug, Clone)]
pub struct InProcess {
    stack: GuardedRoutes,
    client_info: ClientInfo,
}

impl InProcess {
    /// Creates the services for one HTTP request of this client.
    pub fn new(stack: GuardedRoutes, client_info: ClientInfo) -> Self {
        Self { stack, client_info }
    }

    /// Returns the client of the HTTP request.
    pub fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }

    /// Authenticates a call of the gRPC method at the path `method` before its body is read. Returns the services, and the extensions
    /// that the request to them must have.
    pub(crate) async fn authenticate(
        self,
        method: &Uri,
        headers: &HeaderMap,
    ) -> Result<(NormalizeStatus<Routes>, Extensions), Status> {
        let mut request = Request::new(());
        request.uri_mut().clone_from(method);
        for credentials in headers.get_all(header::AUTHORIZATION) {
            request.headers_mut().append(header::AUTHORIZATION, credentials.clone());
        }
        request.extensions_mut().insert(self.client_info);
        let services = self.stack.authenticate(&mut request).await?;
        Ok((services, request.into_parts().0.extensions))
    }
}

impl Service<Request<Body>> for InProcess {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.client_info.clone());
        self.stack.call(request)
    }
}

impl<S: Sync> FromRequestParts<S> for InProcess {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // The extension is absent only if the router runs outside this gateway.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
