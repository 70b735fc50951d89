//! Writes, for one service, the trait that its handlers implement and the guard that stands before them.

use std::fmt::Write;

use heck::ToSnakeCase;
use prost_reflect::{DynamicMessage, MethodDescriptor, ServiceDescriptor};

use crate::{
    Error,
    access::{Rule, Who},
    names,
};

pub(crate) fn generate(service: &ServiceDescriptor, shared: &str, code: &mut String) -> Result<(), Error> {
    let name = service.name();
    let module = names::module(name);
    let mut contract = String::new();
    let mut handlers = String::new();
    let mut guard = String::new();
    for (index, method) in service.methods().enumerate() {
        if method.is_client_streaming() {
            return Err(format!("{}: a stream of requests can't be guarded", method.full_name()).into());
        }
        let rule = Rule::of(&method)?;
        contract += &contract_entry(service, &method, &rule, shared);
        let call = Call::new(service, &method, &rule, shared);
        handlers += &call.declaration(&documentation(&method));
        guard += &call.guard(index, &rule, is_safe(&method));
    }
    write!(
        code,
        r"
/// Who may call [`{name}`]({module}::Handlers), and what they reach.
pub mod {module} {{
    use {shared}::contract::{{Method, Revocation, Rule, Who}};

    /// The methods of `{full_name}`, and who may call them.
    pub static METHODS: &[Method] = &[{contract}
    ];

    /// The handlers of `{full_name}`. Each is reached only by a caller whom the method's access rule lets in, and with a
    /// request that keeps every validation rule.
    pub trait Handlers: Send + Sync + 'static {{{handlers}
    }}

    /// Puts the guard before the handlers.
    pub fn guarded(handlers: impl Handlers) -> {shared}::server::Guarded {{
        let guard = Guard(::std::sync::Arc::new(handlers));
        {shared}::server::Guarded::__generated(METHODS, super::{module}_server::{name}Server::new(guard).max_decoding_message_size({shared}::server::MESSAGE_LIMIT))
    }}

    struct Guard<H>(::std::sync::Arc<H>);

    #[::tonic::async_trait]
    impl<H: Handlers> super::{module}_server::{name} for Guard<H> {{{guard}
    }}
}}
",
        full_name = service.full_name(),
    )?;
    Ok(())
}

