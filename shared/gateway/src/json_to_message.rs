//! Converts a tree of JSON values to a message by the proto3 JSON mapping. An error names the field and the rule.

use std::borrow::Cow;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Field};
use serde::de::DeserializeSeed;
use serde_json::{Map, Number, Value, json};

use access::{FieldPath, PathStep, error::Violation};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The message of a calendar date. Its JSON form is an object; a text such as `1990-04-02` (ISO 8601) is accepted as well.
pub(crate) const DATE: &str = "google.type.Date";

/// The messages of `google.protobuf` that have a JSON form of their own.
const WELL_KNOWN: [&str; 17] = [
    "Any",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "Duration",
    "Empty",
    "FieldMask",
    "FloatValue",
    "Int32Value",
    "Int64Value",
    "ListValue",
    "StringValue",
    "Struct",
    "Timestamp",
    "UInt32Value",
    "UInt64Value",
    "Value",
];

/// Converts `value` to a message.
///
/// # Errors
///
/// Returns a violation that names the first invalid field and the rule: `field.unknown`, `field.twice`, `field.oneof`, or the type
/// that the field has, such as `type.int32`.
pub(crate) fn parse_message(descriptor: &MessageDescriptor, value: Value) -> Result<DynamicMessage, Violation> {
    if let Some(name) = well_known_name(descriptor.full_name()) {
        return well_known(descriptor, name, value);
    }
    let value = match value {
        Value::String(text) if descriptor.full_name() == DATE => {
            date(&text).ok_or_else(|| type_error("type.date", "must be a day such as 2001-02-03"))?
        }
        value => value,
    };
    let Value::Object(values) = value else { return Err(type_error("type.message", "must be an object")) };
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen = Vec::with_capacity(values.len());
    for (key, value) in values {
        let field = descriptor.get_field_by_json_name(&key).or_else(|| descriptor.get_field_by_name(&key));
        let Some(field) = field else {
            return Err(prefix_path(&key, type_error("field.unknown", format!("{} has no such field", descriptor.full_name()))));
        };
        if seen.contains(&field.number()) {
            return Err(prefix_path(field.name(), type_error("field.twice", "is there twice, under both of its names")));
        }
        seen.push(field.number());
        if value.is_null() && !takes_null(&field.kind()) {
            continue;
        }
        let taken = field.containing_oneof().is_some_and(|oneof| oneof.fields().any(|other| message.has_field(&other)));
        if taken {
            return Err(prefix_path(field.name(), type_error("field.oneof", "excludes another field that is there too")));
        }
        let value = parse_field(&field, value).map_err(|violation| prefix_path(field.name(), violation))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

/// Converts `value` to the value of a field: a list, a map, or a single value.
pub(crate) fn parse_field(field: &FieldDescriptor, value: Value) -> Result<Field, Violation> {
    if field.is_map() {
        let Value::Object(values) = value else { return Err(type_error("type.map", "must be an object")) };
        let Kind::Message(entry) = field.kind() else { unreachable!("the entry of a map field is a message") };
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let entries = values.into_iter().map(|(key, value)| {
            let read = map_key(&key_kind, &key).and_then(|name| Ok((name, parse_value(&value_kind, value)?)));
            read.map_err(|violation| inside(PathStep::Key(key), violation))
        });
        return Ok(Field::Map(entries.collect::<Result<_, _>>()?));
    }
    if field.is_list() {
        let Value::Array(values) = value else { return Err(type_error("type.list", "must be an array")) };
        let kind = field.kind();
        let items = values.into_iter().enumerate();
        let items =
            items.map(|(index, value)| parse_value(&kind, value).map_err(|violation| inside(PathStep::Index(index), violation)));
        return Ok(Field::List(items.collect::<Result<_, _>>()?));
    }
    parse_value(&field.kind(), value)
}

/// Converts `value` to one value of this kind: a scalar, an enum or a message.
pub(crate) fn parse_value(kind: &Kind, value: Value) -> Result<Field, Violation> {
    Ok(match kind {
        Kind::Double => Field::F64(float(value).ok_or_else(|| type_error("type.double", "must be a number"))?),
        Kind::Float => {
            Field::F32(float(value).and_then(narrow).ok_or_else(|| type_error("type.float", "must be a number of 32 bits"))?)
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Field::I32(integer(&value, "type.int32", "must be an integer of 32 bits")?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Field::I64(integer(&value, "type.int64", "must be an integer of 64 bits")?)
        }
        Kind::Uint32 | Kind::Fixed32 => Field::U32(integer(&value, "type.uint32", "must be an integer from 0, of 32 bits")?),
        Kind::Uint64 | Kind::Fixed64 => Field::U64(integer(&value, "type.uint64", "must be an integer from 0, of 64 bits")?),
        Kind::Bool => Field::Bool(value.as_bool().ok_or_else(|| type_error("type.bool", "must be true or false"))?),
        Kind::String => match value {
            Value::String(text) => Field::String(text),
            _ => return Err(type_error("type.string", "must be a string")),
        },
        Kind::Bytes => {
            Field::Bytes(value.as_str().and_then(bytes).ok_or_else(|| type_error("type.bytes", "must be base64"))?.into())
        }
        Kind::Enum(descriptor) => Field::EnumNumber(enumeration(descriptor, &value)?),
        Kind::Message(descriptor) => Field::Message(parse_message(descriptor, value)?),
    })
}

/// Returns the short name of a message of `google.protobuf` that has a JSON form of its own.
pub(crate) fn well_known_name(full_name: &str) -> Option<&str> {
    full_name.strip_prefix("google.protobuf.").filter(|name| WELL_KNOWN.contains(name))
}

/// Returns true if null is a value of this kind, and does not mean an absent field.
fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(descriptor) => descriptor.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

fn well_known(descriptor: &MessageDescriptor, name: &str, value: Value) -> Result<DynamicMessage, Violation> {
    let (rule, description) = match name {
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value" | "BoolValue"
        | "StringValue" | "BytesValue" => {
            let mut message = DynamicMessage::new(descriptor.clone());
            let field = descriptor.get_field(1).expect("a wrapper has a value");
            let value = parse_value(&field.kind(), value)?;
            message.set_field(&field, value);
            return Ok(message);
        }
        "FieldMask" => {
            let Value::String(text) = value else {
                return Err(type_error("type.field_mask", "must be paths, separated by commas"));
            };
            let mut message = DynamicMessage::new(descriptor.clone());
            let paths = text.split(',').filter(|path| !path.is_empty()).map(|path| Field::String(snake(path))).collect();
            message.set_field_by_name("paths", Field::List(paths));
            return Ok(message);
        }
        "Timestamp" => ("type.timestamp", "must be a time such as 2001-02-03T04:05:06Z (RFC 3339)"),
        "Duration" => ("type.duration", "must be seconds such as 3.5s"),
        "Empty" => ("type.empty", "must be an object without fields"),
        "Struct" => ("type.struct", "must be an object"),
        "ListValue" => ("type.list", "must be an array"),
        "Any" => ("type.any", "must be an object with the type in `@type`"),
        _ => ("type.message", "must be what its type is in JSON"),
    };
    if !value.as_str().is_none_or(|text| is_exact_time(name, text)) {
        return Err(type_error(rule, description));
    }
    descriptor.clone().deserialize(value).map_err(|_| type_error(rule, description))
}

/// Returns false for a time that its message cannot hold: one with more than nine digits of a fraction of a second, or in a leap second.
fn is_exact_time(name: &str, text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let has_fraction = text.split_once('.').is_none_or(|(_, fraction)| digits(fraction) <= 9);
    match name {
        "Timestamp" => has_fraction && text.get(17..19) != Some("60"),
        "Duration" => has_fraction,
        _ => true,
    }
}

/// Converts a date such as `2001-02-03` to the object of a `google.type.Date`. An unknown part may be 0. The calendar is not checked
/// here.
fn date(text: &str) -> Option<Value> {
    let is_plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let mut numbers = text.split('-').map(|number| number.parse::<u16>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (is_plain && numbers.next().is_none()).then(|| json!({ "year": year, "month": month, "day": day }))
}

/// Converts a path of a field mask to snake case: `birthDate` and `birth_date` both become `birth_date`.
fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn float(value: Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // `f64::from_str` also accepts words such as `inf`, and returns infinity for a number that is out of range.
            text if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
                text.parse().ok().filter(|v: &f64| v.is_finite())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Converts to 32 bits. Returns `None` if the value is out of range.
#[expect(clippy::cast_possible_truncation, reason = "a value out of range becomes infinite and is rejected")]
fn narrow(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (narrow.is_finite() || !value.is_finite()).then_some(narrow)
}

/// Reads an integer from a number without a fraction or from a string of digits.
fn integer<T: TryFrom<i128>>(value: &Value, rule: &'static str, description: &'static str) -> Result<T, Violation> {
    let read = match value {
        Value::Number(number) => whole_number(number),
        Value::String(text) if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => text.parse().ok(),
        _ => None,
    };
    read.and_then(|integer: i128| T::try_from(integer).ok()).ok_or_else(|| type_error(rule, description))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`1e3` is 1000; the filter leaves only floats without a fraction that fit into 128 bits"
)]
fn whole_number(number: &Number) -> Option<i128> {
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    exact.or_else(|| number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 1e30).map(|float| float as i128))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('-', "+").replace('_', "/")).ok()
}

fn enumeration(descriptor: &EnumDescriptor, value: &Value) -> Result<i32, Violation> {
    let number = match value {
        Value::String(name) => descriptor.get_value_by_name(name).map(|value| value.number()),
        Value::Null => takes_null(&Kind::Enum(descriptor.clone())).then_some(0),
        value => integer(value, "", "").ok(),
    };
    number.ok_or_else(|| type_error("type.enum", format!("must name a value of {}", descriptor.full_name())))
}

fn map_key(kind: &Kind, text: &str) -> Result<MapKey, Violation> {
    let number = || Value::String(text.to_owned());
    let value = match kind {
        Kind::Bool => parse_value(kind, text.parse().map_or(Value::Null, Value::Bool))?,
        kind => parse_value(kind, number())?,
    };
    value.into_map_key().ok_or_else(|| type_error("type.map_key", "is no key"))
}

/// Returns a violation without a path. Each enclosing value adds its own step with [`inside`].
pub(crate) fn type_error(rule: &'static str, description: impl Into<Cow<'static, str>>) -> Violation {
    Violation::new(FieldPath::Value(Vec::new()), rule, description)
}

/// Returns the violation with `step` put before its path.
pub(crate) fn inside(step: PathStep, mut violation: Violation) -> Violation {
    violation.field = violation.field.inside(step);
    violation
}

/// Returns the violation with the name of the enclosing field put before its path.
pub(crate) fn prefix_path(name: &str, violation: Violation) -> Violation {
    inside(PathStep::Field(name.to_owned().into()), violation)
}

/// Returns an empty JSON object.
pub(crate) fn empty_object() -> Value {
    Value::Object(Map::new())
}
