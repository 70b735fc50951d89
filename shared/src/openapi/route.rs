//! The routes of a method, as `OpenAPI` writes them.

use prost_reflect::MethodDescriptor;

use crate::http_rule::HttpRule;

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
    pub(super) fn of(method: &MethodDescriptor) -> Vec<Self> {
        HttpRule::of(method).into_iter().map(Self::new).collect()
    }

    fn new(rule: HttpRule) -> Self {
        let HttpRule { verb, path, body, response_body } = rule;
        let (path, bound) = without_patterns(&path);
        Self { verb, path, bound, body, response_body }
    }
}

/// The template with its variables bare, and their names.
fn without_patterns(template: &str) -> (String, Vec<String>) {
    let mut path = String::new();
    let mut bound = Vec::new();
    let mut rest = template;
    while let Some((before, variable)) = rest.split_once('{') {
        let (variable, after) = variable.split_once('}').unwrap_or((variable, ""));
        let name = variable.split('=').next().unwrap_or_default();
        path.push_str(before);
        path.extend(["{", &parameter_name(name), "}"]);
        bound.push(name.to_owned());
        rest = after;
    }
    (path + rest, bound)
}

/// The name of a variable of a path. Many a generator of clients can't take a dot.
pub(super) fn parameter_name(bound: &str) -> String {
    bound.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_of_a_variable_is_left_out() {
        for (template, path, bound) in [
            ("/v1/me", "/v1/me", vec![]),
            ("/v1/notes/{note.note_id}", "/v1/notes/{note_note_id}", vec!["note.note_id"]),
            ("/v1/{name=users/*/notes/*}:copy", "/v1/{name}:copy", vec!["name"]),
            ("/v1/{a}/{b=**}", "/v1/{a}/{b}", vec!["a", "b"]),
        ] {
            let expected = (path.to_owned(), bound.into_iter().map(str::to_owned).collect());
            assert_eq!(without_patterns(template), expected, "{template}");
        }
    }
}
