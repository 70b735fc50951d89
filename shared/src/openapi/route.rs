//! The routes of a method: `google.api.http`, with every additional binding.

use prost_reflect::{DynamicMessage, MethodDescriptor};

use super::option;

const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

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
        let Some(http) = option(method.parent_pool(), &method.options(), "google.api.http") else { return Vec::new() };
        let more = http.get_field_by_name("additional_bindings");
        let more = more.iter().flat_map(|more| more.as_list().unwrap_or_default()).filter_map(|binding| binding.as_message());
        std::iter::once(&http).chain(more).filter_map(Self::read).collect()
    }

    fn read(binding: &DynamicMessage) -> Option<Self> {
        let text = |message: &DynamicMessage, field: &str| {
            message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let verb = VERBS.iter().find(|verb| binding.has_field_by_name(verb));
        let (verb, template) = if let Some(name) = verb {
            (name.to_uppercase(), text(binding, name))
        } else {
            let custom = binding.get_field_by_name("custom")?;
            let custom = custom.as_message()?;
            (text(custom, "kind"), text(custom, "path"))
        };
        let (path, bound) = without_patterns(&template);
        Some(Self { verb, path, bound, body: text(binding, "body"), response_body: text(binding, "response_body") })
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
