//! The rules of `buf.validate` as keywords of JSON Schema.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use serde_json::{Map, Value as Json, json};

use super::option;

/// A UUID as RFC 9562 writes it, in either case.
const UUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";

/// What the rules of one field say of its schema.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// It can't be left out: it is said to be required, or the value that it would have breaks a rule.
    pub(super) required: bool,
    /// Keywords of the value itself, or of the list.
    pub(super) value: Map<String, Json>,
    /// Keywords of the items of a list.
    pub(super) items: Map<String, Json>,
    /// Whether none of it holds for the value that a field has by default.
    ignores_default: bool,
}

impl Rules {
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        let Some(declared) = option(field.parent_pool(), &field.options(), "buf.validate.field") else {
            return Self::default();
        };
        let mut rules = Self::default();
        let mut is_required = false;
        for (rule, value) in declared.fields() {
            match (rule.name(), value) {
                ("required", value) => is_required = value.as_bool().unwrap_or_default(),
                ("ignore", value) => rules.ignores_default = value.as_enum_number() == Some(1),
                ("repeated", Value::Message(list)) => rules.read_list(list),
                (kind, Value::Message(typed)) => rules.value.extend(keywords(kind, typed, field)),
                _ => {}
            }
        }
        rules.required = is_required || (!field.supports_presence() && !rules.ignores_default && rules.forbids_default());
        rules
    }

    /// Adds the keywords to the schema of the field.
    pub(super) fn apply(self, schema: Json) -> Json {
        let Json::Object(mut schema) = schema else { return schema };
        let is_exempt = self.ignores_default && self.forbids_default();
        if let Some(Json::Object(items)) = schema.get_mut("items") {
            items.extend(self.items);
        }
        if !is_exempt {
            schema.extend(self.value);
        } else if self.value.get("format").is_some_and(|format| format == "uuid") {
            schema.insert("pattern".to_owned(), format!("^({UUID})?$").into());
        } else {
            schema.insert("anyOf".to_owned(), json!([{ "maxLength": 0 }, self.value]));
        }
        Json::Object(schema)
    }

    fn read_list(&mut self, list: &DynamicMessage) {
        for (rule, value) in list.fields() {
            match (rule.name(), value) {
                ("min_items", value) => drop(self.value.insert("minItems".to_owned(), number(value))),
                ("max_items", value) => drop(self.value.insert("maxItems".to_owned(), number(value))),
                ("unique", value) => drop(self.value.insert("uniqueItems".to_owned(), value.as_bool().into())),
                ("items", Value::Message(items)) => {
                    for (kind, value) in items.fields() {
                        if let Value::Message(typed) = value {
                            self.items.extend(keywords(kind.name(), typed, &kind));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// True where an empty string, a zero or an empty list breaks a rule.
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

/// The schema of the id of an owner, who may call themselves `me`.
pub(super) fn owner() -> Json {
    json!({ "type": "string", "pattern": format!("^(me|{UUID})$") })
}

/// The keywords that a set of rules of one kind of value becomes. A rule that has none is shown as it is.
fn keywords(kind: &str, rules: &DynamicMessage, field: &FieldDescriptor) -> Map<String, Json> {
    let mut keywords = Map::new();
    let mut put = |keyword: &str, value: Json| drop(keywords.insert(keyword.to_owned(), value));
    // 64 bits are a string in JSON, which has no smallest and no largest.
    let is_number = matches!(kind, "int32" | "uint32" | "sint32" | "float" | "double");
    for (rule, value) in rules.fields() {
        match (kind, rule.name()) {
            ("string", "min_len") => put("minLength", number(value)),
            // A character has one byte at least.
            ("string", "max_len" | "max_bytes") => put("maxLength", number(value)),
            ("string", "uuid") if value.as_bool() == Some(true) => put("format", "uuid".into()),
            ("string", "email") if value.as_bool() == Some(true) => put("format", "email".into()),
            ("string", "uri") if value.as_bool() == Some(true) => put("format", "uri".into()),
            ("string", "pattern") => put("pattern", value.as_str().into()),
            // Base64, of which the padding may be missing.
            ("bytes", "min_len") => put("minLength", number(value).as_u64().map(|bytes| (bytes * 4).div_ceil(3)).into()),
            ("bytes", "max_len") => put("maxLength", number(value).as_u64().map(|bytes| bytes.div_ceil(3) * 4).into()),
            (_, "gte") if is_number => put("minimum", number(value)),
            (_, "gt") if is_number => put("exclusiveMinimum", number(value)),
            (_, "lte") if is_number => put("maximum", number(value)),
            (_, "lt") if is_number => put("exclusiveMaximum", number(value)),
            // The schema of an enum names its values.
            ("enum", "defined_only") => {}
            (_, other) => put(&format!("x-{}", other.replace('_', "-")), number(value)),
        }
    }
    if matches!(field.kind(), Kind::Enum(_)) { Map::new() } else { keywords }
}

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
