//! The route that has answered a request, for metrics.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

/// The path of the route that has answered a request, such as `/v1/notes/{note_id}`. It is an extension of the response.
#[derive(Debug, Clone)]
pub struct MatchedRoute(Arc<str>);

impl MatchedRoute {
    pub(crate) fn new(path: Arc<str>) -> Self {
        Self(path)
    }

    /// Returns the path.
    pub fn path(&self) -> &Arc<str> {
        &self.0
    }
}

/// Adds the path of an axum route to its response.
pub(crate) async fn add_matched_path(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| MatchedRoute::new(path.as_str().into()));
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(path);
    }
    response
}
