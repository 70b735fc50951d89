//! Reads the body of a request: its size, its content type and its content encoding are checked, then it becomes a message.

use std::{error::Error as StdError, io, iter};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::DynamicMessage;
use tonic::{Status, body::Body};

use access::{FieldPath, error::Violation, limits::MESSAGE_LIMIT};

use crate::{
    error::HttpError,
    format::Format,
    json,
    json_to_message::{self, prefix_path},
    routes::{self, Binding},
    update_mask, xml,
};

/// Reads the body into a request message. Depending on the binding, the body is the message or one field of it. For a PATCH with an
/// update mask, also returns the fields of the resource that the body names.
pub(crate) async fn read_message(
    binding: &Binding,
    headers: &HeaderMap,
    body: Body,
) -> Result<(DynamicMessage, Vec<String>), HttpError> {
    let bytes = read_bytes(headers, body).await?;
    let empty = DynamicMessage::new(binding.input.clone());
    let mut named_fields = Vec::new();
    if bytes.is_empty() {
        return Ok((empty, named_fields));
    }
    let format = Format::from_content_type(headers).ok_or_else(HttpError::unsupported_media_type)?;
    let message = match &binding.body {
        routes::Body::Nothing => {
            return Err(Violation::new(FieldPath::Body, "body.none", "is not taken by this call: send none").into());
        }
        routes::Body::Everything => match format {
            Format::Json => json_to_message::parse_message(&binding.input, json::parse(&bytes)?)?,
            Format::Xml => xml::parse_message(&binding.input, &bytes)?,
        },
        routes::Body::Field(field) => {
            let value = match format {
                Format::Json => json::parse(&bytes).and_then(|value| {
                    if binding.update_mask.is_some() {
                        named_fields = update_mask::fields_of_json(field, &value);
                    }
                    json_to_message::parse_field(field, value)
                }),
                Format::Xml if binding.update_mask.is_some() => xml::parse_update(field, &bytes).map(|(value, fields)| {
                    named_fields = fields;
                    value
                }),
                Format::Xml => xml::parse_field(field, &bytes),
            };
            let mut message = empty;
            message.set_field(field, value.map_err(|violation| prefix_path(field.name(), violation))?);
            message
        }
    };
    Ok((message, named_fields))
}

/// Returns true if the headers announce a body that is larger than a message may be.
pub(crate) fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length > MESSAGE_LIMIT)
}

/// Returns the bytes of a body that is not larger than a message may be. A compressed body arrives decompressed: the server's layer
/// removes `Content-Encoding` and decompresses while the body is read, so that a small body cannot exhaust the memory.
async fn read_bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, HttpError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(HttpError::unsupported_media_type());
    }
    if is_too_large(headers) {
        return Err(HttpError::too_large());
    }
    let read = Limited::new(body, MESSAGE_LIMIT).collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| body_error(error.as_ref()))
}

/// Returns the error of a body that cannot be read: it is too large before or after decompression, it cannot be decompressed, or the
/// connection broke.
fn body_error(error: &(dyn StdError + 'static)) -> HttpError {
    let mut causes = iter::successors(Some(error), |cause: &&(dyn StdError + 'static)| (*cause).source());
    if causes.any(<dyn StdError>::is::<LengthLimitError>) {
        return HttpError::too_large();
    }
    // The decompression fails with an I/O error. That of a connection is inside an error of hyper.
    let cause = if error.is::<Status>() { error.source() } else { Some(error) };
    if cause.is_some_and(<dyn StdError>::is::<io::Error>) {
        Violation::new(FieldPath::Body, "body.gzip", "is not packed with gzip (RFC 1952)").into()
    } else {
        Violation::new(FieldPath::Body, "body.broken", "ended before its end").into()
    }
}
