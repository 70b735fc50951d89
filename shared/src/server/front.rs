//! One port for everything: gRPC and gRPC-Web go to the services, and all other HTTP to the gateway and to what is mounted.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, Version, header};
use ipnet::IpNet;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};

use super::{
    HEADER_LIMIT,
    cors::{self, Cors},
    in_process::{InProcess, Stack},
};
use crate::{
    Origin,
    gateway::{Format, Gateway, Refusal},
};

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
    cors: Cors,
}

impl Front {
    pub(super) fn new(stack: Stack, gateway: Gateway, trusted_proxies: Arc<[IpNet]>, cors: Cors) -> Self {
        Self { web: GrpcWebLayer::new().layer(stack.clone()), stack, gateway: Arc::new(gateway), trusted_proxies, cors }
    }

    fn answer(&mut self, mut request: Request<Body>, tongue: Tongue) -> Answer {
        let origin = Origin::of(&request, &self.trusted_proxies);
        match tongue {
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

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// HTTP/2 counts its header lists by itself.
fn has_too_many_headers(request: &Request<Body>) -> bool {
    let length = |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 32;
    request.version() < Version::HTTP_2 && request.headers().iter().map(length).sum::<usize>() > HEADER_LIMIT as usize
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.stack.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let tongue = Tongue::of(request.headers());
        if tongue == Tongue::Grpc {
            return self.answer(request, tongue);
        }
        if has_too_many_headers(&request) {
            let format = Format::wanted(request.headers());
            return Box::pin(async move { Ok(Refusal::header_too_large().response(format)) });
        }
        let Some(allowed) = self.cors.allows(request.headers()) else { return self.answer(request, tongue) };
        if cors::is_preflight(&request) {
            return Box::pin(async move { Ok(allowed.preflight(request.headers())) });
        }
        let answer = self.answer(request, tongue);
        Box::pin(async move {
            let mut response = answer.await?;
            allowed.expose(response.headers_mut());
            Ok(response)
        })
    }
}
