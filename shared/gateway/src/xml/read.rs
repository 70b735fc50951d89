//! Reads a message from XML: to the tree that JSON would have been, which is checked in one place for both.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Field};
use serde_json::{Map, Number, Value};

use super::{
    ITEM,
    parse::{Element, is_space, parse},
};
use crate::json_to_message::{self, within, wrong};
use access::error::Violation;

/// The message that a document holds. Its root is named as the message's type.
///
/// # Errors
///
/// What [`json_to_message::message`] refuses, and `xml.syntax`, `xml.forbidden`, `xml.depth`, `xml.root`, `xml.attribute`, `xml.mixed`,
/// `xml.escape` and `xml.key` for what JSON does not have.
pub(crate) fn message(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Violation> {
    let root = parse(bytes)?;
    named(&root, descriptor.name())?;
    json_to_message::message(descriptor, whole_message(descriptor, &root)?)
}

/// The value of one field that a document holds.
pub(crate) fn body(field: &FieldDescriptor, bytes: &[u8]) -> Result<Field, Violation> {
    let root = parse(bytes)?;
    let kind = field.kind();
    if field.is_map() {
        named(&root, field.json_name())?;
        let entries = root.children.iter().map(|entry| map_entry(field, entry));
        return json_to_message::whole(field, Value::Object(entries.collect::<Result<_, _>>()?));
    }
    if field.is_list() {
        named(&root, field.json_name())?;
        let items = root.children.iter().map(|item| named(item, ITEM).and_then(|()| one(&kind, item)));
        return json_to_message::whole(field, Value::Array(items.collect::<Result<_, _>>()?));
    }
    named(&root, kind.as_message().map_or(field.json_name(), MessageDescriptor::name))?;
    json_to_message::whole(field, one(&kind, &root)?)
}

fn named(element: &Element, name: &str) -> Result<(), Violation> {
    if element.name == name { Ok(()) } else { Err(Violation::new("body", "xml.root", format!("must be the element {name}"))) }
}

fn whole_message(descriptor: &MessageDescriptor, element: &Element) -> Result<Value, Violation> {
    if let Some(name) = json_to_message::well_known_name(descriptor.full_name()) {
        return well_known(descriptor, name, element);
    }
    if !element.text.trim_matches(is_space).is_empty() {
        return Err(wrong("type.message", "must be made of elements"));
    }
    let mut values = Map::new();
    for child in &element.children {
        let field = descriptor.get_field_by_json_name(&child.name).or_else(|| descriptor.get_field_by_name(&child.name));
        let Some(field) = field else {
            return Err(within(&child.name, wrong("field.unknown", format!("{} has no such field", descriptor.full_name()))));
        };
        put(&mut values, &field, child).map_err(|violation| within(field.name(), violation))?;
    }
    Ok(Value::Object(values))
}

fn put(values: &mut Map<String, Value>, field: &FieldDescriptor, element: &Element) -> Result<(), Violation> {
    let name = field.json_name();
    if field.is_map() {
        let (key, value) = map_entry(field, element)?;
        let entries =
            values.entry(name).or_insert_with(json_to_message::nothing).as_object_mut().expect("it was made as an object");
        return match entries.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(wrong("field.twice", "has one key twice")),
        };
    }
    if element.key.is_some() {
        return Err(wrong("xml.attribute", "is no map, and has no key"));
    }
    if field.is_list() {
        let items =
            values.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut().expect("it was made as an array");
        let place = format!("[{}]", items.len());
        items.push(one(&field.kind(), element).map_err(|violation| within(&place, violation))?);
        return Ok(());
    }
    match values.insert(name.to_owned(), one(&field.kind(), element)?) {
        None => Ok(()),
        Some(_) => Err(wrong("field.twice", "is there twice")),
    }
}

fn map_entry(field: &FieldDescriptor, element: &Element) -> Result<(String, Value), Violation> {
    let kind = field.kind();
    let value = kind.as_message().expect("the entries of a map are messages").map_entry_value_field();
    let key = element.key.clone().ok_or_else(|| wrong("xml.key", "must have a key"))?;
    let value = one(&value.kind(), element).map_err(|violation| within(&format!("[{key:?}]"), violation))?;
    Ok((key, value))
}

