//! Converts messages, enums and fields to JSON Schema (2020-12), for their proto3 JSON form.

use std::collections::BTreeMap;

use contract::{ContractError, FieldBehavior, comment, oneof_is_required};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};

use super::{description::with_description, rules::Rules};

/// The use of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// A request, which is closed: an unknown field is rejected.
    Request,
    /// The resource in an update, which needs no field.
    Update,
    /// A response, which is open: a later version may add fields.
    Response,
}

/// The schemas of messages and enums, by their full names. Other schemas refer to them. A resource has two schemas, because a request
/// and a response need different fields; that of requests has the suffix `Input`.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    pub(super) fn into_components(self) -> BTreeMap<String, Value> {
        self.0
    }

    /// Returns the schema of a message: a reference, or for a well-known type the schema itself.
    pub(super) fn message(&mut self, message: &MessageDescriptor, direction: Direction) -> Result<Value, ContractError> {
        if let Some(well_known) = well_known(message) {
            return Ok(well_known);
        }
        let is_resource = direction != Direction::Response && !message.name().ends_with("Request");
        let name = format!("{}{}", message.full_name(), if is_resource { "Input" } else { "" });
        if !self.0.contains_key(&name) {
            // The name is inserted first, because a message may contain itself.
            self.0.insert(name.clone(), Value::Null);
            let schema = self.object(message, &[], direction)?;
            self.0.insert(name.clone(), schema);
        }
        Ok(reference(&name))
    }

    /// Adds a schema that does not follow from a message.
    pub(super) fn add(&mut self, name: &str, schema: Value) {
        self.0.insert(name.to_owned(), schema);
    }

    /// Returns the schema of a message without these fields.
    pub(super) fn object(
        &mut self,
        message: &MessageDescriptor,
        without: &[&str],
        direction: Direction,
    ) -> Result<Value, ContractError> {
        let mut properties = Map::new();
        let mut required = Vec::new();
        let fields: Vec<_> = message.fields().filter(|field| !without.contains(&field.name())).collect();
        for field in &fields {
            let (schema, is_required) = self.field(field, direction)?;
            properties.insert(field.json_name().to_owned(), schema);
            if is_required {
                required.push(field.json_name().to_owned());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        let mut description = comment(&message.parent_file(), message.path());
        if direction != Direction::Response {
            schema["additionalProperties"] = false.into();
            for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
                description += &exclusive(&oneof)?;
            }
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        Ok(with_description(schema, description.trim().to_owned()))
    }

    /// Returns the schema of a field, and true if the field must be present in a request, or is always present in a response.
    pub(super) fn field(&mut self, field: &FieldDescriptor, direction: Direction) -> Result<(Value, bool), ContractError> {
        let rules = Rules::read(field)?;
        let behavior = FieldBehavior::read(field);
        let required = match direction {
            Direction::Request => rules.required || behavior.contains(&FieldBehavior::Required),
            Direction::Update => rules.required,
            // A response contains fields with default values. It omits messages and fields with presence that are not set.
            Direction::Response => !field.supports_presence(),
        };
        // A field inside the resource is set as a whole.
        let inner = if direction == Direction::Update { Direction::Request } else { direction };
        let schema = if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => self.value(&entry.map_entry_value_field().kind(), inner)?,
                _ => json!({}),
            };
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": self.value(&field.kind(), inner)? })
        } else {
            self.value(&field.kind(), inner)?
        };
        let comment = comment(&field.parent_file(), field.path());
        // The rules apply to requests. A later version may relax them.
        let mut schema = if direction == Direction::Response { schema } else { rules.apply(schema) };
        // The service ignores such a field in a request (AIP-203).
        if behavior.contains(&FieldBehavior::OutputOnly) {
            schema["readOnly"] = true.into();
        }
        Ok((with_description(schema, comment), required))
    }

    /// Returns the schema of one value of this kind.
    fn value(&mut self, kind: &Kind, direction: Direction) -> Result<Value, ContractError> {
        Ok(match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" }),
            Kind::Float | Kind::Double => {
                json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
            }
            Kind::Enum(enumeration) if enumeration.full_name() == "google.protobuf.NullValue" => json!({ "type": "null" }),
            Kind::Enum(enumeration) => self.enumeration(enumeration),
            Kind::Message(message) => self.message(message, direction)?,
        })
    }

    /// Returns a reference to the schema of an enum. Its description lists the values with their comments.
    fn enumeration(&mut self, enumeration: &EnumDescriptor) -> Value {
        let name = enumeration.full_name();
        if !self.0.contains_key(name) {
            let file = enumeration.parent_file();
            let names: Vec<_> = enumeration.values().map(|value| value.name().to_owned()).collect();
            let mut description = vec![comment(&file, enumeration.path())];
            for value in enumeration.values() {
                let comment = comment(&file, value.path()).replace('\n', " ");
                description.push(format!("- `{}`{}{comment}", value.name(), if comment.is_empty() { "" } else { ": " }));
            }
            let schema = with_description(json!({ "type": "string", "enum": names }), description.join("\n").trim().to_owned());
            self.0.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Returns a sentence that says how many fields of a oneof a request may set. Client generators make no usable types from the keywords
/// of JSON Schema for this.
fn exclusive(oneof: &OneofDescriptor) -> Result<String, ContractError> {
    let names: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
    let number = if oneof_is_required(oneof)? { "exactly" } else { "at most" };
    Ok(format!("\n\nSet {number} one of {}.", names.join(", ")))
}

/// Returns the schema of a well-known type, which has a proto3 JSON form of its own.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        "Any" => json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] }),
        "Empty" | "Struct" => json!({ "type": "object" }),
        "Value" => json!({}),
        "ListValue" => json!({ "type": "array", "items": {} }),
        "BoolValue" => json!({ "type": "boolean" }),
        "FieldMask" | "StringValue" => json!({ "type": "string" }),
        "BytesValue" => json!({ "type": "string", "contentEncoding": "base64" }),
        "Int32Value" => json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX }),
        "UInt32Value" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "Int64Value" => json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" }),
        "UInt64Value" => json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" }),
        "FloatValue" | "DoubleValue" => json!({ "type": "number" }),
        _ => return None,
    })
}
