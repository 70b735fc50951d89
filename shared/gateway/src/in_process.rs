//! The server's own gRPC stack, for what answers plain HTTP: the same authentication, guards and handlers, without a socket.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::extract::FromRequestParts;
use http::{Extensions, HeaderMap, Request, Response, StatusCode, Uri, header, request::Parts};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

use access::{ClientInfo, GuardedRoutes, NormalizeStatus};

/// The server's own services, called on behalf of one HTTP call. A generated client takes it for a channel:
///
/// ```text
/// async fn token(grpc: InProcess, Form(form): Form<TokenRequest>) -> Response {
///     let answer = TokenServiceClient::new(grpc).refresh(form.into()).await;
///     …
/// }
/// ```
///
/// A handler that a service adds with `Server::merge_http` takes it as an argument. The calls come from where the HTTP call comes
/// from, and count as a part of it: they have its request id, its deadline, and no log line of their own. They carry no
/// credentials but those that are put into their metadata.
#[derive(Debug, Clone)]
pub struct InProcess {
    stack: GuardedRoutes,
    client_info: ClientInfo,
}

impl InProcess {
    /// Creates the services for the HTTP call of one client.
    pub fn new(stack: GuardedRoutes, client_info: ClientInfo) -> Self {
        Self { stack, client_info }
    }

    /// Where the HTTP call comes from.
    pub fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }
}

impl InProcess {
    /// Authenticates a call of the method at `method` before anything of it is read: the services, and what a request to
    /// them carries.
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
        // Only a router that no server serves has none.
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
