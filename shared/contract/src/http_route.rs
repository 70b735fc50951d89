//! `google.api.http`: how a method is called over HTTP.

use prost_reflect::{DynamicMessage, MethodDescriptor, Value};

use crate::{ContractError, PathTemplate, option::option};

const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// One HTTP route of a method.
#[derive(Debug, Clone)]
pub struct HttpRoute {
    /// The HTTP method in capital letters. `*` means every method.
    pub verb: String,
    /// The path.
    pub template: PathTemplate,
    /// The request field that is the body, `*` for every field that the path does not name, or empty for no body.
    pub body: String,
    /// The response field that is the body of the answer, or empty for the whole response.
    pub response_body: String,
}

impl HttpRoute {
    /// Reads the routes of a method: the main one first, then the additional bindings. A method without the option has none.
    ///
    /// # Errors
    ///
    /// Returns an error that names the method if a path template is malformed.
    pub fn read_all(method: &MethodDescriptor) -> Result<Vec<Self>, ContractError> {
        let Some(rule) = option(method.parent_pool(), &method.options(), "google.api.http") else { return Ok(Vec::new()) };
        let additional = rule.get_field_by_name("additional_bindings");
        let additional = additional.iter().filter_map(|bindings| bindings.as_list()).flatten().filter_map(Value::as_message);
        let rules = std::iter::once(&rule).chain(additional);
        rules.map(|rule| Self::read(rule).map_err(|problem| ContractError::new(method.full_name(), problem))).collect()
    }

    /// Returns true if the method's main route is a GET, which changes nothing (RFC 9110 section 9.2.1).
    ///
    /// # Errors
    ///
    /// Returns an error that names the method if a path template is malformed.
    pub fn is_safe(method: &MethodDescriptor) -> Result<bool, ContractError> {
        Ok(Self::read_all(method)?.first().is_some_and(|route| route.verb == "GET"))
    }

    fn read(rule: &DynamicMessage) -> Result<Self, String> {
        let custom = rule.get_field_by_name("custom").filter(|_| rule.has_field_by_name("custom"));
        let custom = custom.as_ref().and_then(|custom| custom.as_message());
        let (verb, path) = match (VERBS.into_iter().find(|verb| rule.has_field_by_name(verb)), custom) {
            (Some(verb), _) => (verb.to_uppercase(), text(rule, verb)),
            (None, Some(custom)) => (text(custom, "kind"), text(custom, "path")),
            (None, None) => return Err("(google.api.http) names no HTTP method".to_owned()),
        };
        let template = PathTemplate::parse(&path)?;
        Ok(Self { verb, template, body: text(rule, "body"), response_body: text(rule, "response_body") })
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
