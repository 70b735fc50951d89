//! Generates messages, clients, guards and validation from protos, in a service's build script. It does not need `protoc`.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), access_build::Error> {
//!     access_build::Protos::new("proto").compile(&["hello/v1/hello.proto"])
//! }
//! ```
//!
//! For every package, the output directory gets a file for [`tonic::include_proto!`]. It holds the messages, the clients, and for
//! every service `Greeter` a module `greeter` with
//!
//! * `Handlers`, the trait to implement: one function per method, which receives the caller and a valid request;
//! * `guarded(handlers)`, the only way to add the handlers to `access::Routes` or `server::Server`.
//!
//! ```text
//! // lib.rs
//! mod proto {
//!     tonic::include_proto!("hello.v1");
//! }
//!
//! struct Hello;
//!
//! impl proto::hello_service::Handlers for Hello {
//!     async fn say_hello(&self, caller: Caller, request: SayHelloRequest) -> access::Result<SayHelloResponse> {
//!         …
//!     }
//! }
//!
//! let routes = access::Routes::new(verifier).add(proto::hello_service::guarded(Hello));
//! ```
//!
//! A handler of a method that anyone may call receives an `access::ClientInfo` instead of an `access::Caller`.
//!
//! An enum `Reason` of the package holds the reasons that the service publishes. It becomes an `access::error::ErrorReason` whose
//! domain is the name of the service, and the access rule of a method declares which of them the method can return.
//!
//! The build fails for a method without an access rule, for a rule that contradicts itself, and for a validation rule that is not
//! supported. The error names the method or the field.
//!
//! A proto declares the rule of each method and the valid values of each field:
//!
//! ```proto
//! service HelloService {
//!   rpc SayHello(SayHelloRequest) returns (SayHelloResponse) {
//!     option (access.v1.rule) = {permission: "hello.say_hello"};
//!   }
//! }
//! message SayHelloRequest {
//!   string name = 1 [(buf.validate.field).string = {min_len: 1, max_len: 100}];
//! }
//! ```
//!
//! # Validation rules
//!
//! The rules of `buf.validate` have the meaning that <https://protovalidate.com> gives them. These are supported:
//!
//! * a field that is no list and in no oneof: `required`, and `ignore: IGNORE_IF_ZERO_VALUE` if it cannot be absent
//! * `string`: `min_len`, `max_len`, `max_bytes`, `uuid`, `email`; a NUL character is never valid
//! * `bytes`: `min_len`, `max_len`
//! * `int32`, `int64`, `uint32`, `uint64`: `gt`, `gte`, `lt`, `lte`
//! * `enum`: `defined_only`
//! * `repeated`: `min_items`, `max_items`, and `items` with the rules above
//! * a oneof: `required`
//!
//! # Dependencies
//!
//! The crate that has this build script depends on `access`, `prost`, `tonic` and `tonic-prost`.
//!
//! Protos may import `access/v1/access.proto`, `buf/validate/validate.proto`, `google/api/annotations.proto`,
//! `google/api/field_behavior.proto` and `google/type/date.proto`. The files come with this crate, by its dependency `protos`.
//!
//! [`tonic::include_proto!`]: https://docs.rs/tonic/latest/tonic/macro.include_proto.html

mod guards;
mod names;
mod reasons;
mod resources;
mod text_size;
mod validation;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use prost_reflect::{DescriptorPool, FileDescriptor};

/// The crate that generated code is written against. A generated file imports it once, at its top, as [`ACCESS_ALIAS`].
const ACCESS: &str = "::access";
/// The name under which a generated file imports the crate [`ACCESS`].
const ACCESS_ALIAS: &str = "__access";
/// The file with the reasons that every access rule may declare, even if its own file does not import this one.
const ACCESS_REASONS: &str = "access/v1/reason.proto";

/// The reason why a build failed: a sentence that names the element of the protos.
pub type Error = Box<dyn std::error::Error>;

/// The protos of one crate.
#[derive(Debug)]
pub struct Protos {
    /// The folders that are searched for protos.
    includes: Vec<PathBuf>,
    /// True if servers and their guards are generated.
    servers: bool,
    /// The domain of the reasons that these protos publish.
    domain: String,
    /// The files whose messages the crate `access` has generated already.
    from_access: &'static [&'static str],
}

impl Protos {
    /// Creates a compiler for the protos below the folder `include`, a path relative to the package of the build script.
    pub fn new(include: impl Into<PathBuf>) -> Self {
        let mut protos = Self::built_in();
        protos.includes.insert(0, include.into());
        protos
    }

    /// Creates a compiler for the protos that come with this crate: `access/v1`, and those of the auth service and the profile
    /// service, `auth/v1` and `profiles/v1`.
    pub fn built_in() -> Self {
        #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
        let domain = env::var("CARGO_PKG_NAME").unwrap_or_default();
        Self { includes: vec![protos::DIR.into(), protos::THIRD_PARTY_DIR.into()], servers: true, domain, from_access: &[] }
    }

