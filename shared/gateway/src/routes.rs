//! The routes: every `google.api.http` binding of the protos, read once, and found by walking a path.

use std::collections::HashMap;

use http::{Method, Uri};
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor, MethodDescriptor};

use contract::{Capture, HttpRoute, PathTemplate, Segment, field_at};

/// One way to call a method.
#[derive(Debug)]
pub struct Binding {
    /// As in a gRPC request: `/package.Service/Method`.
    pub(super) grpc: Uri,
    pub(super) input: MessageDescriptor,
    pub(super) output: MessageDescriptor,
    pub(super) is_stream: bool,
    /// What the body of a request is.
    pub(super) body: Body,
    /// The field of the answer that the body of a response is; all of the answer where there is none.
    pub(super) response_body: Option<FieldDescriptor>,
    pub(super) captures: Vec<Capture>,
    /// The HTTP method, or any.
    method: Option<Method>,
    template: PathTemplate,
}

/// What of a message the body of a request is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Nothing,
    Everything,
    Field(FieldDescriptor),
}

/// Every binding of every method in the descriptors.
///
/// # Errors
///
/// A sentence, for descriptors that are none, and bindings that contradict the protos or one another.
pub fn read(descriptors: &[u8]) -> Result<Vec<Binding>, String> {
    let pool = DescriptorPool::decode(descriptors).map_err(|error| error.to_string())?;
    let mut bindings: Vec<Binding> = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        for rule in HttpRoute::read_all(&method).map_err(|error| error.to_string())? {
            let wrong = |why: String| format!("{}: {why}", method.full_name());
            let binding = Binding::new(&method, &rule).map_err(wrong)?;
            let clashes = |other: &Binding| {
                (other.method == binding.method || other.method.is_none() || binding.method.is_none())
                    && other.template.segments == binding.template.segments
                    && other.template.verb == binding.template.verb
            };
            if let Some(other) = bindings.iter().find(|other| clashes(other)) {
                return Err(wrong(format!("its route is that of {} too", other.grpc)));
            }
            bindings.push(binding);
        }
    }
    Ok(bindings)
}

impl Binding {
    /// True for a GET, whose answer a client may have already.
    pub(super) fn is_read(&self) -> bool {
        self.method == Some(Method::GET)
    }

    /// The path of the method in gRPC.
    pub fn grpc_path(&self) -> &str {
        self.grpc.path()
    }

    fn new(method: &MethodDescriptor, rule: &HttpRoute) -> Result<Self, String> {
        if method.is_client_streaming() {
            return Err("a stream of requests has no route".to_owned());
        }
        let HttpRoute { verb, template, body, response_body } = rule;
        let (input, output) = (method.input(), method.output());
        for capture in &template.captures {
            let field = field_at(&input, &capture.field);
            if field.is_none_or(|field| field.is_list() || field.is_map()) {
                return Err(format!(
                    "{} names the field `{}`, which there is not, or which is no single value",
                    template.with_variables(str::to_owned),
                    capture.field
                ));
            }
        }
        let named = |message: &MessageDescriptor, name: &str| {
            message.get_field_by_name(name).ok_or_else(|| format!("{} has no field `{name}`", message.full_name()))
        };
        let body = match body.as_str() {
            "" => Body::Nothing,
            "*" => Body::Everything,
            name => Body::Field(named(&input, name)?),
        };
        let response_body = Some(response_body).filter(|name| !name.is_empty());
        Ok(Self {
            grpc: format!("/{}/{}", method.parent_service().full_name(), method.name())
                .parse()
                .map_err(|_| "a name that is none")?,
            response_body: response_body.map(|name| named(&output, name)).transpose()?,
            is_stream: method.is_server_streaming(),
            input,
            output,
            body,
            captures: template.captures.clone(),
            method: match verb.as_str() {
                "*" => None,
                verb => Some(Method::from_bytes(verb.as_bytes()).map_err(|_| "a method that is none")?),
            },
            template: template.clone(),
        })
    }
}

/// A tree of segments, whose leaves are bindings.
#[derive(Debug, Default)]
pub(super) struct Routes {
    bindings: Vec<Binding>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    one: Option<Box<Node>>,
    /// Of the bindings whose path ends here, or goes on with `**`.
    ends: Vec<usize>,
    rests: Vec<usize>,
}

/// What a request is for.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// The binding, and the segments of the path.
    Route(&'a Binding, Vec<&'a str>),
    /// The path is one, but not for this method: it is for these.
    OtherMethods(String),
    Nothing,
}

impl Routes {
    pub(super) fn new(bindings: impl Iterator<Item = Binding>) -> Self {
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

    /// The route of a path, which is not decoded. The more literal one wins.
    pub(super) fn find<'a>(&'a self, method: &Method, path: &'a str) -> Found<'a> {
        let Some(path) = path.strip_prefix('/') else { return Found::Nothing };
        let mut others = Vec::new();
        // A colon may begin a verb, or belong to the last segment.
        let with_verb = path.rsplit_once(':').filter(|(_, verb)| !verb.is_empty() && !verb.contains('/'));
        let readings = with_verb.map(|(path, verb)| (path, Some(verb))).into_iter().chain([(path, None)]);
        for (path, verb) in readings {
            let segments: Vec<_> = path.split('/').collect();
            let mut matching = Vec::new();
            self.root.walk(&segments, &mut matching);
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

/// The value of `allow`.
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
    /// Collects what matches, the most literal first.
    fn walk(&self, segments: &[&str], matching: &mut Vec<usize>) {
        match segments.split_first() {
            None => matching.extend(&self.ends),
            Some((first, rest)) => {
                if let Some(node) = self.literals.get(*first) {
                    node.walk(rest, matching);
                }
                // An empty segment is no value.
                if let Some(node) = self.one.as_ref().filter(|_| !first.is_empty()) {
                    node.walk(rest, matching);
                }
            }
        }
        matching.extend(&self.rests);
    }
}
