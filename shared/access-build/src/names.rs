//! The names of the Rust items that prost generates for the declarations of protos.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{EnumDescriptor, FileDescriptor, MessageDescriptor};

/// The location of generated code, which determines the paths of the types that it uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The package to which the code belongs.
    pub(crate) package: &'a str,
    /// The path from the code to the module of its package: `self` or `super`.
    pub(crate) own: &'static str,
    /// The path to the import of the crate `access`.
    pub(crate) access: &'a str,
}

impl Scope<'_> {
    pub(crate) fn message(&self, message: &MessageDescriptor) -> String {
        self.path(message.full_name(), message.package_name())
    }

    /// Returns the path of a variant of the enum that prost generates for a oneof of the message.
    pub(crate) fn variant(&self, message: &MessageDescriptor, oneof: &str, field: &str) -> String {
        let path = self.message(message);
        let (outer, name) = path.rsplit_once("::").unwrap_or_default();
        format!("{outer}::{}::{}::{}", name.to_snake_case(), oneof.to_upper_camel_case(), field.to_upper_camel_case())
    }

    pub(crate) fn enumeration(&self, enumeration: &EnumDescriptor) -> String {
        self.path(enumeration.full_name(), enumeration.package_name())
    }

    fn path(&self, full_name: &str, package: &str) -> String {
        if package == "google.protobuf" {
            return match full_name {
                "google.protobuf.Empty" => "()".to_owned(),
                _ => format!("::prost_types::{}", &full_name["google.protobuf.".len()..]),
            };
        }
        let inside =
            if package == self.package { self.own.to_owned() } else { format!("{}::{}", self.access, package_path(package)) };
        let mut parts: Vec<_> = full_name[package.len() + 1..].split('.').collect();
        let last = parts.pop().unwrap_or_default().to_upper_camel_case();
        let outer: String = parts.into_iter().map(|part| part.to_snake_case() + "::").collect();
        format!("{inside}::{outer}{last}")
    }
}

/// Returns the module of a package in the crate `access`.
fn package_path(package: &str) -> String {
    let modules: Vec<_> = package.split('.').map(field).collect();
    format!("proto::{}", modules.join("::"))
}

/// Returns the messages and enums of a file that are not nested: their full names, and their paths in the crate `access`.
pub(crate) fn top_level_types(file: &FileDescriptor) -> Vec<(String, String)> {
    let messages = file.messages().map(|message| message.full_name().to_owned());
    let enums = file.enums().map(|enumeration| enumeration.full_name().to_owned());
    let package = package_path(file.package_name());
    let path = |name: &str| format!("{package}::{}", name[file.package_name().len() + 1..].to_upper_camel_case());
    messages.chain(enums).map(|name| (name.clone(), path(&name))).collect()
}

/// Returns true if prost generates a module for the message. The module holds its oneofs and nested types.
pub(crate) fn has_module(message: &MessageDescriptor) -> bool {
    let has_oneof = message.oneofs().any(|oneof| !oneof.is_synthetic());
    has_oneof || message.child_enums().len() > 0 || message.child_messages().any(|child| !child.is_map_entry())
}

/// Returns the path, in the crate `access`, of the module that prost generates for the message.
pub(crate) fn module_path(message: &MessageDescriptor) -> String {
    format!("{}::{}", package_path(message.package_name()), message.name().to_snake_case())
}

pub(crate) fn field(name: &str) -> String {
    let name = name.to_snake_case();
    match name.as_str() {
        "type" | "use" | "in" | "ref" | "match" | "mod" | "move" | "fn" | "for" | "loop" | "where" | "as" | "enum" | "impl"
        | "trait" => {
            format!("r#{name}")
        }
        _ => name,
    }
}

/// Returns the name of the file to which prost writes a package.
pub(crate) fn file(package: &str) -> String {
    let modules: Vec<_> = package.split('.').map(field).collect();
    modules.join(".") + ".rs"
}

pub(crate) fn module(name: &str) -> String {
    name.to_snake_case()
}
