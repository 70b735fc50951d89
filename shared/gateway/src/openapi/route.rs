//! The routes of a method, in the notation of `OpenAPI`.

use contract::{ContractError, HttpRoute};
use prost_reflect::MethodDescriptor;

/// One route of a method.
#[derive(Debug)]
pub(super) struct Route {
    /// The HTTP method in capital letters.
    pub(super) verb: String,
    /// The path with bare variables: `{name=users/*}` is `{name}`, and `{note.note_id}` is `{note_note_id}`.
    pub(super) path: String,
    /// The paths of the request fields that the URL path sets.
    pub(super) bound: Vec<String>,
    /// The request field that is the body, `*` for every field that the path does not set, or empty for no body.
    pub(super) body: String,
    /// The response field that is the body of the response, or empty for the whole message.
    pub(super) response_body: String,
}

impl Route {
    pub(super) fn read_all(method: &MethodDescriptor) -> Result<Vec<Self>, ContractError> {
        Ok(HttpRoute::read_all(method)?.into_iter().map(Self::new).collect())
    }

    fn new(route: HttpRoute) -> Self {
        let HttpRoute { verb, template, body, response_body } = route;
        let path = template.with_variables(parameter_name);
        Self { verb, path, bound: template.captures.into_iter().map(|capture| capture.field).collect(), body, response_body }
    }
}

/// Returns the name of a path variable. It has no dots, because some client generators do not accept them.
pub(super) fn parameter_name(bound: &str) -> String {
    bound.replace('.', "_")
}
