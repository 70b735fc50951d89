//! Serves every protocol on one port: gRPC and gRPC-Web requests go to the services, all other HTTP requests to the gateway.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use access::error::{Reason, status};
use http::{Request, Response};
use tonic::{Code, body::Body};
use tower::{Service, ServiceExt};

use crate::{
    error_format::ErrorFormat,
    protocol::{self, Protocol},
    stack::HttpService,
};

/// The service that sends each request to the service of its protocol.
///
/// It is cloned for each call, so its clones share the services of the other protocols: a clone of those is many allocations.
#[derive(Debug, Clone)]
pub(crate) struct ProtocolMultiplexer<G> {
    grpc: G,
    others: Arc<Others>,
}

#[derive(Debug)]
struct Others {
    grpc_web: HttpService,
    http: HttpService,
}

impl<G> ProtocolMultiplexer<G> {
    pub(crate) fn new(grpc: G, grpc_web: HttpService, http: HttpService) -> Self {
        Self { grpc, others: Arc::new(Others { grpc_web, http }) }
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
        // The other services are asked when they are called.
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        match Protocol::from_headers(request.headers()) {
            Protocol::Grpc => Box::pin(self.grpc.call(request)),
            Protocol::GrpcWeb => {
                protocol::normalize_grpc_web(request.headers_mut());
                Box::pin(self.others.grpc_web.clone().oneshot(request))
            }
            Protocol::UnknownGrpc => {
                let message = "messages must be encoded as Protobuf: application/grpc, application/grpc+proto or gRPC-Web";
                let unknown = status(Code::Unimplemented, Reason::MethodUnknown, message);
                let response = ErrorFormat::negotiate(request.headers()).response(unknown);
                Box::pin(async { Ok(response) })
            }
            Protocol::Http => Box::pin(self.others.http.clone().oneshot(request)),
        }
    }
}
