//! Conditional requests (RFC 9110 section 13): `if-match` is the etag that a call expects, and what `if-none-match` names is
//! not sent again.

use http::{HeaderMap, HeaderValue, header};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::routes::{Binding, Body};
use access::error::Violation;

/// The field of resources, and of requests, that holds an etag.
const ETAG: &str = "etag";

/// Puts `if-match` into the request's etag. True where there is one: the call then fails with 412 where it is stale.
///
/// # Errors
///
/// A header that can't be obeyed is refused: to ignore it would be to do what was not wanted.
pub(super) fn if_match(message: &mut DynamicMessage, binding: &Binding, headers: &HeaderMap) -> Result<bool, Violation> {
    let mut lines = headers.get_all(header::IF_MATCH).iter();
    let Some(line) = lines.next() else { return Ok(false) };
    let refuse = |rule, description| Violation::new("if-match", rule, description);
    let tag = line.to_str().map_err(|_| refuse("header.etag", "is no etag"))?.trim();
    if tag == "*" && lines.next().is_none() {
        // What does not exist is NOT_FOUND anyway.
        return Ok(false);
    }
    if lines.next().is_some() || tag.contains(',') || !tag.starts_with('"') {
        return Err(refuse("header.etag", "must be one strong etag"));
    }
    let Some(field) = etag_field(&binding.input) else {
        // Of a resource that is written as a whole, the etag stands in it.
        let resource = match &binding.body {
            Body::Field(field) if !field.is_list() && !field.is_map() => field.clone(),
            _ => return Err(refuse("header.unsupported", "is not known to this call")),
        };
        let Kind::Message(inner) = resource.kind() else { return Err(refuse("header.unsupported", "is not known to this call")) };
        let field = etag_field(&inner).ok_or_else(|| refuse("header.unsupported", "is not known to this call"))?;
        let inner = message.get_field_mut(&resource).as_message_mut().expect("the resource is a message");
        return put(inner, &field, tag);
    };
    put(message, &field, tag)
}

fn put(message: &mut DynamicMessage, field: &FieldDescriptor, tag: &str) -> Result<bool, Violation> {
    let given = message.get_field(field).as_str().unwrap_or_default().to_owned();
    if !given.is_empty() && given != tag {
        return Err(Violation::new("if-match", "header.etag", "is another etag than that of the body"));
    }
    message.set_field(field, Value::String(tag.to_owned()));
    Ok(true)
}

fn etag_field(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    message.get_field_by_name(ETAG).filter(|field| field.kind() == Kind::String && !field.is_list())
}

/// The etag of a resource.
pub(super) fn etag(message: &DynamicMessage) -> Option<HeaderValue> {
    let etag = message.get_field_by_name(ETAG)?;
    etag.as_str().filter(|etag| !etag.is_empty()).and_then(|etag| HeaderValue::from_str(etag).ok())
}

/// True where the client has what the etag is of.
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}
