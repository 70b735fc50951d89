//! The gateway: one HTTP request becomes one gRPC call in process.
//!
//! The routes are the `google.api.http` bindings of the protos. The path, the query and the body of a request become one message,
//! which passes authentication, guard and handler like every other call. The response message becomes JSON or XML.

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::limits::MESSAGE_LIMIT;
use axum::{Router, extract::DefaultBodyLimit, middleware};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use tonic::{body::Body, client::Grpc, metadata::MetadataMap};
use tower::ServiceExt;

use crate::{
    body,
    codec::DynamicCodec,
    conditions,
    error::HttpError,
    format::{Format, Framing},
    in_process::InProcess,
    matched_route::{MatchedRoute, add_matched_path},
    metadata, parameters, response,
    routes::{Binding, Found, Routes},
    update_mask,
};

/// The methods whose responses clients may cache: the maximum age by the path of the gRPC method.
pub type CachePolicy = HashMap<&'static str, Duration>;

/// Answers HTTP requests other than gRPC: by the routes of the protos, or by the routes that a service adds.
#[derive(Debug)]
pub struct Gateway {
    routes: Routes,
    mounted: Router,
    cache_policy: CachePolicy,
}

impl Gateway {
    /// Creates a gateway for these bindings. `mounted` answers the paths that match no binding.
    pub fn new(bindings: impl IntoIterator<Item = Binding>, mounted: Router, cache_policy: CachePolicy) -> Self {
        let mounted = mounted
            .fallback(async |headers: HeaderMap| error_response(HttpError::no_route(), &headers))
            .method_not_allowed_fallback(async |headers: HeaderMap| error_response(HttpError::wrong_method(None), &headers))
            .layer(DefaultBodyLimit::max(MESSAGE_LIMIT))
            .layer(middleware::from_fn(add_matched_path));
        Self { routes: Routes::new(bindings.into_iter()), mounted, cache_policy }
    }

    /// Answers a request with a call to the services behind `grpc`. Every error is a response, in JSON or XML as `Accept` asks.
    /// The caller removes the body of a response to HEAD.
    pub async fn answer(&self, request: Request<Body>, grpc: InProcess) -> Response<Body> {
        let format = Format::negotiate(request.headers());
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let path = request.uri().path().to_owned();
        match self.routes.find(method, &path) {
            Found::Route(binding, segments) => {
                let (parts, body) = request.into_parts();
                let answer = self.call(binding, &segments, &parts, body, format, grpc).await;
                let mut response = answer.unwrap_or_else(|error| error.response(format));
                response.extensions_mut().insert(MatchedRoute::new(Arc::clone(&binding.path)));
                response
            }
            Found::OtherMethods(allow) if request.method() == Method::OPTIONS => options(&allow),
            Found::OtherMethods(allow) => HttpError::wrong_method(Some(&allow)).response(format),
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
    ) -> Result<Response<Body>, HttpError> {
        // Authentication comes before the body is read, as for every other call.
        let (services, extensions) = grpc.authenticate(&binding.grpc, &parts.headers).await?;
        let (mut message, named_fields) = body::read_message(binding, &parts.headers, body).await?;
        parameters::set_query(&mut message, binding, parts.uri.query().unwrap_or_default())?;
        parameters::set_path(&mut message, binding, segments)?;
        if let Some(mask) = &binding.update_mask {
            update_mask::set_default(&mut message, mask, named_fields);
        }
        let is_conditional = conditions::apply_if_match(&mut message, binding, &parts.headers)?;

        let metadata = MetadataMap::from_headers(metadata::from_request_headers(&parts.headers));
        let call = tonic::Request::from_parts(metadata, extensions, message);
        // The request was checked against the limit, and a response of our own services may be larger.
        let mut client = Grpc::new(services).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        let path = binding.grpc.path_and_query().cloned().expect("a method has a path");
        let codec = DynamicCodec(binding.output.clone());
        let error = |status| if is_conditional { HttpError::from_conditional(status) } else { HttpError::from(status) };
        let (metadata, mut response) = if binding.is_stream {
            let (metadata, messages, _) = client.server_streaming(call, path, codec).await.map_err(error)?.into_parts();
            (metadata, response::stream(messages, Framing::negotiate(&parts.headers)))
        } else {
            let (metadata, message, _) = client.unary(call, path, codec).await.map_err(error)?.into_parts();
            let max_age = self.cache_policy.get(binding.grpc.path()).map(Duration::as_secs);
            (metadata, response::unary(binding, &message, &parts.headers, format, max_age)?)
        };
        response.headers_mut().extend(metadata::to_response_headers(metadata.as_ref()));
        Ok(response)
    }

    async fn mounted(&self, mut request: Request<Body>, grpc: InProcess) -> Response<Body> {
        if body::is_too_large(request.headers()) {
            return HttpError::too_large().response(Format::negotiate(request.headers()));
        }
        request.extensions_mut().insert(grpc);
        let answer = self.mounted.clone().oneshot(request.map(axum::body::Body::new)).await;
        answer.unwrap_or_else(|never| match never {}).map(Body::new)
    }
}

/// Returns the error in the format that the client wants, as an axum response.
fn error_response(error: HttpError, headers: &HeaderMap) -> axum::response::Response {
    error.response(Format::negotiate(headers)).map(axum::body::Body::new)
}

/// Returns the response to OPTIONS.
fn options(allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = HeaderValue::from_str(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
