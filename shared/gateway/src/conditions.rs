//! Conditional requests (RFC 9110 section 13): `If-Match` becomes the etag of the request message, and a GET whose `If-None-Match`
//! names the current etag is answered with 304.

use access::error::Violation;
use http::{HeaderMap, HeaderValue, header};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::routes::{Binding, Body};

/// The field of a resource or a request that holds an etag.
const ETAG: &str = "etag";

/// Copies `If-Match` into the etag of the request or of the resource in it. Returns true if it did: a stale etag is then answered
/// with 412.
///
/// # Errors
///
/// Returns a violation of `header.etag` if the header is not one strong etag or differs from the etag in the body, and of
/// `header.unsupported` if the method takes no etag. Ignoring the header would perform a change that the client did not want.
pub(crate) fn apply_if_match(message: &mut DynamicMessage, binding: &Binding, headers: &HeaderMap) -> Result<bool, Violation> {
    let mut lines = headers.get_all(header::IF_MATCH).iter();
    let Some(line) = lines.next() else { return Ok(false) };
    let refuse = |rule: &'static str, description: &'static str| Violation::new("if-match", rule, description);
    let tag = line.to_str().map_err(|_| refuse("header.etag", "is no etag"))?.trim();
    if tag == "*" && lines.next().is_none() {
        // The method itself answers NOT_FOUND if the resource does not exist.
        return Ok(false);
    }
    if lines.next().is_some() || tag.contains(',') || !tag.starts_with('"') {
        return Err(refuse("header.etag", "must be one strong etag"));
    }
    let Some(field) = etag_field(&binding.input) else {
        // The request has no etag: the resource in its body may have one.
        let resource = match &binding.body {
            Body::Field(field) if !field.is_list() && !field.is_map() => field.clone(),
            _ => return Err(refuse("header.unsupported", "is not known to this call")),
        };
        let Kind::Message(inner) = resource.kind() else { return Err(refuse("header.unsupported", "is not known to this call")) };
        let field = etag_field(&inner).ok_or_else(|| refuse("header.unsupported", "is not known to this call"))?;
        let inner = message.get_field_mut(&resource).as_message_mut().expect("the resource is a message");
        return set_etag(inner, &field, tag);
    };
    set_etag(message, &field, tag)
}

fn set_etag(message: &mut DynamicMessage, field: &FieldDescriptor, tag: &str) -> Result<bool, Violation> {
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

/// Returns the etag of a resource.
pub(crate) fn etag(message: &DynamicMessage) -> Option<HeaderValue> {
    let etag = message.get_field_by_name(ETAG)?;
    etag.as_str().filter(|etag| !etag.is_empty()).and_then(|etag| HeaderValue::from_str(etag).ok())
}

/// Returns true if `If-None-Match` names the etag, so that the client already has this version.
pub(crate) fn is_cached(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
}
