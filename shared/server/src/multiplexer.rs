//! Serves every protocol on one port: gRPC and gRPC-Web requests go to the services, all other HTTP requests to the gateway.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, header};
use tonic::body::Body;
use tower::{Layer, Service};
use tower_http::cors::{Cors, CorsLayer};

use crate::{
    protocol::Protocol,
    stack::{HttpService, reject_large_headers},
};

/// The service that sends each request to the service of its protocol.
#[derive(Debug, Clone)]
pub(crate) struct ProtocolMultiplexer<G> {
    grpc: G,
    web: WebMultiplexer,
    cross_origin: Cors<WebMultiplexer>,
}

/// The service for the protocols that web pages use.
#[derive(Debug, Clone)]
pub(crate) struct WebMultiplexer {
    grpc_web: HttpService,
    http: HttpService,
}

impl<G> ProtocolMultiplexer<G> {
    pub(crate) fn new(grpc: G, grpc_web: HttpService, http: HttpService, cors: &CorsLayer) -> Self {
        let web = WebMultiplexer { grpc_web, http };
        Self { grpc, cross_origin: cors.layer(web.clone()), web }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<G> Service<Request<Body>> for ProtocolMultiplexer<G>
where
    G: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        if Protocol::from_headers(request.headers()) == Protocol::Grpc {
            Box::pin(self.grpc.call(request))
        } else if let Some(response) = reject_large_headers(&request) {
            Box::pin(async { Ok(response) })
        } else if is_cross_origin(&request) {
            Box::pin(self.cross_origin.call(request))
        } else {
            self.web.call(request)
        }
    }
}

/// Returns true for a request of a web page and for its preflight request. `CorsLayer` would answer every OPTIONS request, even one
/// that asks for the methods of a path.
fn is_cross_origin(request: &Request<Body>) -> bool {
    let headers = request.headers();
    headers.contains_key(header::ORIGIN)
        && (request.method() != Method::OPTIONS || headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD))
}

impl Service<Request<Body>> for WebMultiplexer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The inner services are always ready, because those of tonic have no concurrency limit.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match Protocol::from_headers(request.headers()) {
            Protocol::Grpc | Protocol::GrpcWeb => Box::pin(self.grpc_web.call(request)),
            Protocol::Http => Box::pin(self.http.call(request)),
        }
    }
}
