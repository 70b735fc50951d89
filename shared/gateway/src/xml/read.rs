//! Converts XML to the JSON tree of the same message, so that both formats are checked in one place.

use access::{FieldPath, PathStep, error::Violation};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Field};
use serde_json::{Map, Number, Value};

use super::{
    names::{ITEM, is_space},
    parse::{Element, parse},
};
use crate::json_to_message::{self, DATE, empty_object, inside, prefix_path, type_error, well_known_name};

/// Parses a document that holds a message. The root has the name of the message's type.
///
/// # Errors
///
/// Returns the violations of [`json_to_message::parse_message`], and `xml.syntax`, `xml.forbidden`, `xml.depth`, `xml.root`,
/// `xml.attribute`, `xml.mixed`, `xml.escape` and `xml.key` for errors that only XML can have.
pub(crate) fn parse_message(descriptor: &MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, Violation> {
    let root = parse(bytes)?;
    check_name(&root, descriptor.name())?;
    json_to_message::parse_message(descriptor, message_to_json(descriptor, &root)?)
}

/// Parses a document that holds the value of one field.
pub(crate) fn parse_field(field: &FieldDescriptor, bytes: &[u8]) -> Result<Field, Violation> {
    let root = parse(bytes)?;
    let kind = field.kind();
    if field.is_map() {
        check_name(&root, field.json_name())?;
        let entries = root.children.iter().map(|entry| map_entry(field, entry));
        return json_to_message::parse_field(field, Value::Object(entries.collect::<Result<_, _>>()?));
    }
    if field.is_list() {
        check_name(&root, field.json_name())?;
        let items = root.children.iter().map(|item| check_name(item, ITEM).and_then(|()| value_to_json(&kind, item)));
        return json_to_message::parse_field(field, Value::Array(items.collect::<Result<_, _>>()?));
    }
    check_name(&root, kind.as_message().map_or(field.json_name(), MessageDescriptor::name))?;
    json_to_message::parse_field(field, value_to_json(&kind, &root)?)
}

/// Parses a document that holds the resource of a PATCH request. Returns the resource, and the fields that the document names.
///
/// An empty element clears its field, whatever the type of the field, because XML has no null. An empty element of a repeated field
/// clears the list if it is the only element of the field.
pub(crate) fn parse_update(field: &FieldDescriptor, bytes: &[u8]) -> Result<(Field, Vec<String>), Violation> {
    let mut root = parse(bytes)?;
    let kind = field.kind();
    let resource = kind.as_message().expect("the resource of an update is a message");
    check_name(&root, resource.name())?;
    let field_of =
        |element: &Element| resource.get_field_by_json_name(&element.name).or_else(|| resource.get_field_by_name(&element.name));
    let names: Vec<_> = root.children.iter().map(|child| field_of(child).map(|field| field.name().to_owned())).collect();
    let is_alone = |name: &Option<String>| names.iter().filter(|other| *other == name).count() == 1;
    let clears: Vec<_> =
        root.children.iter().zip(&names).map(|(child, name)| child.is_empty() && name.is_some() && is_alone(name)).collect();
    let mut clears = clears.into_iter();
    root.children.retain(|_| !clears.next().unwrap_or_default());
    let value = json_to_message::parse_field(field, value_to_json(&kind, &root)?)?;
    Ok((value, names.into_iter().flatten().collect()))
}

/// Checks the name of an element.
fn check_name(element: &Element, name: &str) -> Result<(), Violation> {
    if element.name == name {
        Ok(())
    } else {
        Err(Violation::new(FieldPath::Body, "xml.root", format!("must be the element {name}")))
    }
}

/// Converts an element to the JSON form of a message.
fn message_to_json(descriptor: &MessageDescriptor, element: &Element) -> Result<Value, Violation> {
    if let Some(name) = well_known_name(descriptor.full_name()) {
        return well_known(descriptor, name, element);
    }
    let text = element.text.trim_matches(is_space);
    if descriptor.full_name() == DATE && !text.is_empty() {
        return Ok(text.into());
    }
    if !text.is_empty() {
        return Err(type_error("type.message", "must be made of elements"));
    }
    let mut values = Map::new();
    for child in &element.children {
        let field = descriptor.get_field_by_json_name(&child.name).or_else(|| descriptor.get_field_by_name(&child.name));
        let Some(field) = field else {
            return Err(prefix_path(
                &child.name,
                type_error("field.unknown", format!("{} has no such field", descriptor.full_name())),
            ));
        };
        insert_field(&mut values, &field, child).map_err(|violation| prefix_path(field.name(), violation))?;
    }
    Ok(Value::Object(values))
}

/// Adds the value of one child element to the JSON form of its message.
fn insert_field(values: &mut Map<String, Value>, field: &FieldDescriptor, element: &Element) -> Result<(), Violation> {
    let name = field.json_name();
    if field.is_map() {
        let (key, value) = map_entry(field, element)?;
        let entries = values.entry(name).or_insert_with(empty_object).as_object_mut().expect("it was made as an object");
        return match entries.insert(key, value) {
            None => Ok(()),
            Some(_) => Err(type_error("field.twice", "has one key twice")),
        };
    }
    if element.key.is_some() {
        return Err(type_error("xml.attribute", "is no map, and has no key"));
    }
    if field.is_list() {
        let items =
            values.entry(name).or_insert_with(|| Value::Array(Vec::new())).as_array_mut().expect("it was made as an array");
        let step = PathStep::Index(items.len());
        items.push(value_to_json(&field.kind(), element).map_err(|violation| inside(step, violation))?);
        return Ok(());
    }
    match values.insert(name.to_owned(), value_to_json(&field.kind(), element)?) {
        None => Ok(()),
        Some(_) => Err(type_error("field.twice", "is there twice")),
    }
}

fn map_entry(field: &FieldDescriptor, element: &Element) -> Result<(String, Value), Violation> {
    let kind = field.kind();
    let value = kind.as_message().expect("the entries of a map are messages").map_entry_value_field();
    let key = element.key.clone().ok_or_else(|| type_error("xml.key", "must have a key"))?;
    let value = value_to_json(&value.kind(), element).map_err(|violation| inside(PathStep::Key(key.clone()), violation))?;
    Ok((key, value))
}

/// Converts an element to the JSON form of one value.
fn value_to_json(kind: &Kind, element: &Element) -> Result<Value, Violation> {
    if let Kind::Message(descriptor) = kind {
        let is_ordinary = well_known_name(descriptor.full_name()).is_none();
        if is_ordinary && element.kind.is_some() {
            return Err(type_error("xml.attribute", "has the type of its field, and no other"));
        }
        return message_to_json(descriptor, element);
    }
    if !element.children.is_empty() || element.kind.is_some() {
        return Err(type_error("type.text", "must be a text"));
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

/// Returns a boolean if the text is one. Other text stays a string, which is then rejected as the wrong type.
fn boolean(text: &str) -> Value {
    text.parse().map_or_else(|_| text.into(), Value::Bool)
}

fn well_known(descriptor: &MessageDescriptor, name: &str, element: &Element) -> Result<Value, Violation> {
    let bare = element.text.trim_matches(is_space);
    match name {
        "Any" => return any(descriptor, element),
        "Struct" => return dynamic_to_json(element, Some("object")),
        "ListValue" => return dynamic_to_json(element, Some("array")),
        "Value" => return dynamic_to_json(element, None),
        _ => {}
    }
    if !element.children.is_empty() || element.kind.is_some() {
        return Err(type_error("type.text", "must be a text"));
    }
    Ok(match name {
        "StringValue" => Value::String(element.text.clone()),
        "BoolValue" => boolean(bare),
        "Empty" if bare.is_empty() => empty_object(),
        _ => bare.into(),
    })
}

fn any(descriptor: &MessageDescriptor, element: &Element) -> Result<Value, Violation> {
    let url = element.kind.as_ref().ok_or_else(|| type_error("type.any", "must have the type of what it holds"))?;
    let inner = descriptor.parent_pool().get_message_by_name(url.rsplit('/').next().unwrap_or_default());
    let inner = inner.ok_or_else(|| type_error("type.any", "has a type that is not known"))?;
    let mut values = if well_known_name(inner.full_name()).is_some() {
        let [value] = element.children.as_slice() else { return Err(type_error("type.any", "must have one element `value`")) };
        check_name(value, "value")?;
        Map::from_iter([("value".to_owned(), message_to_json(&inner, value)?)])
    } else {
        match message_to_json(&inner, element)? {
            Value::Object(values) => values,
            _ => Map::new(),
        }
    };
    values.insert("@type".to_owned(), Value::String(url.clone()));
    Ok(Value::Object(values))
}

/// Converts an element to a JSON value of the type in its attribute, or else of type `kind`, or else to a string.
fn dynamic_to_json(element: &Element, kind: Option<&str>) -> Result<Value, Violation> {
    let kind = element.kind.as_deref().or(kind).unwrap_or("string");
    let bare = element.text.trim_matches(is_space);
    if !matches!(kind, "array" | "object") && !element.children.is_empty() {
        return Err(type_error("type.text", "must be a text"));
    }
    Ok(match kind {
        "string" => Value::String(element.text.clone()),
        "null" if bare.is_empty() => Value::Null,
        "boolean" => Value::Bool(bare.parse().map_err(|_| type_error("type.bool", "must be true or false"))?),
        "number" => {
            let number = bare.parse::<f64>().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| type_error("type.double", "must be a number"))?)
        }
        "array" if bare.is_empty() => {
            let items = element.children.iter().map(|item| check_name(item, ITEM).and_then(|()| dynamic_to_json(item, None)));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        "object" if bare.is_empty() => {
            let mut values = Map::new();
            for entry in &element.children {
                let key = entry.key.clone().ok_or_else(|| type_error("xml.key", "must have a key"))?;
                if values.insert(key, dynamic_to_json(entry, None)?).is_some() {
                    return Err(type_error("field.twice", "has one key twice"));
                }
            }
            Value::Object(values)
        }
        _ => return Err(type_error("xml.attribute", "has a type that is none")),
    })
}
