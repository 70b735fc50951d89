//! Writes messages as XML.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value as Field};
use serde_json::Value;

use super::names::{ESCAPE, ESCAPE_JSON, ITEM, KEY, TYPE, is_char};
use crate::json_to_message::well_known_name;

/// Returns the XML declaration that every document begins with.
pub(crate) const fn declaration() -> &'static str {
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
}

/// Returns the message as a document. The root has the name of the message's type.
///
/// # Errors
///
/// Returns an error if the message has no JSON form either, such as an `Any` of an unknown type.
pub(crate) fn document(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let mut out = declaration().to_owned();
    out.push_str(&message_element(message)?);
    Ok(out)
}

/// Returns the message as an element. The element has the name of the message's type.
pub(crate) fn message_element(message: &DynamicMessage) -> Result<String, serde_json::Error> {
    let mut out = String::with_capacity(256);
    write_message(&mut out, message.descriptor().name(), None, message)?;
    Ok(out)
}

/// Returns one field of a message as a document.
pub(crate) fn field_document(message: &DynamicMessage, field: &FieldDescriptor) -> Result<String, serde_json::Error> {
    let mut out = declaration().to_owned();
    let value = message.get_field(field);
    match (&*value, field.is_list(), field.is_map()) {
        (Field::Message(inner), ..) => write_message(&mut out, inner.descriptor().name(), None, inner)?,
        (Field::List(items), true, _) => {
            element(&mut out, field.json_name(), &[], |out| {
                items.iter().try_for_each(|item| write_one(out, ITEM, None, &field.kind(), item))
            })?;
        }
        (_, _, true) => element(&mut out, field.json_name(), &[], |out| write_field(out, "entry", field, &value))?,
        _ => write_one(&mut out, field.json_name(), None, &field.kind(), &value)?,
    }
    Ok(out)
}

fn write_message(out: &mut String, name: &str, key: Option<&str>, message: &DynamicMessage) -> Result<(), serde_json::Error> {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Any" => return write_any(out, name, key, message),
        "google.protobuf.Struct" | "google.protobuf.ListValue" | "google.protobuf.Value" => {
            write_json(out, name, key, &serde_json::to_value(message)?);
            return Ok(());
        }
        full_name if full_name.ends_with("Value") && well_known_name(full_name).is_some() => {
            let field = descriptor.get_field(1).expect("a wrapper has a value");
            return write_one(out, name, key, &field.kind(), &message.get_field(&field));
        }
        full_name if well_known_name(full_name).is_some() => {
            match serde_json::to_value(message)? {
                Value::String(text) => write_text(out, name, key, &text),
                // google.protobuf.Empty
                Value::Object(_) => write_text(out, name, key, ""),
                other => write_text(out, name, key, &other.to_string()),
            }
            return Ok(());
        }
        _ => {}
    }
    let key = Attribute::key(key);
    element(out, name, key.as_slice(), |out| write_fields(out, message))
}

fn write_fields(out: &mut String, message: &DynamicMessage) -> Result<(), serde_json::Error> {
    for field in message.descriptor().fields().filter(|field| message.has_field(field)) {
        write_field(out, field.json_name(), &field, &message.get_field(&field))?;
    }
    Ok(())
}

fn write_field(out: &mut String, name: &str, field: &FieldDescriptor, value: &Field) -> Result<(), serde_json::Error> {
    match value {
        Field::List(items) => items.iter().try_for_each(|item| write_one(out, name, None, &field.kind(), item)),
        Field::Map(entries) => {
            let kind = field.kind();
            let entry = kind.as_message().expect("the entry of a map field is a message").map_entry_value_field();
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (map_key(key), value)).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            entries.into_iter().try_for_each(|(key, value)| write_one(out, name, Some(&key), &entry.kind(), value))
        }
        value => write_one(out, name, None, &field.kind(), value),
    }
}

fn write_one(out: &mut String, name: &str, key: Option<&str>, kind: &Kind, value: &Field) -> Result<(), serde_json::Error> {
    let text = match value {
        Field::Message(message) => return write_message(out, name, key, message),
        Field::String(text) => {
            write_text(out, name, key, text);
            return Ok(());
        }
        Field::Bool(value) => value.to_string(),
        Field::I32(value) => value.to_string(),
        Field::I64(value) => value.to_string(),
        Field::U32(value) => value.to_string(),
        Field::U64(value) => value.to_string(),
        Field::F32(value) => float(f64::from(*value), || value.to_string()),
        Field::F64(value) => float(*value, || value.to_string()),
        Field::Bytes(bytes) => BASE64_STANDARD.encode(bytes),
        Field::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|descriptor| descriptor.get_value(*number));
            named.map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        Field::List(_) | Field::Map(_) => unreachable!("one value is neither"),
    };
    write_text(out, name, key, &text);
    Ok(())
}

