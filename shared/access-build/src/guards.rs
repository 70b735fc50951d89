//! Generates, for one service, the trait that its handlers implement and the guard that runs before them.

use std::fmt::Write;

use contract::{AccessPolicy, Actor, DeclaredRule, HttpRoute, RevocationMode, comment};
use heck::ToSnakeCase;
use prost_reflect::{FieldDescriptor, MethodDescriptor, ServiceDescriptor};

use crate::{Error, names};

/// The path from the module of a service to the import of the crate `access`.
const ACCESS: &str = "super::__access";

/// The method of the handlers that gives the guard access to the audit log.
const AUDIT: &str = "
        /// Returns the audit log of the service. The guard records the refused calls of audited methods there.
        fn audit(&self) -> ::std::sync::Arc<dyn super::__access::AuditRecorder>;
";

pub(crate) fn generate(service: &ServiceDescriptor, code: &mut String) -> Result<(), Error> {
    let name = service.name();
    let module = names::module(name);
    let mut contract = String::new();
    let mut handlers = String::new();
    let mut guard = String::new();
    let mut is_audited = false;
    for (index, method) in service.methods().enumerate() {
        if method.is_client_streaming() {
            return Err(format!("{}: a stream of requests can't be guarded", method.full_name()).into());
        }
        let declared = DeclaredRule::read(&method)?;
        declared.check_reasons(&method)?;
        contract += &contract_entry(service, &method, &declared);
        let call = Call::new(service, &method, &declared);
        if declared.is_audited && !is_audited {
            is_audited = true;
            handlers += AUDIT;
        }
        handlers += &call.declaration(&documentation(&method));
        let is_safe = HttpRoute::is_safe(&method)?;
        if is_safe && declared.is_audited {
            return Err(format!("{}: a method that changes nothing can't be audited", method.full_name()).into());
        }
        guard += &call.guard(index, &declared, is_safe);
    }
    write!(
        code,
        r"
/// The handlers of [`{name}`]({module}::Handlers) and the guard before them.
pub mod {module} {{
    use {ACCESS}::{{AccessPolicy, AccessRule, MethodRule, RevocationMode}};

    /// The methods of `{full_name}` and their access rules.
    pub static METHODS: &[MethodRule] = &[{contract}
    ];

    /// The handlers of `{full_name}`. The guard calls a handler only for a caller that the method's access rule allows, and with
    /// a request that satisfies every validation rule.
    pub trait Handlers: Send + Sync + 'static {{{handlers}
    }}

    /// Returns the handlers behind their guard.
    pub fn guarded(handlers: impl Handlers) -> {ACCESS}::Guarded {{
        let guard = Guard(::std::sync::Arc::new(handlers));
        let server = super::{module}_server::{name}Server::new(guard)
            .max_decoding_message_size({ACCESS}::limits::MESSAGE_LIMIT)
            .accept_compressed(::tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(::tonic::codec::CompressionEncoding::Gzip);
        {ACCESS}::Guarded::__generated(METHODS, server)
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

fn contract_entry(service: &ServiceDescriptor, method: &MethodDescriptor, declared: &DeclaredRule) -> String {
    let rule = &declared.rule;
    let text = |name: &str| format!("::std::borrow::Cow::Borrowed({name:?})");
    let policy = match &rule.policy {
        AccessPolicy::Anyone => "Anyone".to_owned(),
        AccessPolicy::Authenticated => "Authenticated".to_owned(),
        AccessPolicy::PermissionHolder(name) => format!("PermissionHolder({})", text(name)),
        AccessPolicy::OwnerOrPermissionHolder(name) => format!("OwnerOrPermissionHolder({})", text(name)),
        AccessPolicy::Owner => "Owner".to_owned(),
    };
    let actors: Vec<_> = rule
        .actors
        .iter()
        .map(|actor| match actor {
            Actor::User => format!("{ACCESS}::Actor::User"),
            Actor::Service => format!("{ACCESS}::Actor::Service"),
        })
        .collect();
    let revocation = match rule.revocation {
        RevocationMode::Local => "Local",
        RevocationMode::Strict => "Strict",
    };
    format!(
        "
        MethodRule {{
            path: ::std::borrow::Cow::Borrowed(\"/{}/{}\"),
            rule: AccessRule {{
                policy: AccessPolicy::{policy},
                actors: ::std::borrow::Cow::Borrowed(&[{}]),
                revocation: RevocationMode::{revocation},
            }},
            reasons: ::std::borrow::Cow::Borrowed(&[{}]),
        }},",
        service.full_name(),
        method.name(),
        actors.join(", "),
        declared.reasons.iter().map(|name| text(name)).collect::<Vec<_>>().join(", "),
    )
}

/// The pieces of one method's code.
struct Call {
    name: String,
    /// The name of the associated type of tonic's trait that is the response stream.
    stream: String,
    input: String,
    output: String,
    streams: bool,
    /// The handler's first parameter: a `ClientInfo` if anyone may call the method, otherwise a `Caller`.
    from: String,
}

impl Call {
    fn new(service: &ServiceDescriptor, method: &MethodDescriptor, declared: &DeclaredRule) -> Self {
        let scope = names::Scope { package: service.package_name(), own: "super", access: ACCESS };
        Self {
            name: method.name().to_snake_case(),
            stream: format!("{}Stream", method.name()),
            input: scope.message(&method.input()),
            output: scope.message(&method.output()),
            streams: method.is_server_streaming(),
            from: match declared.rule.policy {
                AccessPolicy::Anyone => format!("client: {ACCESS}::ClientInfo"),
                _ => format!("caller: {ACCESS}::Caller"),
            },
        }
    }

    fn declaration(&self, documentation: &str) -> String {
        let Self { name, input, output, from, .. } = self;
        let output = if self.streams { format!("{ACCESS}::guard::Streaming<{output}>") } else { output.clone() };
        format!(
            "
        /// Adds the violations of a request to [`{name}`](Self::{name}) that no rule of the proto expresses. The guard reports them
        /// together with the violations of the rules.
        fn check_{name}(&self, request: &{input}, violations: &mut {ACCESS}::validate::Violations) {{
            let _ = (request, violations);
        }}

{documentation}        fn {name}(&self, {from}, request: {input}) -> impl ::std::future::Future<Output = {ACCESS}::Result<{output}>> + Send;"
        )
    }

    fn guard(&self, index: usize, declared: &DeclaredRule, is_safe: bool) -> String {
        let Self { name, stream, input, output, .. } = self;
        let check = format!("|request, violations| self.0.check_{name}(request, violations)");
        let admit = if declared.rule.policy == AccessPolicy::Anyone {
            format!("{ACCESS}::guard::admit_anyone(request, {check})")
        } else {
            format!("{ACCESS}::guard::admit(request, &METHODS[{index}].rule, {}, {check})", owner_accessor(&declared.owner))
        };
        // A safe method changes nothing (RFC 9110 section 9.2.1), so its handler can be cancelled when the client disconnects.
        let run = if is_safe { "run_cancellable" } else { "run_to_completion" };
        // The guard may retry a handler that changes data, so each attempt needs its own copy of the arguments.
        let again =
            if is_safe { "" } else { "let (handlers, from, request) = (handlers.clone(), from.clone(), request.clone());" };
        let (item, answer, associated) = if self.streams {
            let item = format!("{ACCESS}::guard::StatusStream<{output}>");
            let associated = format!("\n        type {stream} = {item};");
            (item, format!(".map(|answer| {ACCESS}::guard::uncompressed(answer.map({ACCESS}::guard::statuses)))"), associated)
        } else {
            (output.clone(), format!(".map({ACCESS}::guard::compressed_if_large)"), String::new())
        };
        let (prepare, admit, run) = if declared.is_audited {
            let target = audit_target(&declared.audit_target);
            (
                format!(
                    "let call = {ACCESS}::AuditedCall::new(&METHODS[{index}], &request){target};
            let recorder = {{ let handlers = ::std::sync::Arc::clone(&self.0); move || handlers.audit() }};"
                ),
                format!(
                    "match {admit} {{
                Ok(admitted) => admitted,
                Err(error) => return Err({ACCESS}::guard::refuse(call, recorder, error).await),
            }}"
                ),
                format!("run_audited(&METHODS[{index}], call, recorder"),
            )
        } else {
            (String::new(), format!("{admit}?"), format!("{run}(&METHODS[{index}]"))
        };
        format!(
            "{associated}
        async fn {name}(&self, request: ::tonic::Request<{input}>) -> ::std::result::Result<::tonic::Response<{item}>, ::tonic::Status> {{
            {prepare}
            let (from, request) = {admit};
            let handlers = ::std::sync::Arc::clone(&self.0);
            {ACCESS}::guard::{run}, move || {{
                {again}
                async move {{ handlers.{name}(from, request).await }}
            }}).await{answer}
        }}
"
        )
    }
}

/// Returns the source of a call that adds the resource that an audited method acts on. The resource `user` has the field `user_id`.
fn audit_target(target: &[FieldDescriptor]) -> String {
    let Some(last) = target.last() else { return String::new() };
    let kind = last.name().strip_suffix("_id").unwrap_or(last.name());
    let names: Vec<_> = target.iter().map(|field| names::field(field.name())).collect();
    let id = match names.as_slice() {
        [] => return String::new(),
        [field] => format!("Some(request.get_ref().{field}.as_str())"),
        [first, between @ .., last] => {
            let path = between.iter().fold(format!("request.get_ref().{first}.as_ref()"), |path, field| {
                path + ".and_then(|inner| inner." + field + ".as_ref())"
            });
            format!("{path}.map(|inner| inner.{last}.as_str())")
        }
    };
    format!(".with_target({kind:?}, {id})")
}

/// Returns the source of a closure that reads the owner's field from the request. Without an owner the closure returns `None`.
fn owner_accessor(owner: &[FieldDescriptor]) -> String {
    let names: Vec<_> = owner.iter().map(|field| names::field(field.name())).collect();
    match names.as_slice() {
        [] => "|_| None".to_owned(),
        [field] => format!("|request| Some(&mut request.{field})"),
        [first, between @ .., last] => {
            let path = between.iter().fold(format!("request.{first}.as_mut()"), |path, field| {
                path + ".and_then(|inner| inner." + field + ".as_mut())"
            });
            format!("|request| {path}.map(|inner| &mut inner.{last})")
        }
    }
}

/// Returns the method's comment in the proto as Rust documentation.
fn documentation(method: &MethodDescriptor) -> String {
    let mut comment = comment(&method.parent_file(), method.path());
    if comment.is_empty() {
        comment = format!("Handles `{}`.", method.full_name());
    }
    comment
        .lines()
        .map(|line| if line.is_empty() { "        ///\n".to_owned() } else { format!("        /// {line}\n") })
        .collect()
}
