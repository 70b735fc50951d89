//! The routes: every `google.api.http` binding of the protos, read once into a tree.

use std::{collections::HashMap, sync::Arc};

use contract::{Capture, HttpRoute, PathTemplate, Segment, field_at};
use http::{Method, Uri};
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor};

use crate::update_mask;

/// One way to call a method over HTTP: its main route, or one of its `additional_bindings`. [`read`] creates it.
#[derive(Debug)]
pub struct Binding {
    /// The path of the gRPC method: `/package.Service/Method`.
    pub(crate) grpc: Uri,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    pub(crate) is_stream: bool,
    pub(crate) body: Body,
    /// The field of the response message that is the body of the response, or `None` for the whole message.
    pub(crate) response_body: Option<FieldDescriptor>,
    pub(crate) captures: Vec<Capture>,
    /// The update mask of the request message, if the fields that the body names stand in for an absent mask.
    pub(crate) update_mask: Option<FieldDescriptor>,
    /// The HTTP method, or `None` for every method.
    method: Option<Method>,
    template: PathTemplate,
    /// The path as `OpenAPI` writes it.
    pub(crate) path: Arc<str>,
}

/// The part of the request message that the body of a request holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    Nothing,
    Everything,
    Field(FieldDescriptor),
}

/// Reads every binding of every method in the descriptors.
///
/// # Errors
///
/// Returns a sentence if `descriptors` is not a valid `FileDescriptorSet`. It names the method if a binding contradicts the messages,
/// or has the same route as another one.
pub fn read(descriptors: &[u8]) -> Result<Vec<Binding>, String> {
    let pool = DescriptorPool::decode(descriptors).map_err(|error| error.to_string())?;
    let mut bindings: Vec<Binding> = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        for route in HttpRoute::read_all(&method).map_err(|error| error.to_string())? {
            let error = |problem: String| format!("{}: {problem}", method.full_name());
            let binding = Binding::new(&method, &route).map_err(error)?;
            if let Some(other) = bindings.iter().find(|other| other.has_route_of(&binding)) {
                return Err(error(format!("its route is already a route of {}", other.grpc)));
            }
            bindings.push(binding);
        }
    }
    Ok(bindings)
}

impl Binding {
    /// Returns true for a GET, whose response a client may have cached.
    pub(crate) fn is_read(&self) -> bool {
        self.method == Some(Method::GET)
    }

    /// Returns the path of the gRPC method: `/package.Service/Method`.
    pub fn grpc_path(&self) -> &str {
        self.grpc.path()
    }

    /// Returns true if both bindings have the same path and share an HTTP method, so that neither has precedence for a request.
    fn has_route_of(&self, other: &Self) -> bool {
        (self.method == other.method || self.method.is_none() || other.method.is_none())
            && self.template.segments == other.template.segments
            && self.template.verb == other.template.verb
    }

    fn new(method: &MethodDescriptor, route: &HttpRoute) -> Result<Self, String> {
        if method.is_client_streaming() {
            return Err("a method with a stream of requests cannot have an HTTP route".to_owned());
        }
        let HttpRoute { verb, template, body, response_body } = route;
        let (input, output) = (method.input(), method.output());
        for capture in &template.captures {
            let field = field_at(&input, &capture.field);
            if field.is_none_or(|field| field.is_list() || field.is_map()) {
                return Err(format!(
                    "the path {} names `{}`, which must be a field of {} and neither repeated nor a map",
                    template.with_variables(str::to_owned),
                    capture.field,
                    input.full_name()
                ));
            }
        }
        let field = |message: &MessageDescriptor, name: &str| {
            message.get_field_by_name(name).ok_or_else(|| format!("{} has no field `{name}`", message.full_name()))
        };
        let body = match body.as_str() {
            "" => Body::Nothing,
            "*" => Body::Everything,
            name => Body::Field(field(&input, name)?),
        };
        let response_body = Some(response_body).filter(|name| !name.is_empty());
        let grpc = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Ok(Self {
            grpc: grpc.parse().map_err(|_| format!("{grpc} is not a valid path"))?,
            response_body: response_body.map(|name| field(&output, name)).transpose()?,
            is_stream: method.is_server_streaming(),
            update_mask: update_mask::find(&input, verb, &body),
            input,
            output,
            body,
            captures: template.captures.clone(),
            method: match verb.as_str() {
                "*" => None,
                verb => Some(Method::from_bytes(verb.as_bytes()).map_err(|_| format!("{verb:?} is not a valid HTTP method"))?),
            },
            template: template.clone(),
            path: template.with_variables(str::to_owned).into(),
        })
    }
}