fn one(kind: &Kind, element: &Element) -> Result<Value, Violation> {
    if let Kind::Message(descriptor) = kind {
        let is_ordinary = json_to_message::well_known_name(descriptor.full_name()).is_none();
        if is_ordinary && element.kind.is_some() {
            return Err(wrong("xml.attribute", "has the type of its field, and no other"));
        }
        return whole_message(descriptor, element);
    }
    if !element.children.is_empty() || element.kind.is_some() {
        return Err(wrong("type.text", "must be a text"));
    }
    let bare = element.text.trim_matches(is_space);
    Ok(match kind {
        Kind::String => Value::String(element.text.clone()),
        Kind::Bool => boolean(bare),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => Value::Null,
        Kind::Enum(_) => bare.parse::<i32>().map_or_else(|_| bare.into(), Value::from),
        _ => bare.into(),
    })
}

fn boolean(text: &str) -> Value {
    text.parse().map_or_else(|_| text.into(), Value::Bool)
}

fn well_known(descriptor: &MessageDescriptor, name: &str, element: &Element) -> Result<Value, Violation> {
    let bare = element.text.trim_matches(is_space);
    match name {
        "Any" => return any(descriptor, element),
        "Struct" => return json(element, Some("object")),
        "ListValue" => return json(element, Some("array")),
        "Value" => return json(element, None),
        _ => {}
    }
    if !element.children.is_empty() || element.kind.is_some() {
        return Err(wrong("type.text", "must be a text"));
    }
    Ok(match name {
        "StringValue" => Value::String(element.text.clone()),
        "BoolValue" => boolean(bare),
        "Empty" if bare.is_empty() => json_to_message::nothing(),
        _ => bare.into(),
    })
}

fn any(descriptor: &MessageDescriptor, element: &Element) -> Result<Value, Violation> {
    let url = element.kind.as_ref().ok_or_else(|| wrong("type.any", "must have the type of what it holds"))?;
    let inner = descriptor.parent_pool().get_message_by_name(url.rsplit('/').next().unwrap_or_default());
    let inner = inner.ok_or_else(|| wrong("type.any", "has a type that is not known"))?;
    let mut values = if json_to_message::well_known_name(inner.full_name()).is_some() {
        let [value] = element.children.as_slice() else { return Err(wrong("type.any", "must have one element `value`")) };
        named(value, "value")?;
        Map::from_iter([("value".to_owned(), whole_message(&inner, value)?)])
    } else {
        match whole_message(&inner, element)? {
            Value::Object(values) => values,
            _ => Map::new(),
        }
    };
    values.insert("@type".to_owned(), Value::String(url.clone()));
    Ok(Value::Object(values))
}

/// A JSON value, of the type that its attribute says: a string where it says none.
fn json(element: &Element, kind: Option<&str>) -> Result<Value, Violation> {
    let kind = element.kind.as_deref().or(kind).unwrap_or("string");
    let bare = element.text.trim_matches(is_space);
    if !matches!(kind, "array" | "object") && !element.children.is_empty() {
        return Err(wrong("type.text", "must be a text"));
    }
    Ok(match kind {
        "string" => Value::String(element.text.clone()),
        "null" if bare.is_empty() => Value::Null,
        "boolean" => Value::Bool(bare.parse().map_err(|_| wrong("type.bool", "must be true or false"))?),
        "number" => {
            let number = bare.parse::<f64>().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| wrong("type.double", "must be a number"))?)
        }
        "array" if bare.is_empty() => {
            let items = element.children.iter().map(|item| named(item, ITEM).and_then(|()| json(item, None)));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        "object" if bare.is_empty() => {
            let mut values = Map::new();
            for entry in &element.children {
                let key = entry.key.clone().ok_or_else(|| wrong("xml.key", "must have a key"))?;
                if values.insert(key, json(entry, None)?).is_some() {
                    return Err(wrong("field.twice", "has one key twice"));
                }
            }
            Value::Object(values)
        }
        _ => return Err(wrong("xml.attribute", "has a type that is none")),
    })
}
