//! The body of a request: so many bytes, of a type that is read, and packed or not.

use std::io::Read;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::DynamicMessage;
use tonic::body::Body;

use super::{
    error::HttpError,
    format::Format,
    json, json_to_message,
    routes::{self, Binding},
    xml,
};
use access::{error::Violation, limits::MESSAGE_LIMIT};

/// The message that a request's body is a part of, or all of.
pub(super) async fn message(binding: &Binding, headers: &HeaderMap, body: Body) -> Result<DynamicMessage, HttpError> {
    let bytes = read(headers, body).await?;
    let empty = DynamicMessage::new(binding.input.clone());
    if bytes.is_empty() {
        return Ok(empty);
    }
    let format = Format::of_body(headers).ok_or_else(HttpError::media_type)?;
    let message = match &binding.body {
        routes::Body::Nothing => return Err(Violation::new("body", "body.none", "is not taken by this call: send none").into()),
        routes::Body::Everything => match format {
            Format::Json => json_to_message::message(&binding.input, json::parse(&bytes)?)?,
            Format::Xml => xml::message(&binding.input, &bytes)?,
        },
        routes::Body::Field(field) => {
            let value = match format {
                Format::Json => json::parse(&bytes).and_then(|value| json_to_message::whole(field, value)),
                Format::Xml => xml::body(field, &bytes),
            };
            let mut message = empty;
            message.set_field(field, value.map_err(|violation| in_field(field.name(), violation))?);
            message
        }
    };
    Ok(message)
}

/// What is wrong with the body as a whole is not wrong with one field.
fn in_field(name: &str, violation: Violation) -> Violation {
    if violation.field == "body" && violation.rule.starts_with(['j', 'x']) {
        violation
    } else {
        json_to_message::within(name, violation)
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, HttpError> {
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
        Some(b"gzip" | b"x-gzip") => unpack(&bytes),
        Some(_) => Err(HttpError::media_type()),
    }
}

/// No more than a message may have, however much the packed bytes would become.
fn unpack(packed: &[u8]) -> Result<Bytes, HttpError> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(packed).take(MESSAGE_LIMIT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|_| Violation::new("body", "body.gzip", "is not packed with gzip (RFC 1952)"))?;
    if bytes.len() > MESSAGE_LIMIT { Err(HttpError::too_large()) } else { Ok(bytes.into()) }
}