/// The bindings, in a tree of path segments.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    bindings: Vec<Binding>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    /// The subtree below `*`.
    one: Option<Box<Node>>,
    /// The indexes of the bindings whose path ends here.
    ends: Vec<usize>,
    /// The indexes of the bindings whose path continues with `**`.
    rests: Vec<usize>,
}

/// The result of a search for a route.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// The binding, and the segments of the path.
    Route(&'a Binding, Vec<&'a str>),
    /// The path has routes for other methods only. The text lists them as the header `Allow` does.
    OtherMethods(String),
    Nothing,
}

impl Routes {
    pub(crate) fn new(bindings: impl Iterator<Item = Binding>) -> Self {
        let mut routes = Self::default();
        for binding in bindings {
            let index = routes.bindings.len();
            let mut node = &mut routes.root;
            let mut is_deep = false;
            for segment in &binding.template.segments {
                match segment {
                    Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                    Segment::One => node = node.one.get_or_insert_default(),
                    Segment::Rest => is_deep = true,
                }
            }
            if is_deep {
                node.rests.push(index);
            } else {
                node.ends.push(index);
            }
            routes.bindings.push(binding);
        }
        routes
    }

    /// Returns the route of a path that is still percent-encoded. If several match, it is the one with the earliest literal segment.
    pub(crate) fn find<'a>(&'a self, method: &Method, path: &'a str) -> Found<'a> {
        let Some(path) = path.strip_prefix('/') else { return Found::Nothing };
        let mut others = Vec::new();
        // A colon starts a verb, or is part of the last segment. The verb is tried first.
        let with_verb = path.rsplit_once(':').filter(|(_, verb)| !verb.is_empty() && !verb.contains('/'));
        let readings = with_verb.map(|(path, verb)| (path, Some(verb))).into_iter().chain([(path, None)]);
        for (path, verb) in readings {
            let segments: Vec<_> = path.split('/').collect();
            let mut matching = Vec::new();
            self.root.collect_matches(&segments, &mut matching);
            for binding in matching.into_iter().map(|index| &self.bindings[index]) {
                if binding.template.verb.as_deref() != verb {
                    continue;
                }
                if binding.method.as_ref().is_none_or(|own| own == method) {
                    return Found::Route(binding, segments);
                }
                others.extend(binding.method.clone());
            }
        }
        if others.is_empty() { Found::Nothing } else { Found::OtherMethods(allow(others)) }
    }
}

/// Returns the value of the header `Allow`.
fn allow(mut methods: Vec<Method>) -> String {
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    methods.push(Method::OPTIONS);
    let mut names: Vec<_> = methods.iter().map(Method::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

impl Node {
    /// Collects the indexes of the bindings that match, the most literal first.
    fn collect_matches(&self, segments: &[&str], matching: &mut Vec<usize>) {
        match segments.split_first() {
            None => matching.extend(&self.ends),
            Some((first, rest)) => {
                if let Some(node) = self.literals.get(*first) {
                    node.collect_matches(rest, matching);
                }
                // A variable does not match an empty segment.
                if let Some(node) = self.one.as_ref().filter(|_| !first.is_empty()) {
                    node.collect_matches(rest, matching);
                }
            }
        }
        matching.extend(&self.rests);
    }
}
