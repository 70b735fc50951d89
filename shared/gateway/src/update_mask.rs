//! The update mask of a PATCH request. Without one, the fields that the body names are the fields to write, as in grpc-gateway.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Field};
use serde_json::Value;

use crate::routes::Body;

/// The name of the field that holds the mask (AIP-134).
const NAME: &str = "update_mask";

/// Returns the update mask of the request message `input`, if a body that holds a resource can stand in for it.
pub(crate) fn find(input: &MessageDescriptor, method: &str, body: &Body) -> Option<FieldDescriptor> {
    let is_resource =
        matches!(body, Body::Field(field) if field.kind().as_message().is_some() && !field.is_list() && !field.is_map());
    let is_mask = |field: &FieldDescriptor| {
        matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask") && !field.is_list()
    };
    input.get_field_by_name(NAME).filter(|field| method == "PATCH" && is_resource && is_mask(field))
}

/// Returns the fields that the keys of a JSON object name. A key whose value is null counts: it clears the field.
pub(crate) fn fields_of_json(resource: &FieldDescriptor, value: &Value) -> Vec<String> {
    let (Kind::Message(message), Value::Object(values)) = (resource.kind(), value) else { return Vec::new() };
    let field = |key: &String| message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key));
    values.keys().filter_map(field).map(|field| field.name().to_owned()).collect()
}

/// Sets the mask to these fields of the resource, unless the request has a mask.
pub(crate) fn set_default(message: &mut DynamicMessage, mask: &FieldDescriptor, fields: Vec<String>) {
    let mask = message.get_field_mut(mask).as_message_mut().expect("a mask is a message");
    let paths = mask.get_field_by_name("paths").and_then(|paths| paths.as_list().map(<[_]>::len)).unwrap_or_default();
    if paths == 0 {
        mask.set_field_by_name("paths", Field::List(fields.into_iter().map(Field::String).collect()));
    }
}
