//! Tests of the gateway's parts: messages with every kind of field, random messages of the services, and arbitrary input.

mod fuzz;
mod messages;
mod random_message;
mod routes;
mod updates;

use std::{fs, path::Path, sync::LazyLock};

use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// A proto with every kind of field.
const EVERYTHING: InMemory = InMemory("everything.proto", include_str!("everything.proto"));

/// A proto in memory: its name and its text.
pub(crate) struct InMemory(pub(crate) &'static str, pub(crate) &'static str);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == self.0 { File::from_source(name, self.1) } else { Err(protox::Error::file_not_found(name)) }
    }
}

/// Compiles these files and returns their encoded descriptors. They may include `proto`.
pub(crate) fn compiled(files: &[String], proto: InMemory) -> Vec<u8> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(proto);
    resolver.add(IncludeFileResolver::new(protos::DIR.into()));
    resolver.add(IncludeFileResolver::new(protos::THIRD_PARTY_DIR.into()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(files).expect("the protos compile");
    compiler.encode_file_descriptor_set()
}

/// The messages of both services and of `everything.proto`.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let services = ["auth/v1", "profiles/v1"].into_iter().flat_map(|folder| {
        let files = fs::read_dir(Path::new(protos::DIR).join(folder)).expect("a folder of protos");
        files.map(move |file| format!("{folder}/{}", file.expect("a file").file_name().to_string_lossy()))
    });
    let files: Vec<_> = services.chain(["everything.proto".to_owned()]).collect();
    DescriptorPool::decode(compiled(&files, EVERYTHING).as_slice()).expect("descriptors")
});

fn messages() -> Vec<MessageDescriptor> {
    let is_ours = |message: &MessageDescriptor| ["auth.v1", "profiles.v1", "everything.v1"].contains(&message.package_name());
    POOL.all_messages().filter(|message| is_ours(message) && !message.is_map_entry()).collect()
}

fn thing() -> MessageDescriptor {
    POOL.get_message_by_name("everything.v1.Thing").expect("a thing")
}
