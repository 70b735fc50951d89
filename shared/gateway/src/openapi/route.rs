//! The routes of a method, in the notation of `OpenAPI`.

use contract::{Capture, ContractError, HttpRoute};
use prost_reflect::MethodDescriptor;

/// One route of a method.
#[derive(Debug)]
pub(super) struct Route {
    /// The HTTP method in capital letters.
    pub(super) verb: String,
    /// The path with bare variables: `{name=users/*}` is `{name}`, and `{note.note_id}` is `{note_id}`, as in the routes of the other
    /// methods of the resource.
    pub(super) path: String,
    /// The names of the path variables, and the paths of the request fields that they set.
    pub(super) bound: Vec<(String, String)>,
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
        let path = template.with_variables(|bound| parameter_name(bound, &template.captures));
        Self { verb, path, bound: parameters(&template.captures), body, response_body }
    }
}

/// Returns the name of a path variable: the name of its field, or the whole path if two variables have fields with this name. It has no
/// dots, because some client generators do not accept them.
fn parameter_name(bound: &str, captures: &[Capture]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let is_unique = captures.iter().filter(|capture| last(&capture.field) == last(bound)).count() == 1;
    if is_unique { last(bound) } else { bound.replace('.', "_") }
}

/// Returns the name of each path variable, and the path of the request field that it sets.
fn parameters(captures: &[Capture]) -> Vec<(String, String)> {
    let name = |capture: &Capture| (parameter_name(&capture.field, captures), capture.field.clone());
    captures.iter().map(name).collect()
}
