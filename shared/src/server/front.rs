//! One port for everything: gRPC and gRPC-Web go to the services, and all other HTTP to the gateway and to what is mounted.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header};
use ipnet::IpNet;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};

use super::in_process::{InProcess, Stack};
use crate::{Origin, gateway::Gateway};

/// What a request speaks, as its `content-type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    Grpc,
    GrpcWeb,
    Http,
}

impl Tongue {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        match content_type.strip_prefix(b"application/grpc") {
            Some(rest) if rest.starts_with(b"-web") => Self::GrpcWeb,
            Some(rest) if rest.first().is_none_or(|next| b"+;".contains(next)) => Self::Grpc,
            _ => Self::Http,
        }
    }
}

#[derive(Clone)]
pub(super) struct Front {
    stack: Stack,
    web: GrpcWebService<Stack>,
    gateway: Arc<Gateway>,
    trusted_proxies: Arc<[IpNet]>,
}

impl Front {
    pub(super) fn new(stack: Stack, gateway: Gateway, trusted_proxies: Arc<[IpNet]>) -> Self {
        Self { web: GrpcWebLayer::new().layer(stack.clone()), stack, gateway: Arc::new(gateway), trusted_proxies }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let origin = Origin::of(&request, &self.trusted_proxies);
        match Tongue::of(request.headers()) {
            Tongue::Grpc => {
                request.extensions_mut().insert(origin);
                self.stack.call(request)
            }
            Tongue::GrpcWeb => {
                request.extensions_mut().insert(origin);
                Box::pin(self.web.call(request))
            }
            Tongue::Http => {
                let in_process = InProcess::new(self.stack.clone(), origin);
                let gateway = Arc::clone(&self.gateway);
                Box::pin(async move { Ok(gateway.answer(request, in_process).await) })
            }
        }
    }
}
