//! HTTP with JSON or XML into the server's own gRPC stack, in process.
//!
//! The routes are the `google.api.http` bindings of the protos. Path, query and body of a request become one message, which
//! goes the way of every call: authentication, guard, handler. The answer becomes JSON or XML.

mod answer;
mod body;
mod codec;
mod conditions;
mod format;
mod gzip;
mod input;
mod json;
mod metadata;
mod parameters;
mod refusal;
mod routes;
mod template;
mod xml;

use std::{collections::HashMap, time::Duration};

use axum::{Router, extract::DefaultBodyLimit};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use tonic::{body::Body, client::Grpc, metadata::MetadataMap};
use tower::ServiceExt;

use self::{
    codec::Dynamic,
    format::Framing,
    routes::{Found, Routes},
};
use crate::server::{InProcess, MESSAGE_LIMIT};

pub use refusal::Refusal;

pub(crate) use format::Format;
pub(crate) use gzip::is_taken as takes_gzip;
pub(crate) use routes::{Binding, read};

/// How long the answers of a method may be kept by whoever gets them, by the method's gRPC path.
pub(crate) type Keep = HashMap<&'static str, Duration>;

/// Answers every HTTP request that is no gRPC: by the routes of the protos, or by those that a service has mounted.
pub(crate) struct Gateway {
    routes: Routes,
    mounted: Router,
    keep: Keep,
}

impl Gateway {
    pub(crate) fn new(bindings: impl Iterator<Item = Binding>, mounted: Router, keep: Keep) -> Self {
        let mounted = mounted
            .fallback(async |headers: HeaderMap| refuse(Refusal::no_route(), &headers))
            .method_not_allowed_fallback(async |headers: HeaderMap| refuse(Refusal::wrong_method(None), &headers))
            .layer(DefaultBodyLimit::max(MESSAGE_LIMIT));
        Self { routes: Routes::new(bindings), mounted, keep }
    }

    pub(crate) async fn answer(&self, request: Request<Body>, grpc: InProcess) -> Response<Body> {
        let is_packed = gzip::is_taken(request.headers());
        let is_head = request.method() == Method::HEAD;
        let mut response = self.route(request, grpc).await;
        if is_packed {
            response = gzip::pack(response).await;
        }
        if is_head {
            let length = response.body().size_hint().exact();
            *response.body_mut() = Body::empty();
            if let Some(length) = length.filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
                response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            }
        }
        response
    }

    async fn route(&self, request: Request<Body>, grpc: InProcess) -> Response<Body> {
        let format = Format::wanted(request.headers());
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let path = request.uri().path().to_owned();
        match self.routes.find(method, &path) {
            Found::Route(binding, segments) => {
                let (parts, body) = request.into_parts();
                let answer = self.call(binding, &segments, &parts, body, format, grpc).await;
                answer.unwrap_or_else(|refusal| refusal.response(format))
            }
            Found::OtherMethods(allow) if request.method() == Method::OPTIONS => options(&allow),
            Found::OtherMethods(allow) => Refusal::wrong_method(Some(&allow)).response(format),
            Found::Nothing => self.mounted(request, grpc).await,
        }
    }

    async fn call(
        &self,
        binding: &Binding,
        segments: &[&str],
        parts: &Parts,
        body: Body,
        format: Format,
        grpc: InProcess,
    ) -> Result<Response<Body>, Refusal> {
        // Before the body is read, as for every other call.
        let (services, extensions) = grpc.admit(&binding.grpc, &parts.headers).await?;
        let mut message = body::message(binding, &parts.headers, body).await?;
        parameters::set_query(&mut message, binding, parts.uri.query().unwrap_or_default())?;
        parameters::set_path(&mut message, binding, segments)?;
        let is_conditional = conditions::if_match(&mut message, binding, &parts.headers)?;

        let metadata = MetadataMap::from_headers(metadata::of_request(&parts.headers));
        let call = tonic::Request::from_parts(metadata, extensions, message);
        // Of what the services themselves answer nothing is too large.
        let mut client = Grpc::new(services).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        let path = binding.grpc.path_and_query().cloned().expect("a method has a path");
        let codec = Dynamic(binding.output.clone());
        let refused = |status| if is_conditional { Refusal::of_condition(status) } else { Refusal::from(status) };
        let (metadata, mut response) = if binding.is_stream {
            let (metadata, messages, _) = client.server_streaming(call, path, codec).await.map_err(refused)?.into_parts();
            (metadata, answer::stream(messages, Framing::wanted(&parts.headers)))
        } else {
            let (metadata, message, _) = client.unary(call, path, codec).await.map_err(refused)?.into_parts();
            let max_age = self.keep.get(binding.grpc.path()).map(Duration::as_secs);
            (metadata, answer::one(binding, &message, &parts.headers, format, max_age)?)
        };
        response.headers_mut().extend(metadata::of_answer(metadata.as_ref()));
        Ok(response)
    }

    async fn mounted(&self, mut request: Request<Body>, grpc: InProcess) -> Response<Body> {
        if request.body().size_hint().lower() > MESSAGE_LIMIT as u64 {
            return Refusal::too_large().response(Format::wanted(request.headers()));
        }
        request.extensions_mut().insert(grpc);
        let answer = self.mounted.clone().oneshot(request.map(axum::body::Body::new)).await;
        answer.unwrap_or_else(|never| match never {}).map(Body::new)
    }
}

fn refuse(refusal: Refusal, headers: &HeaderMap) -> axum::response::Response {
    refusal.response(Format::wanted(headers)).map(axum::body::Body::new)
}

fn options(allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests;