/// Returns a number as text. NaN and the infinities have the names that proto3 JSON gives them.
fn float(value: f64, digits: impl FnOnce() -> String) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else {
        digits()
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Writes the fields of the packed message, with its type as an attribute.
fn write_any(out: &mut String, name: &str, key: Option<&str>, any: &DynamicMessage) -> Result<(), serde_json::Error> {
    // The conversion to JSON decodes the packed message, and fails if its type is unknown.
    let json = serde_json::to_value(any)?;
    let url = json.get("@type").and_then(Value::as_str).unwrap_or_default();
    let mut attributes = Attribute::key(key);
    if !url.is_empty() {
        attributes.push(Attribute { name: TYPE, value: url });
    }
    let pool = any.descriptor().parent_pool().clone();
    let inner = pool.get_message_by_name(url.rsplit('/').next().unwrap_or_default());
    let bytes = any.get_field_by_name("value");
    let bytes = bytes.as_deref().and_then(Field::as_bytes).cloned().unwrap_or_default();
    let inner = inner.and_then(|inner| DynamicMessage::decode(inner, bytes).ok());
    element(out, name, &attributes, |out| match &inner {
        Some(inner) if well_known_name(inner.descriptor().full_name()).is_some() => write_message(out, "value", None, inner),
        Some(inner) => write_fields(out, inner),
        None => Ok(()),
    })
}

/// Writes a JSON value. Every type but string is named in an attribute.
fn write_json(out: &mut String, name: &str, key: Option<&str>, value: &Value) {
    let mut attributes = Attribute::key(key);
    let mut open = |kind| {
        attributes.push(Attribute { name: TYPE, value: kind });
        std::mem::take(&mut attributes)
    };
    let attributes = match value {
        Value::Null => open("null"),
        Value::Bool(_) => open("boolean"),
        Value::Number(_) => open("number"),
        Value::Array(_) => open("array"),
        Value::Object(_) => open("object"),
        Value::String(text) => return write_text(out, name, key, text),
    };
    let written = element(out, name, &attributes, |out| {
        match value {
            Value::Bool(value) => out.push_str(&value.to_string()),
            Value::Number(value) => out.push_str(&value.to_string()),
            Value::Array(items) => items.iter().for_each(|item| write_json(out, ITEM, None, item)),
            Value::Object(entries) => entries.iter().for_each(|(key, value)| write_json(out, "entry", Some(key), value)),
            Value::Null | Value::String(_) => {}
        }
        Ok(())
    });
    written.expect("writing JSON values can't fail");
}

/// An attribute of an element.
struct Attribute<'a> {
    name: &'static str,
    value: &'a str,
}

impl<'a> Attribute<'a> {
    /// Returns the attributes for the key of a map entry, if there is one.
    fn key(key: Option<&'a str>) -> Vec<Self> {
        let Some(value) = key else { return Vec::new() };
        let escape = (!value.chars().all(is_char)).then_some(Attribute { name: ESCAPE, value: ESCAPE_JSON });
        [Attribute { name: KEY, value }].into_iter().chain(escape).collect()
    }
}

/// Writes an element that holds text.
fn write_text(out: &mut String, name: &str, key: Option<&str>, text: &str) {
    let mut attributes = Attribute::key(key);
    let is_escaped = attributes.iter().any(|attribute| attribute.name == ESCAPE);
    if !is_escaped && !text.chars().all(is_char) {
        attributes.push(Attribute { name: ESCAPE, value: ESCAPE_JSON });
    }
    let is_escaped = attributes.iter().any(|attribute| attribute.name == ESCAPE);
    let written = element(out, name, &attributes, |out| {
        if is_escaped {
            escape(out, &json_escaped(text));
        } else {
            escape(out, text);
        }
        Ok(())
    });
    written.expect("writing a text can't fail");
}

/// Writes an element with the content that `content` writes.
fn element(
    out: &mut String,
    name: &str,
    attributes: &[Attribute<'_>],
    content: impl FnOnce(&mut String) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    out.push('<');
    out.push_str(name);
    let is_escaped = attributes.iter().any(|attribute| attribute.name == ESCAPE);
    for Attribute { name, value } in attributes {
        let _ = write!(out, " {name}=\"");
        if is_escaped && *name == KEY {
            escape(out, &json_escaped(value));
        } else {
            escape(out, value);
        }
        out.push('"');
    }
    let open = out.len();
    out.push('>');
    content(out)?;
    if out.len() == open + 1 {
        out.truncate(open);
        out.push_str("/>");
    } else {
        let _ = write!(out, "</{name}>");
    }
    Ok(())
}

/// Returns the text with the escapes of a JSON string, so that no character is left that XML forbids.
fn json_escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
}

/// Writes text with the escapes of XML, for elements and attributes. White space is escaped because an XML parser normalizes it.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
}