fn contract_entry(service: &ServiceDescriptor, method: &MethodDescriptor, rule: &Rule, shared: &str) -> String {
    let permission = rule.permission.as_deref().unwrap_or_default();
    let who = match rule.who {
        Who::Anyone => "Who::Anyone".to_owned(),
        Who::Authenticated => "Who::Authenticated".to_owned(),
        Who::PermissionHolder => format!("Who::PermissionHolder({permission:?})"),
        Who::OwnerOrPermissionHolder => format!("Who::OwnerOrPermissionHolder({permission:?})"),
        Who::Owner => "Who::Owner".to_owned(),
    };
    let actors: Vec<_> = rule
        .actors
        .iter()
        .map(|actor| match actor.as_str() {
            "USER" => format!("{shared}::contract::Actor::User"),
            _ => format!("{shared}::contract::Actor::Service"),
        })
        .collect();
    format!(
        "
        Method {{ path: \"/{}/{}\", rule: Rule {{ who: {who}, actors: &[{}], revocation: Revocation::{} }} }},",
        service.full_name(),
        method.name(),
        actors.join(", "),
        if rule.strict { "Strict" } else { "Local" }
    )
}

/// The pieces of one method's code.
struct Call {
    shared: String,
    name: String,
    /// The name that tonic's trait has for a stream of answers.
    stream: String,
    input: String,
    output: String,
    streams: bool,
    /// What a handler is told of whoever calls: `Origin` where anyone may, `Caller` elsewhere.
    from: String,
}

impl Call {
    fn new(service: &ServiceDescriptor, method: &MethodDescriptor, rule: &Rule, shared: &str) -> Self {
        let scope = names::Scope { package: service.package_name(), own: "super", shared };
        Self {
            shared: shared.to_owned(),
            name: method.name().to_snake_case(),
            stream: format!("{}Stream", method.name()),
            input: scope.message(&method.input()),
            output: scope.message(&method.output()),
            streams: method.is_server_streaming(),
            from: match rule.who {
                Who::Anyone => format!("origin: {shared}::Origin"),
                _ => format!("caller: {shared}::Caller"),
            },
        }
    }

    fn declaration(&self, documentation: &str) -> String {
        let Self { shared, name, input, output, from, .. } = self;
        let output = if self.streams { format!("{shared}::guard::Streaming<{output}>") } else { output.clone() };
        format!(
            "
{documentation}        fn {name}(&self, {from}, request: {input}) -> impl ::std::future::Future<Output = {shared}::Result<{output}>> + Send;"
        )
    }

    fn guard(&self, index: usize, rule: &Rule, safe: bool) -> String {
        let Self { shared, name, stream, input, output, .. } = self;
        let admit = if rule.who == Who::Anyone {
            format!("{shared}::guard::admit_anyone(request)?")
        } else {
            format!("{shared}::guard::admit(request, &METHODS[{index}].rule, {})?", owner_accessor(rule))
        };
        // RFC 9110 section 9.2.1: a safe call changes nothing, so nothing is lost where its caller leaves.
        let run = if safe { "while_wanted" } else { "to_the_end" };
        // A call that changes something may be run again, from the same request.
        let again = if safe { "" } else { "let (handlers, from, request) = (handlers.clone(), from.clone(), request.clone());" };
        let (item, answer, associated) = if self.streams {
            let item = format!("{shared}::guard::StatusStream<{output}>");
            let associated = format!("\n        type {stream} = {item};");
            (item, format!(".map(|answer| answer.map({shared}::guard::statuses))"), associated)
        } else {
            (output.clone(), String::new(), String::new())
        };
        format!(
            "{associated}
        async fn {name}(&self, request: ::tonic::Request<{input}>) -> ::std::result::Result<::tonic::Response<{item}>, ::tonic::Status> {{
            let (from, request) = {admit};
            let handlers = ::std::sync::Arc::clone(&self.0);
            {shared}::guard::{run}(move || {{
                {again}
                async move {{ handlers.{name}(from, request).await }}
            }}).await{answer}
        }}
"
        )
    }
}

/// A closure to the owner's field, or none.
fn owner_accessor(rule: &Rule) -> String {
    let Some(path) = &rule.owner else { return "|_| None".to_owned() };
    let names: Vec<_> = path.iter().map(|field| names::field(field.name())).collect();
    match names.as_slice() {
        [field] => format!("|request| Some(&mut request.{field})"),
        [first, inner @ ..] => {
            let (last, between) = inner.split_last().expect("a path of two fields or more");
            let way = between
                .iter()
                .fold(format!("request.{first}.as_mut()"), |way, field| way + ".and_then(|inner| inner." + field + ".as_mut())");
            format!("|request| {way}.map(|inner| &mut inner.{last})")
        }
        [] => "|_| None".to_owned(),
    }
}

/// True where the method's route is a GET.
fn is_safe(method: &MethodDescriptor) -> bool {
    let Some(extension) = method.parent_pool().get_extension_by_name("google.api.http") else { return false };
    let options = method.options();
    let http = options.get_extension(&extension);
    http.as_message().is_some_and(|http: &DynamicMessage| http.has_field_by_name("get"))
}

/// The comment above the method in the proto, as Rust documentation.
fn documentation(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let source = file.file_descriptor_proto().source_code_info.as_ref();
    let comment = source
        .and_then(|info| info.location.iter().find(|location| location.path == method.path()))
        .and_then(|location| location.leading_comments.clone())
        .unwrap_or_else(|| format!(" Handles `{}`.", method.full_name()));
    comment.lines().fold(String::new(), |mut text, line| {
        text.push_str("        ///");
        text.push_str(line);
        text.push('\n');
        text
    })
}
