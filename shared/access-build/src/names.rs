//! The names that prost gives to what the protos name.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{EnumDescriptor, MessageDescriptor};

/// Where generated code stands, which decides how it names a type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// The package that it belongs to.
    pub(crate) package: &'a str,
    /// The way from it to the module of that package: `self` or `super`.
    pub(crate) own: &'static str,
    /// The path to the import of the crate `access`.
    pub(crate) access: &'a str,
}

impl Scope<'_> {
    pub(crate) fn message(&self, message: &MessageDescriptor) -> String {
        self.path(message.full_name(), message.package_name())
    }

    /// A variant of the enum that stands for a oneof of the message.
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
        let inside = if package == self.package {
            self.own.to_owned()
        } else {
            let modules: Vec<_> = package.split('.').map(field).collect();
            format!("{}::proto::{}", self.access, modules.join("::"))
        };
        let mut parts: Vec<_> = full_name[package.len() + 1..].split('.').collect();
        let last = parts.pop().unwrap_or_default().to_upper_camel_case();
        let outer: String = parts.into_iter().map(|part| part.to_snake_case() + "::").collect();
        format!("{inside}::{outer}{last}")
    }
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

/// The file that prost writes a package to.
pub(crate) fn file(package: &str) -> String {
    let modules: Vec<_> = package.split('.').map(field).collect();
    modules.join(".") + ".rs"
}

pub(crate) fn module(name: &str) -> String {
    name.to_snake_case()
}
