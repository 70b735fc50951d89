//! Messages, enums and fields as JSON Schema (2020-12), in the form that canonical proto3 JSON gives them.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};

use contract::{ContractError, comment, oneof_is_required};

use super::{described, rules::Rules};

/// The schemas that others refer to, by the full name of the message or the enum.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    components: BTreeMap<String, Value>,
    /// The first declaration that cannot be understood.
    error: Option<ContractError>,
}

impl Schemas {
    pub(super) fn into_components(self) -> Result<BTreeMap<String, Value>, ContractError> {
        self.error.map_or(Ok(self.components), Err)
    }

    /// Returns what a proto declares. A declaration that cannot be understood ends the document with its error.
    fn declared<T: Default>(&mut self, read: Result<T, ContractError>) -> T {
        read.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            T::default()
        })
    }

    /// A message, by reference where it has a schema of its own.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(well_known) = well_known(message) {
            return well_known;
        }
        let name = message.full_name();
        if !self.components.contains_key(name) {
            // A message may hold others of its kind.
            self.components.insert(name.to_owned(), Value::Null);
            let schema = self.object(message, &[]);
            self.components.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// Adds a schema that no message has by itself.
    pub(super) fn add(&mut self, name: &str, schema: impl FnOnce(&mut Self) -> Value) {
        let schema = schema(self);
        self.components.insert(name.to_owned(), schema);
    }

    /// A message as it stands in a `google.protobuf.Any`.
    pub(super) fn detail(&mut self, message: &MessageDescriptor) -> Value {
        let mut schema = self.object(message, &[]);
        schema["properties"]["@type"] = json!({ "const": format!("type.googleapis.com/{}", message.full_name()) });
        schema["required"] = json!(["@type"]);
        self.add(message.full_name(), |_| schema);
        reference(message.full_name())
    }

    /// A message without these fields.
    pub(super) fn object(&mut self, message: &MessageDescriptor, without: &[&str]) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        let fields: Vec<_> = message.fields().filter(|field| !without.contains(&field.name())).collect();
        for field in &fields {
            let (schema, is_required) = self.field(field);
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
        let mut needed = Vec::new();
        for oneof in message.oneofs() {
            if self.declared(oneof_is_required(&oneof)) {
                needed.push(one_of(&oneof));
            }
        }
        if !needed.is_empty() {
            schema["allOf"] = needed.into();
        }
        described(schema, comment(&message.parent_file(), message.path()))
    }

    /// A field, and whether it can't be left out.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> (Value, bool) {
        let rules = self.declared(Rules::read(field));
        let required = rules.required;
        let schema = if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => self.value(&entry.map_entry_value_field().kind()),
                _ => json!({}),
            };
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": self.value(&field.kind()) })
        } else {
            self.value(&field.kind())
        };
        let comment = comment(&field.parent_file(), field.path());
        let mut schema = rules.apply(schema);
        // As AIP-203 means it: it is not read where it is sent.
        if comment.starts_with("Output only.") {
            schema["readOnly"] = true.into();
        }
        (described(schema, comment), required)
    }

    fn value(&mut self, kind: &Kind) -> Value {
        match kind {
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
            Kind::Message(message) => self.message(message),
        }
    }

    fn enumeration(&mut self, enumeration: &EnumDescriptor) -> Value {
        let name = enumeration.full_name();
        if !self.components.contains_key(name) {
            let file = enumeration.parent_file();
            let names: Vec<_> = enumeration.values().map(|value| value.name().to_owned()).collect();
            let mut description = vec![comment(&file, enumeration.path())];
            for value in enumeration.values() {
                let comment = comment(&file, value.path()).replace('\n', " ");
                description.push(format!("- `{}`{}{comment}", value.name(), if comment.is_empty() { "" } else { ": " }));
            }
            let schema = described(json!({ "type": "string", "enum": names }), description.join("\n").trim().to_owned());
            self.components.insert(name.to_owned(), schema);
        }
        reference(name)
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The pairs of fields of which only one may be there.
fn exclusive(oneof: &OneofDescriptor) -> Vec<Value> {
    let names: Vec<_> = oneof.fields().map(|field| field.json_name().to_owned()).collect();
    let pairs = names.iter().enumerate().flat_map(|(index, first)| names[index + 1..].iter().map(move |second| (first, second)));
    pairs.map(|(first, second)| json!({ "required": [first, second] })).collect()
}

fn one_of(oneof: &OneofDescriptor) -> Value {
    let fields: Vec<_> = oneof.fields().map(|field| json!({ "required": [field.json_name()] })).collect();
    json!({ "anyOf": fields })
}

/// The messages that proto3 JSON writes in a form of their own.
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
