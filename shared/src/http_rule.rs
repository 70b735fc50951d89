//! `google.api.http`: how a method of the protos is called over HTTP. The gateway routes by it, and the description shows it.

use prost_reflect::{DynamicMessage, MethodDescriptor, Value};

const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// One way to call a method.
#[derive(Debug)]
pub(crate) struct HttpRule {
    /// In capital letters. `*`: any.
    pub(crate) verb: String,
    /// The template of the path; empty where the rule has none.
    pub(crate) path: String,
    /// The field that is the body, `*` for all that the path does not name, or nothing.
    pub(crate) body: String,
    /// The field that is the answer, or nothing for all of it.
    pub(crate) response_body: String,
}

impl HttpRule {
    /// Every way, the additional ones last; none where the method is not called over HTTP.
    pub(crate) fn of(method: &MethodDescriptor) -> Vec<Self> {
        let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else { return Vec::new() };
        let options = method.options();
        if !options.has_extension(&extension) {
            return Vec::new();
        }
        let rule = options.get_extension(&extension);
        let Some(rule) = rule.as_message() else { return Vec::new() };
        let additional = rule.get_field_by_name("additional_bindings");
        let additional = additional.iter().filter_map(|bindings| bindings.as_list()).flatten().filter_map(Value::as_message);
        [rule].into_iter().chain(additional).map(Self::read).collect()
    }

    fn read(rule: &DynamicMessage) -> Self {
        let (body, response_body) = (text(rule, "body"), text(rule, "response_body"));
        if let Some(verb) = VERBS.into_iter().find(|verb| rule.has_field_by_name(verb)) {
            return Self { verb: verb.to_uppercase(), path: text(rule, verb), body, response_body };
        }
        let custom = rule.get_field_by_name("custom");
        let custom = |field| custom.as_ref().and_then(|custom| custom.as_message()).map(|custom| text(custom, field));
        Self { verb: custom("kind").unwrap_or_default(), path: custom("path").unwrap_or_default(), body, response_body }
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
