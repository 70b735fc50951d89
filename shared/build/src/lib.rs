//! What a service's build script calls: protos to messages, guards and validation. No `protoc` is needed.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), shared_build::Error> {
//!     shared_build::Protos::new("proto").compile(&["hello/v1/hello.proto"])
//! }
//! ```
//!
//! For every package the build's output directory gets a file for [`tonic::include_proto!`], which holds the messages, the
//! clients, and for every service `Greeter` a module `greeter` with
//!
//! * `Handlers`, the trait to implement: one function a method, which gets the caller and a valid request;
//! * `guarded(handlers)`, the only way to give them to `shared::server::Server`.
//!
//! A method without an access rule, a rule that contradicts itself and a validation rule that is not understood all fail
//! the build with a sentence that names the place.
//!
//! `access/v1/access.proto`, `buf/validate/validate.proto`, `google/api/annotations.proto` and `google/type/date.proto` are
//! found without being on the include path.
//!
//! [`tonic::include_proto!`]: https://docs.rs/tonic/latest/tonic/macro.include_proto.html

mod access;
mod guards;
mod names;
mod validation;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use prost_reflect::{DescriptorPool, FileDescriptor};

/// The protos that every service may import.
const BUILT_IN: [&str; 2] =
    [concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto"), concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/third_party")];

/// Why a build failed: a sentence that names the place in the protos.
pub type Error = Box<dyn std::error::Error>;

/// The protos of one crate.
#[derive(Debug)]
pub struct Protos {
    include: PathBuf,
    /// The path of the crate `shared`.
    shared: &'static str,
    /// Whether servers, and the guards before them, are generated.
    servers: bool,
}

impl Protos {
    /// Protos below the folder `include`, which is relative to the crate's own.
    pub fn new(include: impl Into<PathBuf>) -> Self {
        Self { include: include.into(), shared: "::shared", servers: true }
    }

    /// For the crate `shared` itself, which names itself in another way, and serves nothing.
    #[doc(hidden)]
    #[must_use]
    pub fn inside_shared(self) -> Self {
        Self { shared: "crate", servers: false, ..self }
    }

    /// Generates the code of `files`, and writes their descriptors, with all that they import, to `descriptors.bin`.
    ///
    /// # Errors
    ///
    /// A proto that does not compile, a method without an access rule, or a validation rule that is not understood.
    pub fn compile(&self, files: &[&str]) -> Result<(), Error> {
        #[expect(clippy::disallowed_methods, reason = "how cargo speaks to a build script")]
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: call this from a build script")?);
        self.compile_to(&out, files)
    }

    /// Every permission that the access rules of `files` name, sorted.
    ///
    /// # Errors
    ///
    /// As [`Protos::compile`].
    pub fn permissions(&self, files: &[&str]) -> Result<BTreeSet<String>, Error> {
        let pool = pool(&self.parse(files)?)?;
        let mut permissions = BTreeSet::new();
        for file in own_files(&pool, files) {
            for method in file.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
                permissions.extend(access::Rule::of(&method)?.permission);
            }
        }
        Ok(permissions)
    }

    /// The values of the enum `name`, which is declared in one of `files`, and the comments before them.
    ///
    /// # Errors
    ///
    /// Files that do not compile, and an enum that is not there.
    #[doc(hidden)]
    pub fn commented_values(&self, files: &[&str], name: &str) -> Result<Vec<(String, String)>, Error> {
        let pool = pool(&self.parse(files)?)?;
        let enumeration = pool.get_enum_by_name(name).ok_or_else(|| format!("{name}: there is no such enum"))?;
        let file = enumeration.parent_file();
        let source = file.file_descriptor_proto().source_code_info.as_ref();
        let comment = |path: &[i32]| {
            let location = source.and_then(|info| info.location.iter().find(|location| location.path == path));
            let lines = location.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default().lines();
            lines.map(str::trim).collect::<Vec<_>>().join(" ")
        };
        Ok(enumeration.values().map(|value| (value.name().to_owned(), comment(value.path()))).collect())
    }

    fn compile_to(&self, out: &Path, files: &[&str]) -> Result<(), Error> {
        #[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
        for folder in self.includes()? {
            println!("cargo:rerun-if-changed={}", folder.display());
        }
        let protos = self.parse(files)?;
        let bytes = protos.encode_file_descriptor_set();
        let pool = pool(&protos)?;
        fs::write(out.join("descriptors.bin"), &bytes)?;

        // Options need no code. Every message does need its descriptor, also where `extern_path` says that its code is elsewhere.
        let mut set = protos.file_descriptor_set();
        set.file.retain(|file| !matches!(file.package(), "google.api" | "buf.validate"));
        let mut code = tonic_prost_build::configure().out_dir(out).build_server(self.servers);
        if self.servers {
            code = code
                .extern_path(".access.v1", "::shared::proto::access::v1")
                .extern_path(".google.type.Date", "::shared::proto::google::Date");
        }
        code.compile_fds_with_config(set, prost_build::Config::new())?;

        let mut generated: BTreeMap<String, String> = BTreeMap::new();
        for file in own_files(&pool, files) {
            let code = generated.entry(file.package_name().to_owned()).or_default();
            for message in file.messages() {
                validation::generate(&message, self.shared, code)?;
            }
            for service in file.services().filter(|_| self.servers) {
                guards::generate(&service, self.shared, code)?;
            }
        }
        for (package, code) in generated {
            let path = out.join(names::file(&package));
            let messages = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            fs::write(&path, messages + &code)?;
        }
        Ok(())
    }

    fn includes(&self) -> Result<Vec<PathBuf>, Error> {
        let mut includes = vec![self.include.clone()];
        // Naming one folder twice makes protox see each file in it twice.
        let own = self.include.canonicalize().map_err(|error| format!("{}: {error}", self.include.display()))?;
        let built_in = BUILT_IN.map(PathBuf::from).into_iter();
        includes.extend(built_in.filter(|path| path.canonicalize().is_ok_and(|path| path != own)));
        Ok(includes)
    }

    fn parse(&self, files: &[&str]) -> Result<protox::Compiler, Error> {
        let mut compiler = protox::Compiler::new(self.includes()?)?;
        compiler.include_imports(true).include_source_info(true).open_files(files)?;
        Ok(compiler)
    }
}

/// Unlike `prost_types`, the raw descriptors keep the custom options that everything here is about.
fn pool(protos: &protox::Compiler) -> Result<DescriptorPool, Error> {
    Ok(DescriptorPool::decode(protos.encode_file_descriptor_set().as_slice())?)
}

fn own_files(pool: &DescriptorPool, files: &[&str]) -> Vec<FileDescriptor> {
    pool.files().filter(|file| files.contains(&file.name())).collect()
}

#[cfg(test)]
mod tests;
