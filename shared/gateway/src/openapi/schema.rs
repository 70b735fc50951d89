//! Converts messages, enums and fields to JSON Schema (2020-12), for their proto3 JSON form.

use std::collections::BTreeMap;

use contract::{ContractError, comment, oneof_is_required};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};

use super::{description::with_description, rules::Rules};

/// The schemas of messages and enums, by their full names. Other schemas refer to them.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    pub(super) fn into_components(self) -> BTreeMap<String, Value> {
        self.0
    }

    /// Returns the schema of a message: a reference, or for a well-known type the schema itself.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Result<Value, ContractError> {
        if let Some(well_known) = well_known(message) {
            return Ok(well_known);
        }
        let name = message.full_name();
        if !self.0.contains_key(name) {
            // The name is inserted first, because a message may contain itself.
            self.0.insert(name.to_owned(), Value::Null);
            let schema = self.object(message, &[])?;
            self.0.insert(name.to_owned(), schema);
        }
        Ok(reference(name))
    }

    /// Adds a schema that does not follow from a message.
    pub(super) fn add(&mut self, name: &str, schema: Value) {
        self.0.insert(name.to_owned(), schema);
    }

    /// Adds the schema of a message inside a `google.protobuf.Any`, and returns a reference to it.
    pub(super) fn detail(&mut self, message: &MessageDescriptor) -> Result<Value, ContractError> {
        let mut schema = self.object(message, &[])?;
        schema["properties"]["@type"] = json!({ "const": format!("type.googleapis.com/{}", message.full_name()) });
        schema["required"] = json!(["@type"]);
        self.add(message.full_name(), schema);
        Ok(reference(message.full_name()))
    }

    /// Returns the schema of a message without these fields.
    pub(super) fn object(&mut self, message: &MessageDescriptor, without: &[&str]) -> Result<Value, ContractError> {
        let mut properties = Map::new();
        let mut required = Vec::new();
        let fields: Vec<_> = message.fields().filter(|field| !without.contains(&field.name())).collect();
        for field in &fields {
            let (schema, is_required) = self.field(field)?;
            properties.insert(field.json_name().to_owned(), schema);
            if is_required {
                required.push(field.json_name().to_owned());
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        let alternatives: Vec<_> =
            message.oneofs().filter(|oneof| !oneof.is_synthetic()).flat_map(|oneof| exclusive(&oneof)).collect();
        if !alternatives.is_empty() {
            schema["not"] = json!({ "anyOf": alternatives });
        }
        let mut required_oneofs = Vec::new();
        for oneof in message.oneofs() {
            if oneof_is_required(&oneof)? {
                required_oneofs.push(any_field_of(&oneof));
            }
        }
        if !required_oneofs.is_empty() {
            schema["allOf"] = required_oneofs.into();
        }
        Ok(with_description(schema, comment(&message.parent_file(), message.path())))
    }

    /// Returns the schema of a field, and true if the field must be present.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Result<(Value, bool), ContractError> {
        let rules = Rules::read(field)?;
        let required = rules.required;
        let schema = if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => self.value(&entry.map_entry_value_field().kind())?,
                _ => json!({}),
            };
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": self.value(&field.kind())? })
        } else {
            self.value(&field.kind())?
        };
        let comment = comment(&field.parent_file(), field.path());
        let mut schema = rules.apply(schema);
        // The service ignores such a field in a request (AIP-203).
        if comment.starts_with("Output only.") {
            schema["readOnly"] = true.into();
        }
        Ok((with_description(schema, comment), required))
    }

    /// Returns the schema of one value of this kind.
    fn value(&mut self, kind: &Kind) -> Result<Value, ContractError> {
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
            Kind::Message(message) => self.message(message)?,
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

/// Returns a schema for each pair of fields of a oneof. A message that matches one of them is invalid.
fn exclusive(oneof: &OneofDescriptor) -> Vec<Value> {
    let names: Vec<_> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
    let pairs = names.iter().enumerate().flat_map(|(index, first)| names[index + 1..].iter().map(move |second| (first, second)));
    pairs.map(|(first, second)| json!({ "required": [first, second] })).collect()
}

/// Returns the schema of a message that has a field of the oneof.
fn any_field_of(oneof: &OneofDescriptor) -> Value {
    let fields: Vec<_> = oneof.fields().map(|field| json!({ "required": [field.json_name()] })).collect();
    json!({ "anyOf": fields })
}

/// Returns the schema of a well-known type, which has a proto3 JSON form of its own.
fn well_known(message: &MessageDescriptor) -> Option<Value> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$" }),
        "Empty" => json!({ "type": "object", "additionalProperties": false }),
        "Any" => json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] }),
        "Struct" => json!({ "type": "object" }),
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
