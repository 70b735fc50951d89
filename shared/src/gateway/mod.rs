//! HTTP with JSON or XML into the server's own gRPC stack, in process: see [`Gateway`].

mod refusal;

pub(crate) use refusal::Refusal;

use axum::Router;
use http::{Request, Response};
use tonic::body::Body;
use tower::ServiceExt;

use crate::server::InProcess;

/// Answers every HTTP request that is no gRPC: by the routes of the protos, or by those that a service has mounted.
pub(crate) struct Gateway {
    mounted: Router,
}

impl Gateway {
    pub(crate) fn new(mounted: Router) -> Self {
        let mounted = mounted
            .fallback(async || Refusal::no_route().into_response().map(axum::body::Body::new))
            .method_not_allowed_fallback(async || Refusal::wrong_method("").into_response().map(axum::body::Body::new));
        Self { mounted }
    }

    pub(crate) async fn answer(&self, mut request: Request<Body>, grpc: InProcess) -> Response<Body> {
        request.extensions_mut().insert(grpc);
        let request = request.map(axum::body::Body::new);
        let answer = self.mounted.clone().oneshot(request).await;
        answer.unwrap_or_else(|never| match never {}).map(Body::new)
    }
}
