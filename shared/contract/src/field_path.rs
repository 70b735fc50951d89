//! Paths of fields, such as `note.user_id`.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Returns the field that `path` leads to from `message`, by the names of the proto. A path leads through single messages only.
pub fn field_at(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    path_of_fields(message, path)?.pop()
}

/// Returns every field on `path`, the outermost first.
pub fn path_of_fields(message: &MessageDescriptor, path: &str) -> Option<Vec<FieldDescriptor>> {
    let mut inside = Some(message.clone());
    let mut fields = Vec::new();
    for name in path.split('.') {
        let field = inside?.get_field_by_name(name)?;
        inside = match field.kind() {
            Kind::Message(inner) if !field.is_list() && !field.is_map() => Some(inner),
            _ => None,
        };
        fields.push(field);
    }
    Some(fields)
}
