//! Serves every protocol on one port: gRPC and gRPC-Web requests go to the services, all other HTTP requests to the gateway.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use access::{ClientInfo, GuardedRoutes};
use gateway::{Format, Gateway, HttpError, InProcess};
use http::{Request, Response, Version};
use ipnet::IpNet;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};

use crate::{
    cors::{self, Cors},
    protocol::Protocol,
};

/// The largest header list of a request, in bytes.
pub(crate) const HEADER_LIMIT: u32 = 8 << 10;

/// The service that sends each request to the services or to the gateway, by its protocol.
#[derive(Clone)]
pub(crate) struct ProtocolMultiplexer {
    stack: GuardedRoutes,
    web: GrpcWebService<GuardedRoutes>,
    gateway: Arc<Gateway>,
    trusted_proxies: Arc<[IpNet]>,
    cors: Cors,
}

impl ProtocolMultiplexer {
    pub(crate) fn new(stack: GuardedRoutes, gateway: Gateway, trusted_proxies: Arc<[IpNet]>, cors: Cors) -> Self {
        Self { web: GrpcWebLayer::new().layer(stack.clone()), stack, gateway: Arc::new(gateway), trusted_proxies, cors }
    }

    fn answer(&mut self, mut request: Request<Body>, protocol: Protocol) -> Answer {
        let client_info = ClientInfo::from_request(&request, &self.trusted_proxies);
        match protocol {
            Protocol::Grpc => {
                request.extensions_mut().insert(client_info);
                self.stack.call(request)
            }
            Protocol::GrpcWeb => {
                request.extensions_mut().insert(client_info);
                Box::pin(self.web.call(request))
            }
            Protocol::Http => {
                let in_process = InProcess::new(self.stack.clone(), client_info);
                let gateway = Arc::clone(&self.gateway);
                Box::pin(async move { Ok(gateway.answer(request, in_process).await) })
            }
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Returns true if an HTTP/1.1 request has too many headers. For HTTP/2 the transport enforces the limit.
fn has_too_many_headers(request: &Request<Body>) -> bool {
    let length = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 32;
    request.version() < Version::HTTP_2 && request.headers().iter().map(length).sum::<usize>() > HEADER_LIMIT as usize
}

impl Service<Request<Body>> for ProtocolMultiplexer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let protocol = Protocol::from_headers(request.headers());
        if protocol == Protocol::Grpc {
            return self.answer(request, protocol);
        }
        if has_too_many_headers(&request) {
            let format = Format::negotiate(request.headers());
            return Box::pin(async move { Ok(HttpError::header_too_large().response(format)) });
        }
        let Some(allowed) = self.cors.allows(request.headers()) else { return self.answer(request, protocol) };
        if cors::is_preflight(&request) {
            return Box::pin(async move { Ok(allowed.preflight(request.headers())) });
        }
        let answer = self.answer(request, protocol);
        Box::pin(async move {
            let mut response = answer.await?;
            allowed.expose(response.headers_mut());
            Ok(response)
        })
    }
}