    /// Sets the domain of the reasons that these protos publish in an enum `Reason`: the name of the service. The default is the name
    /// of the package that is built.
    #[must_use]
    pub fn domain(self, domain: impl Into<String>) -> Self {
        Self { domain: domain.into(), ..self }
    }

    /// Uses the messages of these files that the crate `access` has generated, instead of a second set of types. Clients, servers
    /// and guards are generated as for every other file.
    #[must_use]
    pub fn with_messages_from_access(self, files: &'static [&'static str]) -> Self {
        Self { from_access: files, ..self }
    }

    /// Generates messages, clients and validation, but no servers and no guards.
    #[must_use]
    pub fn without_servers(self) -> Self {
        Self { servers: false, ..self }
    }

    /// Generates the code of `files`, paths below the included folder, in `OUT_DIR`. It also writes the descriptors of these
    /// files and of their imports to `descriptors.bin` there, which `server::Server::new` takes.
    ///
    /// # Errors
    ///
    /// Returns an error if a proto does not compile, if a method has no access rule or one that contradicts itself, if a
    /// validation rule is not supported, or if the process is not a build script.
    pub fn compile(&self, files: &[&str]) -> Result<(), Error> {
        #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: call this from a build script")?);
        self.compile_to(&out, files)
    }

    fn compile_to(&self, out: &Path, files: &[&str]) -> Result<(), Error> {
        #[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
        for folder in &self.includes {
            println!("cargo:rerun-if-changed={}", folder.display());
        }
        let protos = self.parse(files)?;
        let bytes = protos.encode_file_descriptor_set();
        let pool = pool(&protos)?;
        fs::write(out.join("descriptors.bin"), &bytes)?;

        // The option types need no code. Every other file must stay in the set, because prost needs the descriptor of each message,
        // even if `extern_path` says that its code is elsewhere.
        let mut set = protos.file_descriptor_set();
        set.file.retain(|file| !matches!(file.package(), "google.api" | "buf.validate"));
        let mut code = tonic_prost_build::configure().out_dir(out).build_server(self.servers);
        if self.servers {
            code = code
                .extern_path(".access.v1", format!("{ACCESS}::proto::access::v1"))
                .extern_path(".google.type.Date", format!("{ACCESS}::proto::google::Date"));
        }
        for file in own_files(&pool, self.from_access) {
            for (proto, rust) in names::top_level_types(&file) {
                code = code.extern_path(format!(".{proto}"), format!("{ACCESS}::{rust}"));
            }
        }
        code.compile_fds_with_config(set, prost_build::Config::new())?;

        let mut generated: BTreeMap<String, String> = BTreeMap::new();
        for file in own_files(&pool, files) {
            let code = generated.entry(file.package_name().to_owned()).or_default();
            if self.from_access.contains(&file.name()) {
                *code += &re_export(&file);
            } else {
                for message in file.messages() {
                    validation::generate(&message, code)?;
                    text_size::generate(&message, code)?;
                }
                resources::generate(&file, code)?;
            }
            for service in file.services().filter(|_| self.servers) {
                guards::generate(&service, code)?;
            }
            let reasons = file.enums().find(|found| found.name() == "Reason");
            if let Some(reasons) = reasons.filter(|_| self.servers) {
                reasons::generate(&reasons, &self.domain, code)?;
            }
        }
        for (package, code) in generated {
            let path = out.join(names::file(&package));
            let messages = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            // The import is unused in a package without guards and validation.
            let import = format!("#[allow(unused_imports)]\nuse {ACCESS} as {ACCESS_ALIAS};\n");
            fs::write(&path, import + &messages + &code)?;
        }
        Ok(())
    }

    fn parse(&self, files: &[&str]) -> Result<protox::Compiler, Error> {
        let mut compiler = protox::Compiler::new(&self.includes)?;
        compiler.include_imports(true).include_source_info(true).open_file(ACCESS_REASONS)?.open_files(files)?;
        Ok(compiler)
    }
}

/// Returns the descriptors of the protos. They are decoded from bytes, because `prost_types` would drop the custom options that
/// this crate reads.
fn pool(protos: &protox::Compiler) -> Result<DescriptorPool, Error> {
    Ok(DescriptorPool::decode(protos.encode_file_descriptor_set().as_slice())?)
}

fn own_files(pool: &DescriptorPool, files: &[&str]) -> Vec<FileDescriptor> {
    pool.files().filter(|file| files.contains(&file.name())).collect()
}

/// Returns the re-export of the types of a file that the crate `access` has generated.
fn re_export(file: &FileDescriptor) -> String {
    let types = names::top_level_types(file).into_iter().map(|(_, rust)| rust);
    let modules = file.messages().filter(names::has_module).map(|message| names::module_path(&message));
    types.chain(modules).fold(String::from("\n"), |code, path| code + &format!("pub use {ACCESS_ALIAS}::{path};\n"))
}

#[cfg(test)]
mod tests;
