//! Converts the responses of methods to HTTP: one message, or a stream of messages.

use access::Error;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::Value;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming, body::Body};

use crate::{
    conditions,
    error::{HttpError, status_message},
    format::{Format, Framing},
    json,
    routes::Binding,
    xml,
};

/// The root of an XML document that holds a stream.
const STREAM: &str = "stream";

/// Returns the response for one message.
pub(crate) fn unary(
    binding: &Binding,
    message: &DynamicMessage,
    request: &HeaderMap,
    format: Format,
    max_age: Option<u64>,
) -> Result<Response<Body>, HttpError> {
    let text = render(binding, message, format).map_err(|error| Status::from(Error::internal(error)))?;
    let etag = conditions::etag(message).or_else(|| max_age.map(|_| digest_of(&text)));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    headers.insert(header::CACHE_CONTROL, cache_control(max_age));
    if let Some(etag) = etag {
        let is_cached = conditions::is_cached(request, &etag);
        headers.insert(header::ETAG, etag);
        if is_cached && binding.is_read() {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
    }
    headers.insert(header::CONTENT_TYPE, format.content_type());
    *response.body_mut() = Body::new(Full::from(text));
    Ok(response)
}

/// Returns the body of a response: the message, or the field of it that the binding names.
pub(crate) fn render(binding: &Binding, message: &DynamicMessage, format: Format) -> Result<String, serde_json::Error> {
    match (&binding.response_body, format) {
        (None, Format::Json) => json::to_string(message),
        (None, Format::Xml) => xml::document(message),
        (Some(field), Format::Xml) => xml::field_document(message, field),
        (Some(field), Format::Json) => {
            let mut alone = DynamicMessage::new(message.descriptor());
            alone.set_field(field, message.get_field(field).into_owned());
            let mut value = json::to_value(&alone)?;
            Ok(value.get_mut(field.json_name()).map(Value::take).unwrap_or_default().to_string())
        }
    }
}

/// Returns the value of `Cache-Control`. A response without a maximum age may be private, so nothing may store it.
fn cache_control(max_age: Option<u64>) -> HeaderValue {
    let public = max_age.and_then(|seconds| HeaderValue::try_from(format!("public, max-age={seconds}")).ok());
    public.unwrap_or_else(|| HeaderValue::from_static("no-store"))
}

/// Returns the etag of a response whose message has none.
fn digest_of(text: &str) -> HeaderValue {
    let digest = digest(&SHA256, text.as_bytes());
    let text = BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]);
    HeaderValue::try_from(format!("\"{text}\"")).expect("base64 is a valid header value")
}

/// Returns the response for a stream, which sends each message as it arrives. The call ends when the client disconnects, because
/// the server then drops the response body.
pub(crate) fn stream(messages: Streaming<DynamicMessage>, framing: Framing) -> Response<Body> {
    let parts = messages.map(move |message| part(message, framing));
    let mut response = Response::new(match framing {
        Framing::Lines | Framing::Events => body(parts),
        Framing::Xml => {
            let open = tokio_stream::once(format!("{}<{STREAM}>", xml::declaration()));
            body(open.chain(parts).chain(tokio_stream::once(format!("</{STREAM}>"))))
        }
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, framing.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    // nginx would otherwise buffer the messages.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn body(parts: impl Stream<Item = String> + Send + 'static) -> Body {
    Body::new(StreamBody::new(parts.map(|part| Ok::<_, Status>(Frame::data(Bytes::from(part))))))
}

/// Returns the text of a message, or of the error that ends the stream. Lines have the envelope of grpc-gateway.
fn part(message: Result<DynamicMessage, Status>, framing: Framing) -> String {
    let text = message.and_then(|message| {
        let text = match framing {
            Framing::Lines | Framing::Events => json::to_string(&message),
            Framing::Xml => xml::message_element(&message),
        };
        text.map_err(|error| Error::internal(error).into())
    });
    match (text, framing) {
        (Ok(text), Framing::Lines) => format!("{{\"result\":{text}}}\n"),
        (Ok(text), Framing::Events) => format!("data: {text}\n\n"),
        (Ok(text), Framing::Xml) => text,
        (Err(status), _) => {
            let status = status_message(&status);
            let json = || json::to_string(&status).unwrap_or_default();
            match framing {
                Framing::Lines => format!("{{\"error\":{}}}\n", json()),
                Framing::Events => format!("event: error\ndata: {}\n\n", json()),
                Framing::Xml => xml::message_element(&status).unwrap_or_default(),
            }
        }
    }
}
