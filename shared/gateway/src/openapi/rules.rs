//! Converts the rules of `buf.validate` to keywords of JSON Schema.

use contract::{ContractError, FieldRules, ValueRule};
use prost_reflect::{FieldDescriptor, Kind, Value};
use serde_json::{Map, Value as Json, json};

/// The pattern of a UUID (RFC 9562), in either case.
const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

/// The keywords that the rules of one field add to its schema.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The field must be present: it is declared as required, or its default value breaks a rule.
    pub(super) required: bool,
    /// The keywords of the value itself, or of the list.
    pub(super) value: Map<String, Json>,
    /// The keywords of the items of a list.
    pub(super) items: Map<String, Json>,
    /// The first declared example.
    pub(super) example: Option<Json>,
    /// No rule applies to the default value.
    ignores_default: bool,
}

impl Rules {
    pub(super) fn read(field: &FieldDescriptor) -> Result<Self, ContractError> {
        let declared = FieldRules::read(field)?;
        // The schema of an enum already lists its values.
        let is_enum = matches!(field.kind(), Kind::Enum(_));
        let mut rules = Self { ignores_default: declared.ignore_zero, ..Self::default() };
        for rule in &declared.value {
            if !is_enum || rule.kind == "repeated" {
                rules.value.extend(keyword(rule));
            }
        }
        rules.example = declared.example.as_ref().map(number);
        rules.items.extend(declared.items.iter().filter_map(keyword));
        rules.required = declared.required || (!field.supports_presence() && !rules.ignores_default && rules.forbids_default());
        Ok(rules)
    }

    /// Adds the keywords to the schema of the field.
    pub(super) fn apply(self, schema: Json) -> Json {
        let Json::Object(mut schema) = schema else { return schema };
        let is_exempt = self.ignores_default && self.forbids_default();
        if let Some(Json::Object(items)) = schema.get_mut("items") {
            items.extend(self.items);
        }
        if is_exempt {
            schema.extend(self.value.into_iter().filter_map(|(keyword, value)| with_default(&keyword, value)));
        } else {
            schema.extend(self.value);
        }
        Json::Object(schema)
    }

    /// Returns true if an empty string, zero or an empty list breaks a rule.
    fn forbids_default(&self) -> bool {
        let positive = |keyword: &str| self.value.get(keyword).and_then(Json::as_f64).is_some_and(|limit| limit > 0.0);
        let zero_is_too_small = self.value.get("exclusiveMinimum").and_then(Json::as_f64).is_some_and(|limit| limit >= 0.0);
        let negative = |keyword: &str| self.value.get(keyword).and_then(Json::as_f64).is_some_and(|limit| limit < 0.0);
        let zero_is_too_large = self.value.get("exclusiveMaximum").and_then(Json::as_f64).is_some_and(|limit| limit <= 0.0);
        ["minLength", "minItems", "minimum"].into_iter().any(positive)
            || zero_is_too_small
            || negative("maximum")
            || zero_is_too_large
            || self.value.contains_key("format")
            || self.value.contains_key("pattern")
    }
}

/// Returns the keyword of a field that can also have its default value. Client generators make no usable types from alternatives
/// (`anyOf`), so a keyword that excludes the default value is widened or left out.
fn with_default(keyword: &str, value: Json) -> Option<(String, Json)> {
    let pattern = match (keyword, value.as_str()) {
        ("format", Some("uuid")) => format!("^({UUID})?$"),
        ("format", Some("email")) => "^$|^[^@]+@[^@]+$".to_owned(),
        ("pattern", Some(pattern)) => format!("^$|{pattern}"),
        ("format" | "minLength" | "minItems" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", _) => {
            return None;
        }
        _ => return Some((keyword.to_owned(), value)),
    };
    Some(("pattern".to_owned(), pattern.into()))
}

/// Returns the schema of the id of an owner: a UUID, or `me` for the caller.
pub(super) fn owner() -> Json {
    json!({ "type": "string", "pattern": format!("^(me|{UUID})$") })
}

/// Returns the keyword of a rule. A rule without an equivalent in JSON Schema becomes an extension keyword `x-…`.
fn keyword(rule: &ValueRule) -> Option<(String, Json)> {
    let value = &rule.argument;
    let is_set = value.as_bool() == Some(true);
    // In JSON, 64-bit numbers are strings, which have no smallest and no largest value.
    let is_number = matches!(rule.kind.as_str(), "int32" | "uint32" | "sint32" | "float" | "double");
    let bytes = |in_base64: fn(u64) -> u64| number(value).as_u64().map(in_base64).into();
    let (keyword, value) = match (rule.kind.as_str(), rule.name.as_str()) {
        // A message-valued rule, such as `cel`, has no keyword.
        (_, "") | ("enum", "defined_only") | ("repeated", "items") => return None,
        ("repeated", "min_items") => ("minItems", number(value)),
        ("repeated", "max_items") => ("maxItems", number(value)),
        ("repeated", "unique") => ("uniqueItems", value.as_bool().into()),
        ("string", "min_len") => ("minLength", number(value)),
        // A character has at least one byte.
        ("string", "max_len" | "max_bytes") => ("maxLength", number(value)),
        ("string", "uuid") if is_set => ("format", "uuid".into()),
        ("string", "email") if is_set => ("format", "email".into()),
        ("string", "uri") if is_set => ("format", "uri".into()),
        ("string", "pattern") => ("pattern", value.as_str().into()),
        // Base64 may omit its padding.
        ("bytes", "min_len") => ("minLength", bytes(|bytes| (bytes * 4).div_ceil(3))),
        ("bytes", "max_len") => ("maxLength", bytes(|bytes| bytes.div_ceil(3) * 4)),
        (_, "gte") if is_number => ("minimum", number(value)),
        (_, "gt") if is_number => ("exclusiveMinimum", number(value)),
        (_, "lte") if is_number => ("maximum", number(value)),
        (_, "lt") if is_number => ("exclusiveMaximum", number(value)),
        (_, other) => return Some((format!("x-{}", other.replace('_', "-")), number(value))),
    };
    Some((keyword.to_owned(), value))
}

/// Converts the argument of a rule to JSON.
fn number(value: &Value) -> Json {
    match value {
        Value::I32(number) => (*number).into(),
        Value::I64(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::U64(number) => (*number).into(),
        Value::F32(number) => (*number).into(),
        Value::F64(number) => (*number).into(),
        Value::Bool(flag) => (*flag).into(),
        Value::String(text) => text.as_str().into(),
        _ => Json::Null,
    }
}
