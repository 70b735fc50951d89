//! Sets request fields from the path and the query of a URL.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage};
use serde_json::Value;

use access::error::Violation;
use contract::Capture;

use crate::{
    json_to_message::{DATE, parse_value, prefix_path, type_error},
    routes::{Binding, Body},
};

/// Sets the fields that the path of the URL names. They replace the values from the body.
pub(crate) fn set_path(message: &mut DynamicMessage, binding: &Binding, segments: &[&str]) -> Result<(), Violation> {
    for capture in &binding.captures {
        let text = captured(capture, segments).map_err(|violation| prefix_path(&capture.field, violation))?;
        let steps: Vec<_> = capture.field.split('.').collect();
        set(message, &steps, &text).map_err(|violation| prefix_path(&capture.field, violation))?;
    }
    Ok(())
}

/// Returns the decoded value of one variable of the path.
fn captured(capture: &Capture, segments: &[&str]) -> Result<String, Violation> {
    let not_text = |_| type_error("type.string", "must be UTF-8");
    // `**` matches all remaining segments.
    let end = if capture.segments.end > segments.len() || capture.is_deep {
        segments.len().max(capture.segments.start)
    } else {
        capture.segments.end
    };
    let segments = &segments[capture.segments.start..end];
    if !capture.is_deep {
        return Ok(percent_decode_str(segments.first().copied().unwrap_or_default())
            .decode_utf8()
            .map_err(not_text)?
            .into_owned());
    }
    // An encoded slash stays encoded, so that it differs from a separator.
    let decode = |segment: &&str| {
        let kept = segment.replace("%2F", "%252F").replace("%2f", "%252F");
        percent_decode_str(&kept).decode_utf8().map(Cow::into_owned).map_err(not_text)
    };
    Ok(segments.iter().map(decode).collect::<Result<Vec<_>, _>>()?.join("/"))
}

/// Sets the fields that the query of the URL names.
///
/// # Errors
///
/// Returns a violation that names the parameter and the rule: `query.unknown`, `query.bound` for a field that belongs to the path or
/// the body, `query.twice`, or the rule of the field's type.
pub(crate) fn set_query(message: &mut DynamicMessage, binding: &Binding, query: &str) -> Result<(), Violation> {
    let mut seen: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, text) = (decode(key)?, decode(text).map_err(|violation| prefix_path(key, violation))?);
        let (path, found) = resolve(&binding.input, &key).ok_or_else(|| {
            Violation::new(key.clone(), "query.unknown", format!("{} has no such field", binding.input.full_name()))
        })?;
        let refuse = |rule: &'static str, description: &'static str| Violation::new(path.clone(), rule, description);
        let is_in = |outer: &str| path == outer || path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        let in_body = match &binding.body {
            Body::Nothing => false,
            Body::Everything => true,
            Body::Field(field) => is_in(field.name()),
        };
        if in_body || binding.captures.iter().any(|capture| is_in(&capture.field)) {
            return Err(refuse("query.bound", "belongs into the path or the body"));
        }
        if found.is_map() {
            return Err(refuse("query.map", "is a map, which a query can't hold"));
        }
        if !found.is_list() {
            if seen.contains(&path) {
                return Err(refuse("query.twice", "is there twice"));
            }
            seen.push(path.clone());
        }
        let steps: Vec<_> = path.split('.').collect();
        set(message, &steps, &text).map_err(|violation| prefix_path(&path, violation))?;
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, Violation> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8().map_err(|_| type_error("type.string", "must be UTF-8"))?;
    Ok(text.into_owned())
}

/// Returns the field that `key` names, and its path by the names of the proto. Each part of `key` may be a proto or a JSON name.
fn resolve(descriptor: &MessageDescriptor, key: &str) -> Option<(String, FieldDescriptor)> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let found = descriptor.get_field_by_name(first).or_else(|| descriptor.get_field_by_json_name(first))?;
    match (rest, found.kind()) {
        (None, _) => Some((found.name().to_owned(), found)),
        (Some(rest), Kind::Message(inner)) if !found.is_list() && !found.is_map() => {
            let (path, inner) = resolve(&inner, rest)?;
            Some((format!("{}.{path}", found.name()), inner))
        }
        _ => None,
    }
}

/// Sets the field at the end of `steps`. A repeated field gets one more item.
fn set(message: &mut DynamicMessage, steps: &[&str], text: &str) -> Result<(), Violation> {
    let Some((first, rest)) = steps.split_first() else { return Ok(()) };
    let field = message.descriptor().get_field_by_name(first).expect("the path was resolved");
    let is_other = |other: &FieldDescriptor| *other != field && message.has_field(other);
    if field.containing_oneof().is_some_and(|oneof| oneof.fields().any(|other| is_other(&other))) {
        return Err(type_error("field.oneof", "excludes another field that is there too"));
    }
    if !rest.is_empty() {
        let inner = message.get_field_mut(&field).as_message_mut().expect("the path leads through messages");
        return set(inner, rest, text);
    }
    let value = parse_value(&field.kind(), leaf(&field.kind(), text)?)?;
    if field.is_list() {
        message.get_field_mut(&field).as_list_mut().expect("a repeated field is a list").push(value);
    } else {
        message.set_field(&field, value);
    }
    Ok(())
}

/// Converts the text of a parameter to the JSON value of this kind.
fn leaf(kind: &Kind, text: &str) -> Result<Value, Violation> {
    let string = || Value::String(text.to_owned());
    let boolean = || text.parse().map_or_else(|_| string(), Value::Bool);
    Ok(match kind {
        Kind::Bool => boolean(),
        Kind::Enum(_) => text.parse::<i32>().map_or_else(|_| string(), Value::from),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.BoolValue" => boolean(),
            DATE
            | "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "google.protobuf.FieldMask"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value" => string(),
            _ => return Err(type_error("query.message", "is a message: name a field of it")),
        },
        _ => string(),
    })
}
