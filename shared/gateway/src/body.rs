//! Reads the body of a request: its size, its content type and its content encoding are checked, then it becomes a message.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::DynamicMessage;
use tonic::body::Body;

use access::{error::Violation, limits::MESSAGE_LIMIT};

use crate::{
    error::HttpError,
    format::Format,
    json,
    json_to_message::{self, prefix_path},
    routes::{self, Binding},
    xml,
};

/// Reads the body into a request message. Depending on the binding, the body is the message or one field of it.
pub(crate) async fn read_message(binding: &Binding, headers: &HeaderMap, body: Body) -> Result<DynamicMessage, HttpError> {
    let bytes = read_bytes(headers, body).await?;
    let empty = DynamicMessage::new(binding.input.clone());
    if bytes.is_empty() {
        return Ok(empty);
    }
    let format = Format::from_content_type(headers).ok_or_else(HttpError::unsupported_media_type)?;
    let message = match &binding.body {
        routes::Body::Nothing => return Err(Violation::new("body", "body.none", "is not taken by this call: send none").into()),
        routes::Body::Everything => match format {
            Format::Json => json_to_message::parse_message(&binding.input, json::parse(&bytes)?)?,
            Format::Xml => xml::parse_message(&binding.input, &bytes)?,
        },
        routes::Body::Field(field) => {
            let value = match format {
                Format::Json => json::parse(&bytes).and_then(|value| json_to_message::parse_field(field, value)),
                Format::Xml => xml::parse_field(field, &bytes),
            };
            let mut message = empty;
            message.set_field(field, value.map_err(|violation| in_field(field.name(), violation))?);
            message
        }
    };
    Ok(message)
}

/// Adds the field's name to the path of a violation. An error in the syntax is one of the whole body, and keeps its path.
fn in_field(name: &str, violation: Violation) -> Violation {
    if violation.field == "body" && violation.rule.starts_with(['j', 'x']) { violation } else { prefix_path(name, violation) }
}

/// Returns the decompressed bytes of a body that is not larger than a message may be.
async fn read_bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, HttpError> {
    if body.size_hint().lower() > MESSAGE_LIMIT as u64 {
        return Err(HttpError::too_large());
    }
    let read = Limited::new(body, MESSAGE_LIMIT).collect().await;
    let bytes = read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            HttpError::too_large()
        } else {
            Violation::new("body", "body.broken", "ended before its end").into()
        }
    })?;
    match headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes().to_ascii_lowercase()).as_deref() {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip" | b"x-gzip") => decompress(&bytes),
        Some(_) => Err(HttpError::unsupported_media_type()),
    }
}

/// Decompresses a body. It stops at the size limit of a message, so that a small body cannot exhaust the memory.
fn decompress(compressed: &[u8]) -> Result<Bytes, HttpError> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(compressed).take(MESSAGE_LIMIT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|_| Violation::new("body", "body.gzip", "is not packed with gzip (RFC 1952)"))?;
    if bytes.len() > MESSAGE_LIMIT { Err(HttpError::too_large()) } else { Ok(bytes.into()) }
}
