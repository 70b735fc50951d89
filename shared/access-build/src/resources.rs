//! Implements `access::Resource` for the resources of Update methods, from `google.api.field_behavior`.

use std::fmt::Write;

use contract::FieldBehavior;
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use crate::{ACCESS_ALIAS, Error, names};

/// The field of a request that names the fields to write.
const UPDATE_MASK: &str = "update_mask";
/// The field of a resource that holds its version. A client sends it back, and an update does not write it.
const ETAG: &str = "etag";

pub(crate) fn generate(file: &FileDescriptor, code: &mut String) -> Result<(), Error> {
    for resource in file.messages().filter_map(|request| updated_resource(&request)) {
        if resource.parent_file() != *file {
            return Err(format!("{}: a resource and its Update method must be in one file", resource.full_name()).into());
        }
        let name = names::Scope { package: resource.package_name(), own: "self", access: ACCESS_ALIAS }.message(&resource);
        let fields: String = resource.fields().map(|field| entry(&field)).collect();
        write!(
            code,
            r"
impl {ACCESS_ALIAS}::Resource for {name} {{
    const FIELDS: &'static [{ACCESS_ALIAS}::ResourceField] = &[{fields}
    ];
}}
"
        )?;
    }
    Ok(())
}

/// Returns the message beside the update mask in a request.
fn updated_resource(request: &MessageDescriptor) -> Option<MessageDescriptor> {
    let message = |field: &FieldDescriptor| match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() => Some(message),
        _ => None,
    };
    let mask = request.get_field_by_name(UPDATE_MASK).and_then(|field| message(&field));
    mask.filter(|mask| mask.full_name() == "google.protobuf.FieldMask")?;
    request.fields().filter(|field| field.name() != UPDATE_MASK).find_map(|field| message(&field))
}

fn entry(field: &FieldDescriptor) -> String {
    let is_ignored = |behavior: &FieldBehavior| {
        matches!(behavior, FieldBehavior::OutputOnly | FieldBehavior::Identifier | FieldBehavior::Immutable)
    };
    let is_writable = field.name() != ETAG && !FieldBehavior::read(field).iter().any(is_ignored);
    let inner: Vec<_> = match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() => {
            message.fields().map(|field| field.name().to_owned()).collect()
        }
        _ => Vec::new(),
    };
    format!(
        "\n        {ACCESS_ALIAS}::ResourceField {{ name: {:?}, is_writable: {is_writable}, inner: &{inner:?} }},",
        field.name()
    )
}
