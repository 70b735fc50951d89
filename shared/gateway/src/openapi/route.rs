//! The routes of a method, as `OpenAPI` writes them.

use contract::{ContractError, HttpRoute};
use prost_reflect::MethodDescriptor;

/// One way to a method.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) verb: String,
    /// As `OpenAPI` writes it: `{name=users/*}` is `{name}`, and `{note.note_id}` is `{note_note_id}`.
    pub(super) path: String,
    /// The paths of the fields that the path names.
    pub(super) bound: Vec<String>,
    /// The field that is the body, `*` for all that the path does not name, or nothing.
    pub(super) body: String,
    /// The field that is the answer, or nothing for all of it.
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

/// The name of a variable of a path. Many a generator of clients can't take a dot.
pub(super) fn parameter_name(bound: &str) -> String {
    bound.replace('.', "_")
}
